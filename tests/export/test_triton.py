"""The Triton model folder holds what Triton's schema and the model's file say, and its README works."""

import dataclasses
import json
import re
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnxruntime
import pytest
import soundfile
import tritonclient.http
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2 as schema

from export.triton import main
from serving.audio import cut_windows
from serving.backends.engine_profiles import Profile
from serving.backends.engine_sidecar import EngineTensor, Sidecar, this_platform, write_sidecar
from serving.backends.onnxruntime import OnnxRuntime
from serving.bundle.bundle import open_bundle
from serving.files.file_record import record_of
from tests.small_bundle import tiny_graph, write_small_bundle


def one_line(capsys, code: int, *parts: str) -> None:
    captured = capsys.readouterr()
    lines = [line for line in captured.err.splitlines() if line.startswith("error: ")]
    assert (code, len(lines), captured.out) == (2, 1, "")
    for part in parts:
        assert part in lines[0]


def read_config(folder: Path) -> schema.ModelConfig:
    """As Triton reads it: an unknown field or a wrong type is an error."""
    return text_format.Parse((folder / "config.pbtxt").read_text(), schema.ModelConfig())


@pytest.fixture(scope="module")
def bundle_folder(tmp_path_factory) -> Path:
    """A bundle with a tiny model, in place of the session's trained one."""
    folder = tmp_path_factory.mktemp("bundle") / "tiny"
    write_small_bundle(folder, {"fp32": tiny_graph().SerializeToString()})
    return folder


