"""FP16, INT8 and log-mel bundles: their graphs are clean, and their types are what they say."""

import json
import math
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, numpy_helper
from safetensors.numpy import load_file, save_file

from demo.bundle_choice import FROM_SCRATCH
from export.dft_factors import factor_basis
from export.graph import OPSET, write_graph
from export.onnx import main
from serving.backends.onnxruntime import OnnxRuntime
from serving.bundle.bundle import open_bundle
from serving.bundle.bundle_files import PRECISIONS
from serving.bundle.onnx_check import OPERATORS
from serving.errors import UsageError
from serving.probes import probe_windows

# No complex operators, no batch norm left, and nothing that computes shapes or paddings.
UNWANTED = {"STFT", "DFT", "BatchNormalization", "Shape", "Gather", "Pad", "Range", "ConstantOfShape", "If", "Loop"}
FILES = [*PRECISIONS.values(), "frontend.onnx"]


def constants(model: onnx.ModelProto) -> dict[str, np.ndarray]:
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}


def element_types(model: onnx.ModelProto) -> dict[str, int]:
    """The type of every tensor, as shape inference wrote it into the file."""
    graph = model.graph
    types = {value.name: value.type.tensor_type.elem_type for value in (*graph.input, *graph.value_info, *graph.output)}
    return types | {tensor.name: tensor.data_type for tensor in graph.initializer}


