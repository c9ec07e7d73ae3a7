"""The parity command passes an honest bundle and fails for every fault that is planted in a copy of one."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import soundfile
from onnx import numpy_helper
from safetensors.numpy import load_file, save_file

from export.parity.__main__ import main, update_card
from export.parity.bundle_judge import judge_stored
from export.parity.samples import collect_samples
from serving.audio import Window, cut_windows, level_dbfs
from serving.backends.onnxruntime import OnnxRuntime
from serving.bundle.bundle import open_bundle
from serving.bundle.bundle_files import PRECISIONS
from serving.bundle.manifest import write_manifest
from serving.probes import probe_windows

ROOT = Path(__file__).parents[2]


@pytest.fixture
def one_batch_size(monkeypatch) -> None:
    """One batch size, for what does not depend on it: damage to a file shows at every one."""
    monkeypatch.setattr("export.parity.__main__.BATCHES", (8,))


def passed(capsys, *arguments: str) -> dict:
    code = main(list(arguments))
    captured = capsys.readouterr()
    assert code == 0, captured.err
    result = json.loads(captured.out.splitlines()[-1])
    assert result["passed"] is True
    return result


def caught(capsys, *arguments: str) -> str:
    """The one line with which the command ends in exit 1; its JSON line says the same."""
    code = main(list(arguments))
    captured = capsys.readouterr()
    lines = [line for line in captured.err.splitlines() if line.startswith("error: ")]
    assert (code, len(lines)) == (1, 1)
    assert json.loads(captured.out.splitlines()[-1])["passed"] is False
    return lines[0]


def damaged(bundle: Path, tmp_path: Path, precision: str, damage: Callable[[onnx.ModelProto], None]) -> str:
    """A copy of a bundle with only this precision (and fp32), its model damaged and its hashes made good again."""
    folder = Path(shutil.copytree(bundle, tmp_path / "damaged"))
    manifest = open_bundle(folder).manifest
    for other in set(manifest.models) - {"fp32", precision}:
        (folder / manifest.models[other]).unlink()
    path = folder / PRECISIONS[precision]
    model = onnx.load(path)
    damage(model)
    onnx.save(model, path)
    models = {name: file for name, file in manifest.models.items() if name in ("fp32", precision)}
    write_manifest(folder, replace(manifest, models=models))
    return str(folder)


def change(model: onnx.ModelProto, name: str, values: Callable[[np.ndarray], np.ndarray]) -> None:
    """Replace an initialiser whose name ends so."""
    (tensor,) = (tensor for tensor in model.graph.initializer if tensor.name.endswith(name))
    old = numpy_helper.to_array(tensor)
    tensor.CopyFrom(numpy_helper.from_array(values(old).astype(old.dtype), tensor.name))


def exchange_bands(model: onnx.ModelProto) -> None:
    def exchanged(mel: np.ndarray) -> np.ndarray:
        order = np.arange(mel.shape[1])
        order[[20, 21]] = 21, 20
        return mel[:, order]

    change(model, "mel", exchanged)


def shift_log_offset(model: onnx.ModelProto) -> None:
    (log,) = (node for node in model.graph.node if node.op_type == "Log")
    (add,) = (node for node in model.graph.node if log.input[0] in node.output)
    change(model, add.input[1], lambda offset: offset * 1.5)


def test_an_honest_bundle_passes_in_every_precision_and_backend(precise_bundle, run_folder, capsys):
    result = passed(capsys, str(precise_bundle), "--run", str(run_folder))
    compared = {(row["backend"], row["precision"]) for row in result["results"]}
    assert {(backend, precision) for backend in ("onnxruntime", "openvino") for precision in PRECISIONS} <= compared
    assert {row["batch"] for row in result["results"]} == {1, 2, 3, 8}
    assert result["reference"].startswith("PyTorch")
    assert result["rows"]["recordings"] >= 3
    assert all(row["accuracy"] is not None and row["ranking"] is not None for row in result["results"])
    # What is not on this machine is named, with its reason.
    assert "tensorrt, fp32" in result["skipped"] or ("tensorrt", "fp32") in compared


@pytest.mark.usefixtures("one_batch_size")
def test_the_run_named_in_the_bundle_is_found_by_itself(bundle_folder, run_folder, capsys):
    assert open_bundle(bundle_folder).manifest.run == str(run_folder)
    result = passed(capsys, str(bundle_folder), "--clips", "0")
    assert result["reference"].startswith("PyTorch")
    assert "probes" not in result["reference"]  # all rows, not those of the export alone


@pytest.mark.usefixtures("one_batch_size")
@pytest.mark.parametrize("damage", [exchange_bands, shift_log_offset])
@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_wrong_front_end_is_caught(precise_bundle, run_folder, tmp_path, capsys, precision, damage):
    folder = damaged(precise_bundle, tmp_path, precision, damage)
    assert precision in caught(capsys, folder, "--run", str(run_folder), "--clips", "0")


@pytest.mark.usefixtures("one_batch_size")
def test_a_wrong_front_end_of_a_log_mel_bundle_is_caught(log_mel_bundle, run_folder, tmp_path, capsys):
    folder = Path(shutil.copytree(log_mel_bundle, tmp_path / "damaged"))
    manifest = open_bundle(folder).manifest
    model = onnx.load(folder / "frontend.onnx")
    shift_log_offset(model)
    onnx.save(model, folder / "frontend.onnx")
    write_manifest(folder, manifest)
    assert "fp32" in caught(capsys, str(folder), "--run", str(run_folder), "--clips", "0")


@pytest.mark.usefixtures("one_batch_size")
@pytest.mark.parametrize("fault", ["sign", "nan", "infinite"])
def test_one_wrong_row_is_caught_and_named(precise_bundle, run_folder, capsys, monkeypatch, fault):
    names, windows = probe_windows(open_bundle(precise_bundle).manifest.window)
    wrong = windows[names.index("tone 1 kHz")]

    class OneWrongRow(OnnxRuntime):
        def __call__(self, batch):
            rows = super().__call__(batch)
            for row, window in zip(rows, batch, strict=True):
                if np.array_equal(window, wrong):
                    if fault == "sign":
                        row *= -1
                    else:
                        row[5] = np.nan if fault == "nan" else np.inf
            return rows

    monkeypatch.setattr("export.parity.__main__.OnnxRuntime", OneWrongRow)
    assert "tone 1 kHz" in caught(capsys, str(precise_bundle), "--run", str(run_folder))


def saturate(model: onnx.ModelProto) -> None:
    """The range of one layer's input, eight times too small."""
    quantise = [node for node in model.graph.node if node.op_type == "QuantizeLinear"][-1]
    change(model, quantise.input[1], lambda scale: scale / 8)


