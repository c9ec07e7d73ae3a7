"""Google's own files of YAMNet start our networks as they start Google's: the same numbers, row by row."""

import copy
from pathlib import Path

import numpy as np
import pytest
import torch

from serving.audio import read_audio, to_mono
from serving.errors import UsageError
from serving.log_mel import LogMelConfig
from serving.probes import probe_windows
from tests.published_yamnet import published_yamnet, write_keras, write_tflite
from training.log_mel_module import LogMel
from training.networks import NetworkConfig, build_network
from training.published.batchnorm_statistics import measure_statistics
from training.published.google_yamnet import read_tflite
from training.published.pretrained import YAMNET_LOG_OFFSET, load_pretrained
from training.published.weight_files import read_weights

DEPTH = {"yamnet": 12, "yamnet-compact": 7}
WRITERS = {".h5": write_keras, ".tflite": write_tflite}
WINDOW = LogMelConfig().network_window(96)


def features(name: str, path: Path, log_mel: torch.Tensor) -> np.ndarray:
    """[batch, frames, 64] -> what the network gives after the layers that it took from the file: [batch, 512]."""
    network = build_network(NetworkConfig(name, 7, 0.2)).eval()
    load_pretrained(network, path)
    with torch.inference_mode():
        return network.features(log_mel.unsqueeze(1)).numpy()


