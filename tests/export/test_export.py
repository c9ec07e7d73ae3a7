"""The export proves that the file is the trained model, and refuses to write one that is not."""

import io
import json
import shutil
from contextlib import redirect_stderr
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

from export.graph import export_graph
from export.onnx import main
from export.parity.comparison import BOUNDS, compare_rows
from export.parity.samples import collect_samples
from export.trained_run import TrainedRun
from serving.audio import read_audio
from serving.bundle.bundle import open_bundle
from serving.embedder import Embedder
from training.data.clips import load_clips
from training.log_mel_module import LogMel


def one_line(capsys, code: int, *parts: str, wanted: int = 2) -> None:
    captured = capsys.readouterr()
    lines = [line for line in captured.err.splitlines() if line.startswith("error: ")]
    assert code == wanted
    assert len(lines) == 1
    for part in parts:
        assert part in lines[0]
    assert captured.out == ""


@pytest.mark.parametrize(("name", "output"), [("embedder", [128]), ("frontend", [480, 64])])
def test_only_the_batch_is_dynamic(bundle_folder, name, output):
    session = onnxruntime.InferenceSession(bundle_folder / f"{name}.onnx", providers=["CPUExecutionProvider"])
    assert session.get_inputs()[0].name == "waveform"
    assert session.get_inputs()[0].shape == ["batch", 77_040]
    assert session.get_outputs()[0].shape == ["batch", *output]


def test_parity_is_recorded_for_each_batch_size_with_its_worst_row(bundle_folder):
    record = json.loads((bundle_folder / "parity.json").read_text())
    in_fp32 = [result for result in record["results"] if result["precision"] == "fp32"]
    assert [result["batch"] for result in in_fp32] == [1, 2, 3, 8]
    assert record["rows"]["probes"] >= 10
    assert record["rows"]["recordings"] >= 3
    for result in in_fp32:
        assert result["backend"] == "onnxruntime"
        assert result["worst_cosine"] >= 0.99999
        assert result["worst_difference"] <= 1e-4
        assert result["worst_difference_row"]
        assert result["ranking"] == 1.0


def test_the_bundle_embeds_like_pytorch(run_folder, recordings, embedder):
    """An independent check of the export's own: the run's network in PyTorch against the bundle, clip by clip."""
    run = TrainedRun.open(run_folder)
    for clip in run.config.clips(load_clips("folder", recordings)).validation:
        windows = embedder.windows(*read_audio(clip.path))
        with torch.inference_mode():
            log_mel = LogMel(run.config.front_end)(torch.from_numpy(windows))
            expected = run.network.embed(log_mel).numpy().mean(axis=0)
        np.testing.assert_allclose(embedder.embed(*read_audio(clip.path)), expected, atol=1e-5)


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])  # the graph's front end, and the FFT
def test_the_front_end_of_the_bundle_is_the_reference(bundle_folder, backend):
    with np.load(Path(__file__).parents[1] / "golden_logmel_chirp.npz", allow_pickle=False) as golden:
        log_mel = Embedder.load(bundle_folder, backend).log_mel(golden["waveform"], 16_000)[0]
        np.testing.assert_allclose(log_mel[:197], golden["log_mel"][:197], atol=1e-4)


def change_config(run: Path, **values: object) -> None:
    config = json.loads((run / "config.json").read_text())
    (run / "config.json").write_text(json.dumps(config | values))


@pytest.fixture(scope="module")
def probes_only_export(run_folder, bundle_folder, tmp_path_factory) -> tuple[Path, str]:
    """Overwrite a bundle of an older program from a run without recordings and with a foreign text encoder.

    returns   the new bundle and what the command wrote to stderr
    """
    root = tmp_path_factory.mktemp("probes-only")
    run, out = shutil.copytree(run_folder, root / "run"), shutil.copytree(bundle_folder, root / "out")
    change_config(run, data_dir="/gone", text="word2vec:/data/words.bin")
    (out / "manifest.json").write_text("{}")
    with redirect_stderr(io.StringIO()) as stderr:
        assert main([str(run), "--out", str(out), "--overwrite", "--no-text-model"]) == 0
    return out, stderr.getvalue()


@pytest.fixture
def broken_run(run_folder, tmp_path) -> Path:
    return Path(shutil.copytree(run_folder, tmp_path / "run"))


def test_a_run_folder_without_weights_is_refused(broken_run, tmp_path, capsys):
    (broken_run / "weights.safetensors").unlink()
    one_line(capsys, main([str(broken_run), "--out", str(tmp_path / "out")]), "weights.safetensors", "training.run")
    assert not (tmp_path / "out").exists()