def scale_one_channel(model: onnx.ModelProto) -> None:
    """The scale of one output channel, of the last layer, with the wrong sign."""
    change(model, "embedding.0.weight_scale", lambda scale: np.where(np.arange(len(scale)) < 8, -scale, scale))


def forget_bias(model: onnx.ModelProto) -> None:
    change(model, "features.2.0.bias", np.zeros_like)


def overflow(model: onnx.ModelProto) -> None:
    """A weight beyond FP16's 65504."""
    with np.errstate(over="ignore"):
        change(model, "features.2.0.bias", lambda bias: np.full_like(bias, 7e4, np.float32))


@pytest.mark.usefixtures("one_batch_size")
@pytest.mark.parametrize(
    ("precision", "damage"),
    [("int8", saturate), ("int8", scale_one_channel), ("int8", forget_bias), ("fp16", forget_bias), ("fp16", overflow)],
)
@pytest.mark.parametrize("with_run", [True, False], ids=["PyTorch", "stored probes"])
def test_damage_to_a_precision_is_caught(precise_bundle, run_folder, tmp_path, capsys, precision, damage, with_run):
    folder = damaged(precise_bundle, tmp_path, precision, damage)
    if with_run:
        line = caught(capsys, folder, "--run", str(run_folder), "--clips", "0")
    else:
        manifest = open_bundle(folder).manifest
        write_manifest(Path(folder), replace(manifest, run="/gone"))
        line = caught(capsys, folder)
    assert precision in line