@pytest.mark.parametrize("name", FILES)
def test_the_graph_is_clean_and_folded(precise_bundle, name):
    model = onnx.load(precise_bundle / name)
    onnx.checker.check_model(model, full_check=True)
    onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True, data_prop=True)
    assert not {node.op_type for node in model.graph.node} & UNWANTED
    assert [entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")] == [OPSET]


@pytest.mark.parametrize("name", FILES)
def test_the_file_tells_nothing_of_the_machine_it_was_made_on(precise_bundle, name):
    assert str(Path(onnx.__file__).parents[1]).encode() not in (precise_bundle / name).read_bytes()
    assert str(Path(__file__).parents[2]).encode() not in (precise_bundle / name).read_bytes()


@pytest.mark.parametrize("precision", PRECISIONS)
def test_only_the_batch_is_dynamic_and_the_ends_are_float32(precise_bundle, precision):
    session = onnxruntime.InferenceSession(precise_bundle / PRECISIONS[precision], providers=["CPUExecutionProvider"])
    (source,), (target,) = session.get_inputs(), session.get_outputs()
    assert (source.name, source.shape, source.type) == ("waveform", ["batch", 77_040], "tensor(float)")
    assert (target.name, target.shape, target.type) == ("embedding", ["batch", 128], "tensor(float)")


@pytest.mark.parametrize("precision", PRECISIONS)
def test_the_file_says_what_it_is(precise_bundle, precision):
    facts = {entry.key: entry.value for entry in onnx.load(precise_bundle / PRECISIONS[precision]).metadata_props}
    manifest = open_bundle(precise_bundle).manifest
    assert facts["embedding_space"] == manifest.embedding_space
    assert (facts["rate_hz"], facts["window_samples"]) == ("16000", "77040")
    assert (facts["precision"], facts["opset"], facts["license"]) == (precision, str(OPSET), manifest.license)


def test_the_manifest_names_the_models_and_each_opens(precise_bundle):
    bundle = open_bundle(precise_bundle)
    assert bundle.manifest.models == PRECISIONS
    assert bundle.manifest.input == "waveform"
    assert {bundle.model(precision).name for precision in PRECISIONS} == set(PRECISIONS.values())


def test_fp16_has_half_the_weights_bits_and_casts_around_the_network(precise_bundle):
    model = onnx.load(precise_bundle / "embedder.fp16.onnx")
    weights = {name: value.dtype for name, value in constants(model).items() if value.dtype.kind == "f"}
    assert all(dtype == np.float16 for name, dtype in weights.items() if name.startswith(("features.", "embedding.")))
    assert {dtype for name, dtype in weights.items() if name.startswith("log_mel.")} == {np.dtype(np.float32)}
    types = element_types(model)
    for node in model.graph.node:
        first, last = types[node.input[0]], types[node.output[0]]
        if node.op_type in ("Log", "Sqrt", "ReduceMean"):  # the front end, and the pooling
            assert (first, last) == (TensorProto.FLOAT, TensorProto.FLOAT)
        elif node.op_type in ("Conv", "Gemm", "Relu"):
            assert (first, last) == (TensorProto.FLOAT16, TensorProto.FLOAT16)
    # Into FP16, out of it and back for the pooling, and out of it at the end.
    assert sum(node.op_type == "Cast" for node in model.graph.node) == 4


def test_int8_is_symmetric_per_channel_and_leaves_biases_and_front_end_alone(precise_bundle):
    model = onnx.load(precise_bundle / "embedder.int8.onnx")
    values = constants(model)
    kinds = Counter(node.op_type for node in model.graph.node)
    kept = open_bundle(precise_bundle).manifest.fp32_layers
    layers = {name.removesuffix("_quantized") for name in values if name.endswith("weight_quantized")}
    assert kinds["QuantizeLinear"] == len(layers)  # one at the input of each layer; weights are stored quantised
    assert kinds["DequantizeLinear"] == 2 * len(layers)
    assert len(layers) + len(kept) == 14
    assert not layers & {f"{layer}.weight" for layer in kept}
    for layer in kept:
        assert values[f"{layer}.weight"].dtype == np.float32
    for layer in layers:
        channels = len(values[f"{layer}_quantized"])
        assert values[f"{layer}_quantized"].dtype == np.int8
        assert values[f"{layer}_scale"].shape == (channels,)
    assert not any(value.any() for name, value in values.items() if name.endswith("zero_point"))
    assert all(value.dtype == np.float32 for name, value in values.items() if name.endswith(".bias"))
    assert values["log_mel.mel"].dtype == np.float32


def test_int8_weights_cannot_overflow_16_bits_in_pairs_of_products(precise_bundle):
    """CPUs without VNNI add two products of an unsigned activation, up to 255, and a weight into 16 bits."""
    weights = [
        value.astype(int)
        for folder in (precise_bundle, FROM_SCRATCH)
        for name, value in constants(onnx.load(folder / "embedder.int8.onnx")).items()
        if name.endswith("weight_quantized")
    ]
    assert len(weights) > 14
    for value in weights:
        assert 2 * 255 * np.abs(value).max() <= np.iinfo(np.int16).max
        assert np.abs(value).max() == 64  # and no bit is wasted


def test_int8_takes_at_most_three_tenths_of_fp32(precise_bundle):
    sizes = {name: (precise_bundle / file).stat().st_size for name, file in PRECISIONS.items()}
    assert sizes["int8"] <= 0.3 * sizes["fp32"]
    assert sizes["fp16"] <= 0.75 * sizes["fp32"]  # the front end's constants stay in FP32


def test_the_record_tells_which_layers_int8_hurt(precise_bundle):
    manifest = open_bundle(precise_bundle).manifest
    record = json.loads((precise_bundle / "parity.json").read_text())["int8"]
    assert record["fp32_layers"] == manifest.fp32_layers
    if record["fp32_layers"]:  # what loses most for the bytes it saves comes first
        weights = {tensor.name: tensor for tensor in onnx.load(precise_bundle / "embedder.onnx").graph.initializer}
        lost = {
            name: (1 - cosine) / math.prod(weights[f"{name}.weight"].dims)
            for name, cosine in record["alone_in_int8"].items()
        }
        assert record["fp32_layers"] == sorted(lost, key=lost.get, reverse=True)[: len(manifest.fp32_layers)]


def test_the_factored_basis_gives_the_front_end_of_the_stored_one(bundle_folder, tmp_path):
    model = onnx.load(bundle_folder / "frontend.onnx")
    # In the front end's own file the constants have no prefix.
    constants = {tensor.name: f"log_mel.{tensor.name}" for tensor in model.graph.initializer}
    for tensor in model.graph.initializer:
        tensor.name = constants[tensor.name]
    for node in model.graph.node:
        node.input[:] = [constants.get(name, name) for name in node.input]
    factor_basis(model)
    onnx.save(model, tmp_path / "factored.onnx")
    assert (tmp_path / "factored.onnx").stat().st_size < 0.3 * (bundle_folder / "frontend.onnx").stat().st_size
    _, windows = probe_windows(open_bundle(bundle_folder).manifest.window)
    stored, factored = (
        OnnxRuntime(path, 1, ["cpu"])(windows) for path in (bundle_folder / "frontend.onnx", tmp_path / "factored.onnx")
    )
    np.testing.assert_allclose(factored, stored, atol=1e-3)  # full-scale tones leave bins nearly empty
    assert np.abs(factored - stored).mean() < 5e-5  # 1.9e-5 was measured, from nearly empty bins again


def test_weights_above_the_limit_are_refused(bundle_folder, tmp_path, monkeypatch):
    """Nothing opens a bundle with weights in a file of their own."""
    monkeypatch.setattr("export.graph.MOST_BYTES", 1_000_000)
    with pytest.raises(UsageError, match=r"embedder\.onnx: has \d+ bytes of weights; wanted at most 1000000"):
        write_graph(onnx.load(bundle_folder / "embedder.onnx"), tmp_path / "embedder.onnx", {})
    assert list(tmp_path.iterdir()) == []


def test_a_bundle_that_serving_would_refuse_is_not_written(run_folder, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("serving.bundle.onnx_check.OPERATORS", OPERATORS - {"Relu"})
    assert main([str(run_folder), "--out", str(tmp_path / "out"), "--no-text-model"]) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert line.startswith(f"error: serving would refuse the bundle ({tmp_path / 'out' / 'embedder.onnx'}: has the ")
    assert "'Relu'" in line
    assert line.endswith("; nothing was written")
    assert list(tmp_path.iterdir()) == []


def test_hidden_numbers_that_fp16_does_not_hold_are_refused_and_their_layer_is_named(run_folder, tmp_path, capsys):
    """A layer times 2^20, and the next layer's weights divided by it: the embeddings are the same in FP32."""
    run = Path(shutil.copytree(run_folder, tmp_path / "run"))
    weights = load_file(run / "weights.safetensors")
    for name in ("weight", "bias"):
        weights[f"features.0.2.{name}"] *= 2**20
    weights["features.1.1.weight"] /= 2**20
    save_file(weights, run / "weights.safetensors")
    arguments = [str(run), "--out", str(tmp_path / "out"), "--no-text-model", "--precision"]
    assert main([*arguments, "fp32,fp16"]) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert line.startswith("error: --precision fp16: features.0")
    assert "wanted at most 32752" in line
    assert not (tmp_path / "out").exists()


def test_a_log_mel_bundle_takes_what_its_front_end_gives(log_mel_bundle, precise_bundle):
    bundle = open_bundle(log_mel_bundle)
    assert bundle.manifest.input == "log_mel"
    assert bundle.manifest.embedding_space == open_bundle(precise_bundle).manifest.embedding_space
    session = onnxruntime.InferenceSession(bundle.model("int8"), providers=["CPUExecutionProvider"])
    assert (session.get_inputs()[0].name, session.get_inputs()[0].shape) == ("log_mel", ["batch", 480, 64])
    _, windows = probe_windows(bundle.manifest.window)
    log_mel = OnnxRuntime(bundle.path("frontend.onnx"), 1, ["cpu"])(windows)
    chained = OnnxRuntime(bundle.model("fp32"), 1, ["cpu"])(log_mel)
    whole = OnnxRuntime(precise_bundle / "embedder.onnx", 1, ["cpu"])(windows)
    np.testing.assert_allclose(chained, whole, atol=1e-5)
    assert bundle.model("int8").stat().st_size <= 0.3 * bundle.model("fp32").stat().st_size


def test_an_unknown_input_is_refused(run_folder, tmp_path):
    with pytest.raises(SystemExit) as stop:
        main([str(run_folder), "--out", str(tmp_path / "out"), "--input", "mfcc"])
    assert stop.value.code == 2