def test_a_run_folder_with_cut_off_weights_is_refused(broken_run, tmp_path, capsys):
    weights = broken_run / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    one_line(capsys, main([str(broken_run), "--out", str(tmp_path / "out")]), "weights.safetensors")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("summary.json", "{bad"),
        ("summary.json", "[1]"),
        ("zeroshot.npz", None),
        ("zeroshot.npz", "no archive"),
        ("config.json", "{bad"),
        ("config.json", '{"network": {"name": "nope"}}'),
        ("evaluation/report.json", "{bad"),
    ],
)
def test_a_damaged_run_folder_is_refused_and_the_file_is_named(broken_run, tmp_path, capsys, name, content):
    if content is None:
        (broken_run / name).unlink()
    else:
        (broken_run / name).parent.mkdir(exist_ok=True)
        (broken_run / name).write_text(content)
    one_line(capsys, main([str(broken_run), "--out", str(tmp_path / "out")]), name)
    assert not (tmp_path / "out").exists()


def test_weights_of_another_network_are_refused(broken_run, tmp_path, capsys):
    config = json.loads((broken_run / "config.json").read_text())
    config["network"] |= {"n_classes": 7}
    (broken_run / "config.json").write_text(json.dumps(config))
    one_line(capsys, main([str(broken_run), "--out", str(tmp_path / "out")]), "weights.safetensors")


def test_an_encoder_that_no_bundle_can_carry_is_refused_before_the_work(
    broken_run, probes_only_export, tmp_path, capsys
):
    change_config(broken_run, text="word2vec:/data/words.bin")
    parts = ("word2vec:/data/words.bin", "glove+minilm", "--no-text-model")
    one_line(capsys, main([str(broken_run), "--out", str(tmp_path / "out")]), *parts)
    assert not (tmp_path / "out").exists()
    assert open_bundle(probes_only_export[0])  # with --no-text-model


def test_overwrite_replaces_a_bundle_and_nothing_else(run_folder, probes_only_export, capsys):
    assert open_bundle(probes_only_export[0])
    before = sorted(path.name for path in run_folder.iterdir())
    status = main([str(run_folder), "--out", str(run_folder), "--overwrite"])
    one_line(capsys, status, "manifest.json", "another folder")
    assert sorted(path.name for path in run_folder.iterdir()) == before


def test_an_unfinished_run_is_refused(broken_run, tmp_path, capsys):
    (broken_run / "summary.json").unlink()
    one_line(capsys, main([str(broken_run), "--out", str(tmp_path / "out")]), "summary.json", "--resume")


def test_a_folder_that_is_no_run_is_refused(tmp_path, capsys):
    one_line(capsys, main([str(tmp_path), "--out", str(tmp_path / "out")]), "config.json")


def test_an_existing_bundle_is_refused_and_kept(run_folder, bundle_folder, capsys):
    before = (bundle_folder / "manifest.json").read_bytes()
    one_line(capsys, main([str(run_folder), "--out", str(bundle_folder)]), "--overwrite")
    assert (bundle_folder / "manifest.json").read_bytes() == before


def test_a_file_that_is_not_the_trained_model_is_never_written(run_folder, tmp_path, capsys, monkeypatch):
    def export_wrong_mel(module, *arguments):
        if hasattr(module, "embedding"):
            module.log_mel.mel[:, [20, 21]] = module.log_mel.mel[:, [21, 20]]  # two mel bands exchanged
        return export_graph(module, *arguments)

    monkeypatch.setattr("export.onnx_writer.export_graph", export_wrong_mel)
    code = main([str(run_folder), "--out", str(tmp_path / "out")])
    one_line(capsys, code, "fp32, batch 1", "nothing was written", wanted=1)
    assert list(tmp_path.iterdir()) == []


def test_recordings_that_are_gone_leave_the_probes_and_a_warning(probes_only_export):
    out, stderr = probes_only_export
    assert "warning: /gone does not exist" in stderr
    assert json.loads((out / "parity.json").read_text())["rows"]["recordings"] == 0


def test_parity_holds_on_80_real_clips(run_folder, embedder, esc10):
    run = TrainedRun.open(run_folder)
    clips = [clip.path for clip in load_clips("ESC-10", esc10).clips if clip.fold == 4]
    samples = collect_samples(run.window, clips)
    assert len(clips) == 80
    reference = run.reference(samples)
    embeddings = embedder.run(samples.windows)
    result = compare_rows(samples.names, reference.embeddings, embeddings, BOUNDS["fp32"], reference.rounding)
    assert result.passed, result.faults


@pytest.mark.parametrize("precision", ["fp64", "", "fp16,,int8"])
def test_an_unknown_precision_lists_the_known_ones(run_folder, tmp_path, capsys, precision):
    code = main([str(run_folder), "--out", str(tmp_path / "out"), "--precision", precision])
    one_line(capsys, code, "--precision", "fp32, fp16, int8")


def test_int8_is_refused_where_the_training_recordings_are_gone(broken_run, tmp_path, capsys):
    change_config(broken_run, data_dir="/gone")
    code = main([str(broken_run), "--out", str(tmp_path / "out"), "--precision", "int8"])
    one_line(capsys, code, "int8", "/gone", "--data-dir")
    assert not (tmp_path / "out").exists()