@pytest.mark.usefixtures("one_batch_size")
def test_without_the_run_a_wrong_fp32_model_is_caught_by_what_pytorch_gave(precise_bundle, tmp_path, capsys):
    folder = damaged(precise_bundle, tmp_path, "fp32", shift_log_offset)
    write_manifest(Path(folder), replace(open_bundle(folder).manifest, run="/gone"))
    assert "fp32" in caught(capsys, folder)


def test_it_runs_without_torch_on_any_recordings(precise_bundle, recordings, without_torch):
    def parity(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "export.parity", str(precise_bundle), *arguments]
        return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=without_torch, check=False)

    done = parity("--data-dir", str(recordings), "--clips", "6")
    assert done.returncode == 0, done.stderr
    assert "torch, which is not installed" in done.stderr
    result = json.loads(done.stdout.splitlines()[-1])
    assert result["rows"]["recordings"] == 6
    assert "recordings" in result["reference"]
    refused = parity("--run", str(precise_bundle))
    assert refused.returncode == 2
    assert ".[train]" in refused.stderr


def test_recordings_are_compared_by_the_embeddings_that_classify_ranks(bundle_folder, embedder, tmp_path):
    """Whose silent windows are left out: a short sound and a long pause."""
    rate_hz = embedder.manifest.window.rate_hz
    sound = 0.1 * np.random.default_rng(0).standard_normal(12_000)
    wave = np.concatenate([sound, np.zeros(10 * rate_hz)]).astype(np.float32)
    soundfile.write(tmp_path / "knock.wav", wave, rate_hz, subtype="FLOAT")
    judge = judge_stored(open_bundle(bundle_folder), [tmp_path / "knock.wav"])
    [pooled] = judge.samples.pool(judge.reference.embeddings)
    ranking = embedder.classify(wave, rate_hz)
    similarities = dict(zip([name for name, _ in ranking], ranking.similarities, strict=True))
    wanted = [similarities[name] for name in embedder.zeroshot.class_names]
    np.testing.assert_allclose(embedder.zeroshot.similarities(pooled[None])[0], wanted, atol=1e-4)


def test_of_long_recordings_some_windows_are_held_and_of_short_ones_all(tmp_path, monkeypatch):
    window, rng = Window(16_000, 16_000, 15_000), np.random.default_rng(0)
    waves = [0.1 * rng.standard_normal(seconds * 16_000).astype(np.float32) for seconds in (3, 300)]
    paths = [tmp_path / "short.wav", tmp_path / "long.wav"]
    for path, wave in zip(paths, waves, strict=True):
        soundfile.write(path, wave, 16_000, subtype="FLOAT")
    monkeypatch.setattr("export.parity.samples.MAX_SECONDS", 20.0)
    samples = collect_samples(window, paths)
    short, long = samples.recordings
    cut = [cut_windows(wave, window) for wave in waves]
    assert (short.count, long.count) == tuple(map(len, cut))
    assert short.taken == [0, 1, 2]
    assert len(long.taken) == 10  # half of the limit, for there are two recordings
    assert long.taken[0] == 0
    assert long.taken[-1] > 280
    assert max(np.diff(long.taken)) <= 2 * min(np.diff(long.taken))
    held = np.concatenate([cut[0], cut[1][long.taken]])
    np.testing.assert_array_equal(samples.windows[samples.n_probes :], held)
    assert [*short.levels_dbfs, *long.levels_dbfs] == [level_dbfs(each) for each in held]
    assert samples.names[-1] == f"long.wav, window {long.taken[-1] + 1}"


