"""The export proves that the file is the trained model, and refuses to write one that is not."""

import json
import shutil
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from export.onnx import load_network, main
from export.parity import BOUNDS, Bound, compare
from export.probes import probe_windows, recording_windows
from serving.bundle import open_bundle
from training.config import RunConfig
from training.data.clips import load_clips
from training.data.splits import split_clips
from training.frontend import LogMelConfig


def one_line(capsys, code: int, *parts: str) -> None:
    captured = capsys.readouterr()
    lines = [line for line in captured.err.splitlines() if line.startswith("error: ")]
    assert code == 2
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


def test_the_graph_is_clean_and_folded(bundle_folder):
    model = onnx.load(bundle_folder / "embedder.onnx")
    onnx.checker.check_model(model, full_check=True)
    kinds = {node.op_type for node in model.graph.node}
    # No complex operators, no batch norm left, and nothing that computes shapes for the SAME padding.
    assert not kinds & {"STFT", "DFT", "BatchNormalization", "Shape", "Gather", "Range", "If", "Loop"}


def test_the_file_says_what_it_is(bundle_folder):
    facts = {entry.key: entry.value for entry in onnx.load(bundle_folder / "embedder.onnx").metadata_props}
    manifest = open_bundle(bundle_folder).manifest
    assert facts["embedding_space"] == manifest.embedding_space
    assert (facts["rate_hz"], facts["window_samples"]) == ("16000", "77040")


def test_parity_is_recorded_for_each_batch_size_with_its_worst_row(bundle_folder):
    record = json.loads((bundle_folder / "parity.json").read_text())
    assert sorted(record["by_batch"]) == ["1", "2", "3", "8"]
    assert record["rows"]["probes"] >= 10
    assert record["rows"]["recordings"] >= 3
    for result in record["by_batch"].values():
        assert result["worst_cosine"] >= 0.99999
        assert result["worst_difference"] <= 1e-4
        assert result["worst_difference_row"]


def test_the_bundle_embeds_like_pytorch(run_folder, recordings, embedder):
    """An independent check of the export's own: the run's network in PyTorch against the bundle, clip by clip."""
    config = RunConfig.load(run_folder)
    network = load_network(run_folder, config)
    from export.graph import WaveformEmbedder
    from training.frontend import LogMel

    module = WaveformEmbedder(LogMel(config.front_end), network).eval()
    table = load_clips("folder", recordings)
    clips = split_clips(table, config.split, None, config.seed).validation
    from serving.audio import read_audio

    for clip in clips:
        windows = embedder.windows(*read_audio(clip.path))
        with torch.inference_mode():
            expected = module(torch.from_numpy(windows)).numpy().mean(axis=0)
        got = embedder.embed(*read_audio(clip.path))
        np.testing.assert_allclose(got, expected, atol=1e-5)


def test_the_front_end_of_the_bundle_is_the_reference(bundle_folder, embedder):
    with np.load(Path(__file__).parent / "golden_logmel_chirp.npz", allow_pickle=False) as golden:
        log_mel = embedder.log_mel(golden["waveform"], 16_000)[0]
        np.testing.assert_allclose(log_mel[:197], golden["log_mel"][:197], atol=1e-4)


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
    ],
)
def test_a_damaged_run_folder_is_refused_and_the_file_is_named(broken_run, tmp_path, capsys, name, content):
    if content is None:
        (broken_run / name).unlink()
    else:
        (broken_run / name).write_text(content)
    one_line(capsys, main([str(broken_run), "--out", str(tmp_path / "out")]), name)
    assert not (tmp_path / "out").exists()


def test_weights_of_another_network_are_refused(broken_run, tmp_path, capsys):
    config = json.loads((broken_run / "config.json").read_text())
    config["network"] |= {"n_classes": 7}
    (broken_run / "config.json").write_text(json.dumps(config))
    one_line(capsys, main([str(broken_run), "--out", str(tmp_path / "out")]), "weights.safetensors")


def test_overwrite_replaces_a_bundle_and_nothing_else(run_folder, bundle_folder, tmp_path, capsys):
    shutil.copytree(bundle_folder, tmp_path / "old")
    (tmp_path / "old" / "manifest.json").write_text("{}")
    assert main([str(run_folder), "--out", str(tmp_path / "old"), "--overwrite"]) == 0
    assert open_bundle(tmp_path / "old")
    capsys.readouterr()
    before = sorted(path.name for path in run_folder.iterdir())
    one_line(capsys, main([str(run_folder), "--out", str(run_folder), "--overwrite"]), "manifest.json", "--out")
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
        if hasattr(module, "log_mel"):
            module.log_mel.mel[:, [20, 21]] = module.log_mel.mel[:, [21, 20]]  # two mel bands exchanged
        return export_graph(module, *arguments)

    from export.graph import export_graph

    monkeypatch.setattr("export.onnx.export_graph", export_wrong_mel)
    code = main([str(run_folder), "--out", str(tmp_path / "out")])
    one_line(capsys, code, "batch 1", "nothing was written")
    assert list(tmp_path.iterdir()) == []