@pytest.fixture(scope="module")
def repository(bundle_folder, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("triton") / "models"
    assert main([str(bundle_folder), "--out", str(out), "--name", "sounds", "--instances", "2"]) == 0
    return out


def test_the_repository_is_laid_out_as_triton_wants_it(repository, bundle_folder):
    files = {str(path.relative_to(repository)) for path in repository.rglob("*") if path.is_file()}
    assert files == {"sounds/config.pbtxt", "sounds/README.md", "sounds/1/model.onnx"}
    assert (repository / "sounds/1/model.onnx").read_bytes() == (bundle_folder / "embedder.onnx").read_bytes()


def test_the_configuration_is_the_models_own(repository):
    config = read_config(repository / "sounds")
    session = onnxruntime.InferenceSession(repository / "sounds/1/model.onnx", providers=["CPUExecutionProvider"])
    assert (config.name, config.backend, config.max_batch_size) == ("sounds", "onnxruntime", 64)
    for declared, real in ((config.input, session.get_inputs()), (config.output, session.get_outputs())):
        assert [(tensor.name, list(tensor.dims)) for tensor in declared] == [(real[0].name, real[0].shape[1:])]
        assert declared[0].data_type == schema.TYPE_FP32
    assert config.dynamic_batching.max_queue_delay_microseconds == 2000
    [group] = config.instance_group
    assert (group.count, group.kind) == (2, schema.ModelInstanceGroup.KIND_AUTO)
    [accelerator] = config.optimization.execution_accelerators.gpu_execution_accelerator
    assert (accelerator.name, accelerator.parameters["use_tf32"]) == ("cuda", "0")


def test_it_warms_up_with_one_window_and_with_the_largest_batch(repository):
    config = read_config(repository / "sounds")
    assert [warmup.batch_size for warmup in config.model_warmup] == [1, 64]
    for warmup in config.model_warmup:
        [(name, data)] = warmup.inputs.items()
        assert (name, list(data.dims), data.zero_data) == ("waveform", [77_040], True)


@pytest.mark.parametrize(("device", "kind"), [("gpu", "KIND_GPU"), ("cpu", "KIND_CPU"), ("auto", "KIND_AUTO")])
def test_the_flags_reach_the_configuration(bundle_folder, tmp_path, device, kind, capsys):
    arguments = f"--out {tmp_path} --name a --device {device} --max-batch 3 --max-queue-delay-us 70 --instances 4"
    assert main([str(bundle_folder), *arguments.split()]) == 0
    config = read_config(tmp_path / "a")
    assert config.max_batch_size == 3
    assert config.dynamic_batching.max_queue_delay_microseconds == 70
    assert schema.ModelInstanceGroup.Kind.Name(config.instance_group[0].kind) == kind
    assert config.instance_group[0].count == 4
    report = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (report["name"], report["max_batch"], report["bytes"]) == (
        "a",
        3,
        (bundle_folder / "embedder.onnx").stat().st_size,
    )


def triton_of(repository: Path) -> SimpleNamespace:
    """tritonclient.http with a server that reads the repository: it refuses what Triton would refuse."""

    class InferInput:
        def __init__(self, name, shape, datatype):
            self.name, self.shape, self.datatype = name, tuple(shape), datatype

        def set_data_from_numpy(self, values):
            assert values.shape == self.shape
            assert (self.datatype, values.dtype) == ("FP32", np.float32)
            self.values = values

    class InferenceServerClient:
        def __init__(self, url):
            assert url == "127.0.0.1:8000"

        def infer(self, name, requests):
            config = read_config(repository / name)
            [request], [source], [target] = requests, config.input, config.output
            assert (request.name, list(request.shape[1:])) == (source.name, list(source.dims))
            assert len(request.values) <= config.max_batch_size
            session = onnxruntime.InferenceSession(
                repository / name / "1/model.onnx", providers=["CPUExecutionProvider"]
            )
            [rows] = session.run([target.name], {source.name: request.values})
            assert list(rows.shape[1:]) == list(target.dims)
            return SimpleNamespace(as_numpy={target.name: rows}.get)

    return SimpleNamespace(InferInput=InferInput, InferenceServerClient=InferenceServerClient)


def test_the_readmes_client_gives_the_embedding_that_the_bundle_gives(bundle_folder, tmp_path, monkeypatch):
    repository = tmp_path / "models"
    assert main([str(bundle_folder), "--out", str(repository), "--name", "sounds", "--max-batch", "2"]) == 0
    ramp = np.linspace(-0.9, 0.9, 14 * 16_000)  # a sound whose means differ from part to part
    soundfile.write(tmp_path / "recording.wav", ramp, 16_000)
    [code] = re.findall(r"```python\n(.*?)```", (repository / "sounds/README.md").read_text(), re.DOTALL)
    fake = triton_of(repository)
    for name in ("InferInput", "InferenceServerClient"):
        monkeypatch.setattr(tritonclient.http, name, getattr(fake, name))
    monkeypatch.chdir(tmp_path)
    scope: dict = {}
    exec(code, scope)  # the README's own words
    wave, _ = soundfile.read(tmp_path / "recording.wav", dtype="float32")
    windows = cut_windows(wave, open_bundle(bundle_folder).manifest.window)
    assert len(windows) == 3  # more than one request may hold
    expected = OnnxRuntime(bundle_folder / "embedder.onnx", 1, ["cpu"])(windows).mean(axis=0)
    assert np.abs(expected).max() > 0.01
    np.testing.assert_allclose(scope["embedding"], expected, rtol=1e-5)


@pytest.fixture
def engine_bundle(bundle_folder, tmp_path):
    """A copy of the bundle with an engine for flavour tensorrt; (its folder, the engine, its side-car)."""
    folder = Path(shutil.copytree(bundle_folder, tmp_path / "bundle"))
    bundle = open_bundle(folder)
    (folder / "engines").mkdir()
    engine = folder / "engines" / "tensorrt-10.13.0-sm89-fp32.engine"
    engine.write_bytes(b"an engine")
    sidecar = Sidecar(
        flavour="tensorrt",
        version="10.13.0",
        compute_capability="8.9",
        platform=this_platform(),
        precision="fp32",
        profiles=(Profile(1, 1, 1), Profile(1, 8, 32)),
        input=EngineTensor("waveform", "float32", (-1, 77_040)),
        output=EngineTensor("embedding", "float32", (-1, 128)),
        onnx=bundle.manifest.files["embedder.onnx"],
        engine=record_of(engine),
        embedding_space=bundle.manifest.embedding_space,
        optimisation_level=3,
        workspace_mb=None,
        build_seconds=1.0,
    )
    write_sidecar(engine, sidecar)
    return folder, engine, sidecar


def test_an_engine_is_served_with_its_own_profiles(engine_bundle, tmp_path):
    folder, engine, _ = engine_bundle
    assert main([str(folder), "--out", str(tmp_path / "models"), "--backend", "tensorrt"]) == 0
    model = tmp_path / "models" / "bundle"
    assert (model / "1/model.plan").read_bytes() == engine.read_bytes()
    config = read_config(model)
    assert (config.backend, config.max_batch_size) == ("tensorrt", 32)
    assert list(config.dynamic_batching.preferred_batch_size) == [8]
    [group] = config.instance_group
    assert group.kind == schema.ModelInstanceGroup.KIND_GPU
    assert list(group.profile) == ["0", "1"]
    assert [warmup.batch_size for warmup in config.model_warmup] == [1, 8, 32]
    text = (model / "README.md").read_text()
    assert "compute capability 8.9" in text
    assert "TensorRT 10.13.0" in text


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        ({"flavour": "tensorrt-rtx"}, ["does not", "tensorrt-rtx", "--flavour tensorrt --precision fp32"]),
        ({"precision": "int8"}, ["wanted one fp32 engine"]),
        ({"embedding_space": "0" * 64}, ["embedding space is 000000000000"]),
        ({"profiles": (Profile(4, 8, 32),)}, ["single window", "--batch 1:8:64"]),
    ],
)
def test_an_engine_that_triton_could_not_serve_is_refused(engine_bundle, tmp_path, capsys, change, parts):
    folder, engine, sidecar = engine_bundle
    write_sidecar(engine, dataclasses.replace(sidecar, **change))
    one_line(capsys, main([str(folder), "--out", str(tmp_path / "models"), "--backend", "tensorrt"]), *parts)
    assert not (tmp_path / "models").exists()