@pytest.mark.parametrize("suffix", list(WRITERS))
@pytest.mark.parametrize("name", list(DEPTH))
def test_features_equal_the_published_network_at_the_same_depth(name, suffix, tmp_path):
    module = published_yamnet(seed=3, scaled=False)
    path = WRITERS[suffix](module, tmp_path / f"yamnet{suffix}")
    log_mel = torch.randn(3, 480, 64)
    with torch.inference_mode():
        wanted = module.pooled(log_mel, DEPTH[name]).numpy()
    assert wanted.std(axis=0).mean() > 1e-3  # the inputs can be told apart
    # FP32 sums of up to 4608 products in another order: 1e-6 was seen, of numbers around 1.
    np.testing.assert_allclose(features(name, path, log_mel), wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("suffix", list(WRITERS))
def test_the_report_names_the_file_and_what_was_left_out(suffix, tmp_path):
    path = WRITERS[suffix](published_yamnet(seed=4, scaled=False), tmp_path / f"yamnet{suffix}")
    report = load_pretrained(build_network(NetworkConfig("yamnet", 7, 0.2)), path)
    assert report.line().startswith(f"115 tensors of Google's yamnet{suffix} loaded; 22 skipped (layer13, layer14, cl")
    assert report.statistics == (suffix == ".h5")


@pytest.mark.parametrize("suffix", list(WRITERS))
def test_all_fourteen_layers_and_the_classifier_are_read(suffix, tmp_path):
    module = published_yamnet(seed=5, scaled=False)
    stored = read_weights(WRITERS[suffix](module, tmp_path / f"yamnet{suffix}"))
    wanted = {name for name in module.state_dict() if not name.endswith("num_batches_tracked")}
    assert set(stored) == wanted
    torch.testing.assert_close(stored["classifier.weight"], module.classifier.weight.detach())
    torch.testing.assert_close(stored["classifier.bias"], module.classifier.bias.detach())


@pytest.mark.parametrize("suffix", list(WRITERS))
def test_what_is_no_such_file_is_one_line(suffix, tmp_path, capfd):
    whole = WRITERS[suffix](published_yamnet(seed=6, scaled=False), tmp_path / f"whole{suffix}").read_bytes()
    begin = whole[:8]
    broken = {
        "empty": b"",
        "text": b"<!DOCTYPE html>\n" * 40,
        "zeros": bytes(4096),
        "beginning": begin,
        "noise": begin + bytes(range(256)) * 40,
        "cut": whole[: len(whole) // 2],
    }
    for name, content in broken.items():
        path = tmp_path / f"{name}{suffix}"
        path.write_bytes(content)
        network = build_network(NetworkConfig("yamnet-compact", 7, 0.2))
        with pytest.raises(UsageError) as caught:
            load_pretrained(network, path)
        assert str(caught.value).startswith(str(path))
        assert "\n" not in str(caught.value)
    assert capfd.readouterr().err == ""


def test_an_h5_file_of_another_network_is_refused(tmp_path):
    import h5py

    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["conv1/conv1/kernel:0"] = np.zeros((3, 3, 1, 8), np.float32)
    with pytest.raises(UsageError, match="no layer that is named as one of YAMNet's"):
        load_pretrained(build_network(NetworkConfig("yamnet", 7, 0.2)), tmp_path / "other.h5")


class GoogleModel:
    """Google's interpreter on the published file: a wave of 0.96 s -> its log-mel, and its pooled maps.

    exact  its INT8 weights are made numbers before, as the network takes them. Else the interpreter multiplies in
           INT8, and rounds each layer's input to 8 bits for that.
    """

    def __init__(self, path: Path, exact: bool):
        interpreter = pytest.importorskip("ai_edge_litert.interpreter", reason="no ai-edge-litert: pip install it")
        content = with_numbers(path) if exact else path.read_bytes()
        self._run = interpreter.Interpreter(model_content=content, experimental_preserve_all_tensors=True)
        self._run.allocate_tensors()
        relus = [t for t in self._run.get_tensor_details() if "pointwise_conv/relu" in t["name"]]
        self._maps = {int(t["name"].split("layer")[1].split("/")[0]): t["index"] for t in relus}

    def __call__(self, wave: np.ndarray) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        self._run.set_tensor(self._run.get_input_details()[0]["index"], wave[None])
        self._run.invoke()
        log_mel = self._run.get_tensor(self._run.get_output_details()[1]["index"])  # [96, 64]
        maps = {name: self._run.get_tensor(self._maps[depth])[0] for name, depth in DEPTH.items()}
        return log_mel, {name: each.mean(axis=(0, 1)) for name, each in maps.items()}  # [512] each


def with_numbers(path: Path) -> bytes:
    """The model with its convolutions' INT8 weights replaced by the numbers that they stand for."""
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(path.read_bytes(), 0))
    graph = model.subgraphs[0]
    for tensor in graph.tensors:
        if tensor.type == schema.TensorType.INT8:
            along = [1] * len(tensor.shape)
            along[tensor.quantization.quantizedDimension] = -1
            whole = np.asarray(model.buffers[tensor.buffer].data, np.uint8).view(np.int8).reshape(tensor.shape)
            numbers = whole * np.float32(tensor.quantization.scale).reshape(along)
            buffer = schema.BufferT()
            buffer.data = np.frombuffer(numbers.astype(np.float32).tobytes(), np.uint8)
            model.buffers.append(buffer)
            tensor.buffer, tensor.type, tensor.quantization = len(model.buffers) - 1, schema.TensorType.FLOAT32, None
    kinds = [max(code.builtinCode, code.deprecatedBuiltinCode) for code in model.operatorCodes]
    is_cast = [kinds[op.opcodeIndex] == schema.BuiltinOperator.DEQUANTIZE for op in graph.operators]
    casts = {op.outputs[0]: op.inputs[0] for op, cast in zip(graph.operators, is_cast, strict=True) if cast}
    graph.operators = [op for op, cast in zip(graph.operators, is_cast, strict=True) if not cast]
    for op in graph.operators:
        op.inputs = [casts.get(place, place) for place in op.inputs]
    builder = flatbuffers.Builder(1 << 24)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


@pytest.fixture(scope="module")
def real_waves(esc10) -> np.ndarray:
    """The first 0.96 s of every twentieth recording: [n, 15 600]."""
    waves = [to_mono(*read_audio(path), 16_000)[: WINDOW.samples] for path in sorted((esc10 / "audio").iterdir())[::20]]
    return np.stack([np.pad(wave, (0, WINDOW.samples - len(wave))) for wave in waves]).astype(np.float32)


@pytest.mark.filterwarnings("ignore:.*experimental_preserve_all_tensors")
@pytest.mark.parametrize("name", list(DEPTH))
@pytest.mark.parametrize(
    ("exact", "cosine", "largest"),
    [
        (True, 0.9999999, 2e-5),  # FP32 sums in another order: 3.4e-6 of a row's largest number was seen
        # What 8 bits for each layer's input cost the interpreter: cosine 0.999994 and 1 % of a row's largest number
        # were seen with XNNPACK, 0.9996 and 5 % with TFLite's own kernels, which a CPU may get instead.
        (False, 0.999, 0.1),
    ],
)
def test_the_kept_layers_give_what_googles_interpreter_gives(name, exact, cosine, largest, yamnet_tflite, real_waves):
    google = GoogleModel(yamnet_tflite, exact)
    log_mels, pooled = zip(*(google(wave) for wave in real_waves), strict=True)
    wanted = np.stack([row[name] for row in pooled]).astype(np.float64)
    got = features(name, yamnet_tflite, torch.from_numpy(np.stack(log_mels))).astype(np.float64)
    cosines = (got * wanted).sum(axis=1) / np.linalg.norm(got, axis=1) / np.linalg.norm(wanted, axis=1)
    assert cosines.min() > cosine
    assert (np.abs(got - wanted).max(axis=1) / wanted.max(axis=1)).max() < largest
    assert wanted.std(axis=0).mean() > 1e-3  # the rows can be told apart


@pytest.mark.filterwarnings("ignore:.*experimental_preserve_all_tensors")
def test_googles_model_hears_through_our_front_end_with_its_log_offset(yamnet_tflite, real_waves):
    google = GoogleModel(yamnet_tflite, exact=False)
    silence, _ = google(np.zeros(WINDOW.samples, np.float32))
    np.testing.assert_allclose(silence, np.log(0.001), rtol=1e-6)
    wanted = np.stack([google(wave)[0] for wave in real_waves])
    medians = {}
    for offset in (YAMNET_LOG_OFFSET, 0.01):
        with torch.inference_mode():
            ours = LogMel(LogMelConfig(log_offset=offset))(torch.from_numpy(real_waves)).numpy()
        medians[offset] = np.median(np.abs(ours - wanted))
    # The model's DFT and mel filters are in INT8, so that bands that are nearly empty differ by up to 2. Medians of
    # 0.0086 and 0.080 were seen.
    assert medians[YAMNET_LOG_OFFSET] < 0.02 < 0.05 < medians[0.01]


def test_the_published_tflite_file_has_all_of_yamnet(yamnet_tflite):
    tensors = read_tflite(yamnet_tflite)
    assert len(tensors) == 5 * 27 + 2
    assert tensors["classifier.weight"].shape == (521, 1024)
    assert all(value.dtype == torch.float32 and value.isfinite().all() for value in tensors.values())


def test_weights_with_folded_batch_norm_train_on_from_what_they_were(tmp_path):
    """Train mode normalises by the batch: with measured statistics it gives nearly what eval mode gives."""
    path = write_tflite(published_yamnet(seed=11, scaled=False), tmp_path / "yamnet.tflite")
    network = build_network(NetworkConfig("yamnet-compact", 7, 0.2)).eval()
    load_pretrained(network, path)
    torch.manual_seed(0)
    shown, others = torch.randn(2, 16, 1, 480, 64)
    with torch.inference_mode():
        before = network.features(others)
        measure_statistics(network.features, shown)
        after = network.features(others)
        in_training = copy.deepcopy(network).train().features(others)
    torch.testing.assert_close(after, before, rtol=1e-5, atol=1e-5)
    # On 32 real windows and 32 others a mean cosine of 0.68 became 0.99.
    assert torch.cosine_similarity(in_training, before).min() > 0.99


def test_a_file_with_folded_batch_norm_gives_the_same_whatever_the_network_was_before(tmp_path):
    path = write_tflite(published_yamnet(seed=7, scaled=False), tmp_path / "yamnet.tflite")
    _, windows = probe_windows(WINDOW)
    with torch.inference_mode():
        log_mel = LogMel(LogMelConfig(log_offset=YAMNET_LOG_OFFSET))(torch.from_numpy(windows))
        network = build_network(NetworkConfig("yamnet-compact", 7, 0.2))
        network.train().features(log_mel.unsqueeze(1))  # moves the running statistics
        load_pretrained(network.eval(), path)
        moved = network.features(log_mel.unsqueeze(1)).numpy()
    np.testing.assert_array_equal(moved, features("yamnet-compact", path, log_mel))