def test_recordings_that_are_gone_leave_the_probes_and_a_warning(broken_run, tmp_path, capsys):
    config = json.loads((broken_run / "config.json").read_text())
    (broken_run / "config.json").write_text(json.dumps(config | {"data_dir": "/gone"}))
    assert main([str(broken_run), "--out", str(tmp_path / "out")]) == 0
    assert "warning: /gone is gone" in capsys.readouterr().err
    assert json.loads((tmp_path / "out" / "parity.json").read_text())["rows"]["recordings"] == 0


ROWS = np.random.default_rng(0).standard_normal((1000, 128)).astype(np.float32)
NAMES = [f"row {i}" for i in range(len(ROWS))]


def test_equal_rows_pass():
    assert compare(NAMES, ROWS, ROWS.copy(), BOUNDS["fp32"]).passed


def plant(kind: str) -> np.ndarray:
    rows = ROWS.copy()
    match kind:
        case "sign":
            rows[617] *= -1
        case "nan":
            rows[617, 3] = np.nan
        case "infinite":
            rows[617, 3] = np.inf
        case "zero":
            rows[617] = 0
        case "small":
            rows[617, 3] += 2e-4
        case "swapped":
            rows[[617, 618]] = rows[[618, 617]]
    return rows


@pytest.mark.parametrize("kind", ["sign", "nan", "infinite", "zero", "small", "swapped"])
def test_one_wrong_row_in_a_thousand_fails_and_is_named(kind):
    result = compare(NAMES, ROWS, plant(kind), BOUNDS["fp32"])
    assert not result.passed
    assert any("row 617" in fault for fault in result.faults)
    assert not compare(NAMES, plant(kind), ROWS, BOUNDS["fp32"]).passed


def test_a_flipped_row_has_cosine_minus_one():
    result = compare(NAMES, ROWS, plant("sign"), BOUNDS["fp32"])
    assert result.worst_cosine == pytest.approx(-1)
    assert result.worst_cosine_row == "row 617"


def test_a_row_may_differ_by_a_few_times_its_own_rounding_and_no_more():
    rounding = np.zeros(len(ROWS))
    rounding[617] = 1e-4
    assert compare(NAMES, ROWS, plant("small"), BOUNDS["fp32"], rounding).passed  # 2e-4
    assert not compare(NAMES, ROWS, plant("small"), BOUNDS["fp32"], 0.1 * rounding).passed
    assert not compare(NAMES, ROWS, plant("sign"), BOUNDS["fp32"], rounding).passed
    assert compare(NAMES, ROWS, plant("small"), BOUNDS["fp32"], rounding).excused == ("row 617",)
    far = ROWS.copy()
    far[617, 3] += 4e-4
    assert not compare(NAMES, ROWS, far, BOUNDS["fp32"], 100 * rounding).passed  # the allowance has an end


def test_parity_holds_on_80_real_clips(run_folder, embedder, esc10):
    from export.graph import WaveformEmbedder
    from training.frontend import LogMel

    config = RunConfig.load(run_folder)
    module = WaveformEmbedder(LogMel(config.front_end), load_network(run_folder, config)).eval()
    clips = [clip.path for clip in load_clips("ESC-10", esc10).clips if clip.fold == 4]
    names, windows = recording_windows(clips, embedder.manifest.window)
    assert len(clips) == 80
    with torch.inference_mode():
        expected = np.concatenate([module(torch.from_numpy(row[None])).numpy() for row in windows])
    result = compare(names, expected, embedder.run(windows), BOUNDS["fp32"])
    assert result.passed, result.faults


def test_nan_on_both_sides_fails():
    assert not compare(NAMES, plant("nan"), plant("nan"), Bound(-1, np.inf)).passed


def test_an_empty_comparison_fails():
    assert not compare([], ROWS[:0], ROWS[:0], BOUNDS["fp32"]).passed


def test_rows_of_another_count_fail():
    assert not compare(NAMES, ROWS, ROWS[:999], BOUNDS["fp32"]).passed


def test_zero_rows_fail_even_against_zero_rows():
    zero = np.zeros((1, 128), np.float32)
    assert not compare(["a"], zero, zero, BOUNDS["fp32"]).passed
    assert not compare(["a"], zero, ROWS[:1], BOUNDS["fp32"]).passed


def test_the_probes_cover_silence_tones_noise_and_full_scale():
    window = LogMelConfig().network_window(480)
    names, windows = probe_windows(window)
    assert windows.shape == (len(names), window.samples)
    assert not windows[names.index("silence")].any()
    assert np.abs(windows).max() == 1.0
    assert len(names) == len(set(names))