def test_among_several_engines_one_must_be_named(engine_bundle, tmp_path, capsys):
    folder, engine, sidecar = engine_bundle
    other = engine.with_name("tensorrt-10.13.0-sm120-fp32.engine")
    other.write_bytes(b"another")
    write_sidecar(other, dataclasses.replace(sidecar, compute_capability="12.0", engine=record_of(other)))
    arguments = [str(folder), "--out", str(tmp_path / "models"), "--backend", "tensorrt"]
    one_line(capsys, main(arguments), "got 2 among", "--engine")
    assert main([*arguments, "--engine", str(other)]) == 0
    assert (tmp_path / "models/bundle/1/model.plan").read_bytes() == b"another"


@pytest.mark.parametrize(
    ("flags", "parts"),
    [
        ("--name a/b", ["--name", "'a/b'"]),
        ("--name .hidden", ["--name"]),
        ("--backend pytorch", ["--backend", "onnxruntime, tensorrt"]),
        ("--device tpu", ["--device", "auto, gpu, cpu"]),
        ("--backend tensorrt --device cpu", ["--device", "onnxruntime"]),
        ("--engine x.engine", ["--engine", "--backend tensorrt"]),
        ("--instances 0", ["--instances", "1 to 1024"]),
        ("--max-batch 0", ["--max-batch", "1 to"]),
        ("--max-batch 100000", ["--max-batch", "1 to"]),
        (f"--instances {2**31}", ["--instances", "1 to 1024"]),
        ("--max-queue-delay-us -1", ["--max-queue-delay-us"]),
        (f"--max-queue-delay-us {2**64}", ["--max-queue-delay-us"]),
        ("--precision int4", ["int4"]),
        ("--precision int8", ["int8"]),
        ("--backend tensorrt", ["wanted one fp32 engine", "export.tensorrt"]),
    ],
)
def test_wrong_flags_are_one_line_and_nothing_is_written(bundle_folder, tmp_path, capsys, flags, parts):
    one_line(capsys, main([str(bundle_folder), "--out", str(tmp_path / "models"), *flags.split()]), *parts)
    assert not (tmp_path / "models").exists()


def test_a_model_of_that_name_is_kept_unless_it_may_be_replaced(bundle_folder, tmp_path, capsys):
    arguments = [str(bundle_folder), "--out", str(tmp_path), "--name", "sounds"]
    assert main([*arguments, "--max-batch", "5"]) == 0
    capsys.readouterr()
    one_line(capsys, main(arguments), "exists already", "--overwrite")
    assert read_config(tmp_path / "sounds").max_batch_size == 5
    assert main([*arguments, "--overwrite"]) == 0
    assert read_config(tmp_path / "sounds").max_batch_size == 64
    assert main([str(bundle_folder), "--out", str(tmp_path), "--name", "others"]) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["others", "sounds"]


def test_a_folder_that_is_no_model_is_never_replaced(bundle_folder, tmp_path, capsys):
    (tmp_path / "sounds").mkdir()
    (tmp_path / "sounds" / "thesis.txt").write_text("years")
    arguments = [str(bundle_folder), "--out", str(tmp_path), "--name", "sounds", "--overwrite"]
    capsys.readouterr()
    one_line(capsys, main(arguments), "config.pbtxt")
    assert (tmp_path / "sounds" / "thesis.txt").read_text() == "years"


def test_without_tritons_schema_the_extra_is_named(bundle_folder, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "tritonclient.grpc.model_config_pb2", None)
    one_line(capsys, main([str(bundle_folder), "--out", str(tmp_path / "models")]), ".[triton]")
    assert not (tmp_path / "models").exists()
