"""A run that starts from YAMNet's weights hears what they heard, as far as every backend of its bundle."""

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper

from serving.bundle.bundle import open_bundle
from serving.bundle.bundle_files import PRECISIONS
from serving.embedder import Embedder
from serving.probes import probe_windows
from tests.published_yamnet import published_yamnet, write_keras
from training.log_mel_module import LogMel
from training.published.pretrained import YAMNET_LOG_OFFSET
from training.run_folder import RunConfig


@pytest.fixture(scope="module")
def published(tmp_path_factory) -> Path:
    return write_keras(published_yamnet(seed=8, scaled=False), tmp_path_factory.mktemp("published") / "yamnet.h5")


@pytest.fixture(scope="module")
def started_run(recordings, published, tmp_path_factory) -> Path:
    """A run of yamnet-compact that started from `published`, made by the command, until its classes lie apart."""
    from training.run import main

    root = tmp_path_factory.mktemp("started")
    arguments = f"--dataset folder --data-dir {recordings} --objective classes --epochs 15 --batch-size 8"
    arguments += f" --network yamnet-compact --vocabulary 0 --init {published}"
    assert main([*arguments.split(), "--out", str(root / "run"), "--cache-dir", str(root / "cache")]) == 0
    return root / "run"


@pytest.fixture(scope="module")
def started_bundle(started_run, tmp_path_factory) -> Path:
    """Its bundle in every precision, made by the command, which proves parity."""
    from export.onnx import main

    out = tmp_path_factory.mktemp("started-bundle") / "bundle"
    assert main([str(started_run), "--out", str(out), "--precision", "fp16,int8", "--no-text-model"]) == 0
    return out


def log_offsets(path: Path) -> list[float]:
    """What a graph adds before each of its natural logarithms."""
    graph = onnx.load(path).graph
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    made_by = {name: node for node in graph.node for name in node.output}
    added = [made_by[node.input[0]] for node in graph.node if node.op_type == "Log"]
    return [float(constants[name]) for node in added for name in node.input if name in constants]


def test_the_run_and_the_manifest_say_0_001(started_run, started_bundle):
    assert RunConfig.load(started_run).front_end.log_offset == YAMNET_LOG_OFFSET
    manifest = open_bundle(started_bundle).manifest
    assert manifest.front_end["log_offset"] == YAMNET_LOG_OFFSET
    assert manifest.init is not None
    assert manifest.init.startswith("yamnet.h5, sha256 ")


@pytest.mark.parametrize("name", ["frontend.onnx", *PRECISIONS.values()])
def test_every_graph_adds_it_before_its_log(name, started_bundle):
    """TensorRT's engines are built from these."""
    assert log_offsets(started_bundle / name) == pytest.approx([YAMNET_LOG_OFFSET])


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])  # the graph's front end, and the FFT
def test_every_backend_hears_through_it(backend, started_run, started_bundle):
    embedder = Embedder.load(started_bundle, backend)
    front_end = LogMel(RunConfig.load(started_run).front_end)
    names, windows = probe_windows(embedder.manifest.window)
    for name, wave in zip(names, windows, strict=True):
        with torch.inference_mode():
            wanted = front_end(torch.from_numpy(wave)[None])[0].numpy()
        got = embedder.log_mel(wave, 16_000)[0]
        # In bands that a full-scale tone leaves empty FP32 is off by ten times as much as with 0.01: see test_frontend.
        np.testing.assert_allclose(got, wanted, atol=5e-3, err_msg=name)
    silence = embedder.log_mel(np.zeros(16_000, np.float32), 16_000)
    np.testing.assert_allclose(silence, np.log(YAMNET_LOG_OFFSET), rtol=1e-6)


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_every_backend_embeds_sounds_as_pytorch_does(backend, precision, started_run, started_bundle, recordings):
    from export.trained_run import TrainedRun
    from serving.audio import read_audio

    embedder = Embedder.load(started_bundle, backend, precision)
    module = TrainedRun.open(started_run).module
    for path in sorted(recordings.rglob("*.wav"))[::6]:
        windows = embedder.windows(*read_audio(path))
        with torch.inference_mode():
            wanted = module(torch.from_numpy(windows)).numpy().mean(axis=0)
        got = embedder.embed(*read_audio(path))
        # On 8 real recordings 0.9999998, 0.9999995 and 0.9975 were seen; the export holds its own, tighter bounds.
        bound = {"fp32": 0.99999, "fp16": 0.9999, "int8": 0.98}[precision]
        assert got @ wanted / np.linalg.norm(got) / np.linalg.norm(wanted) > bound, path


def test_a_run_without_published_weights_keeps_the_studys_offset(run_folder):
    assert RunConfig.load(run_folder).front_end.log_offset == 0.01


def test_a_resumed_run_keeps_the_front_end_that_it_began_with(started_run, recordings, published, tmp_path, capsys):
    import shutil

    from training.run import main

    run = Path(shutil.copytree(started_run, tmp_path / "run"))
    config = json.loads((run / "config.json").read_text())
    config["front_end"]["log_offset"] = 0.01  # as runs from before had it
    (run / "config.json").write_text(json.dumps(config))
    arguments = f"--dataset folder --data-dir {recordings} --objective classes --epochs 15 --batch-size 8 --resume"
    arguments += f" --network yamnet-compact --vocabulary 0 --init {published}"
    assert main([*arguments.split(), "--out", str(run), "--cache-dir", str(tmp_path / "cache")]) == 0
    assert RunConfig.load(run).front_end.log_offset == 0.01


def test_a_recipe_that_starts_from_published_weights_is_not_trained_anew_without_them(started_run, tmp_path, capsys):
    from training.evaluate import main

    other = write_keras(published_yamnet(seed=9, scaled=False), tmp_path / "other.h5")
    for given, told in (([], "got none"), (["--init", str(other)], "other.h5")):
        assert main([str(started_run), "--folds", *given]) == 2
        error = capsys.readouterr().err.splitlines()[-1]
        assert "--init" in error
        assert told in error
        assert "yamnet.h5, sha256 " in error


def test_vggish_weights_heard_0_01():
    from training.published.pretrained import front_end_of

    assert front_end_of("vggish", published=True).log_offset == 0.01