@pytest.mark.usefixtures("one_batch_size")
def test_the_card_is_renewed_and_the_bundle_still_opens(precise_bundle, tmp_path, capsys):
    folder = Path(shutil.copytree(precise_bundle, tmp_path / "bundle"))
    (folder / "engines").mkdir()
    (folder / "engines" / "mine.engine").write_bytes(b"an engine")
    before = open_bundle(folder).manifest
    passed(capsys, str(folder), "--clips", "0", "--update-card")
    after = open_bundle(folder).manifest
    assert "| openvino, int8 |" in (folder / "README.md").read_text()
    record = json.loads((folder / "parity.json").read_text())
    assert {row["backend"] for row in record["results"]} >= {"onnxruntime", "openvino"}
    assert "fp32_layers" in record["int8"]
    changed = {name for name in before.files if before.files[name] != after.files[name]}
    assert changed == {"README.md", "parity.json"}
    assert after.files.keys() == before.files.keys()
    assert (folder / "engines" / "mine.engine").read_bytes() == b"an engine"


def test_a_card_is_renewed_in_a_bundle_that_has_new_files_by_now(precise_bundle, tmp_path):
    folder = Path(shutil.copytree(precise_bundle, tmp_path / "bundle"))
    bundle = open_bundle(folder)
    judge = judge_stored(bundle, [])
    (folder / "engines").mkdir()
    (folder / "engines" / "mine.engine").write_bytes(b"an engine")
    write_manifest(folder, bundle.manifest)  # as another command does during the comparison
    results = [judge.judge(lambda windows: windows[:, :128], "other", "fp32", 1)]
    update_card(bundle, judge, results)
    assert "engines/mine.engine" in open_bundle(folder).manifest.files
    assert "| other, fp32 |" in (folder / "README.md").read_text()
    assert not list(folder.glob(".*"))


@pytest.mark.usefixtures("one_batch_size")
def test_the_renewed_card_says_that_the_training_data_was_compared(bundle_folder, run_folder, tmp_path, capsys):
    bundle, run = (Path(shutil.copytree(place, tmp_path / place.name)) for place in (bundle_folder, run_folder))
    config = json.loads((run / "config.json").read_text())
    (run / "config.json").write_text(json.dumps(config | {"validation_share": 0.0}))
    passed(capsys, str(bundle), "--run", str(run), "--clips", "3", "--update-card")
    assert "3 recordings of the training data" in (bundle / "README.md").read_text()


@pytest.mark.usefixtures("one_batch_size")
def test_without_the_flag_the_bundle_is_left_as_it_is(bundle_folder, capsys):
    before = {path: path.read_bytes() for path in bundle_folder.rglob("*") if path.is_file()}
    passed(capsys, str(bundle_folder), "--clips", "0")
    assert {path: path.read_bytes() for path in bundle_folder.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["--clips", "-1"], ["--clips"]),
        (["--run", "/nowhere"], ["config.json"]),
        (["--data-dir", "/nowhere"], ["/nowhere"]),
    ],
)
def test_wrong_flags_are_one_line(precise_bundle, capsys, arguments, parts):
    assert main([str(precise_bundle), *arguments]) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1
    assert all(part in lines[0] for part in parts)


def test_the_run_of_another_bundle_is_refused(precise_bundle, run_folder, tmp_path, capsys):
    other = Path(shutil.copytree(run_folder, tmp_path / "other"))
    weights = load_file(other / "weights.safetensors")
    scaled = {name: np.asarray(1.5 * value, value.dtype) for name, value in weights.items()}
    save_file(scaled, other / "weights.safetensors")
    assert main([str(precise_bundle), "--run", str(other)]) == 2
    assert "other weights" in capsys.readouterr().err


def test_a_bundle_of_an_older_program_is_to_be_exported_again(precise_bundle, tmp_path, capsys):
    folder = Path(shutil.copytree(precise_bundle, tmp_path / "old"))
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps(manifest | {"schema_version": 1}))
    assert main([str(folder)]) == 2
    error = capsys.readouterr().err
    assert "schema version 1" in error
    assert "export the run again" in error
