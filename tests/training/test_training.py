"""The training command: what it writes, what it promises, what it refuses."""

import io
import json
import shutil
import subprocess
import sys
import time
from contextlib import redirect_stdout
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from safetensors.torch import load_file, save_file

import training.run
from serving.zeroshot.zeroshot_file import read_zeroshot
from tests.conftest import RATE_HZ, small_sound
from training.data.clips import load_clips
from training.evaluate import main as evaluate
from training.fit.loop import _Training
from training.fit.recipe import Epoch, Recipe, best_epoch, should_stop, steps_per_epoch
from training.run import main
from training.run_folder import CALIBRATION, EVALUATION, LAST, RunConfig


def arguments(recordings: Path, out: Path, *more: str) -> list[str]:
    fixed = f"--dataset folder --data-dir {recordings} --objective classes --vocabulary 0 --batch-size 8 --epochs 3"
    fixed += " --network yamnet-compact"
    return [*fixed.split(), "--cache-dir", str(out.parent / "cache"), "--out", str(out), *more]


def small_folder(root: Path, kinds: dict[str, str], each: int = 4) -> Path:
    """Folders of small sounds: class -> kind, see `small_sound`."""
    rng = np.random.default_rng(0)
    for name, kind in kinds.items():
        (root / name).mkdir(parents=True)
        for i in range(each):
            soundfile.write(root / name / f"{i}.wav", small_sound(kind, rng), RATE_HZ)
    return root


def one_line(capsys, code: int, *parts: str) -> None:
    """Exit code 2, nothing on stdout, one line on stderr with these parts."""
    captured = capsys.readouterr()
    assert code == 2
    lines = [line for line in captured.err.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1
    assert "Traceback" not in captured.err
    for part in parts:
        assert part in lines[0]
    assert captured.out == ""


def test_a_run_folder_holds_what_others_need(run_folder):
    kept = {path.name for path in run_folder.iterdir()}
    assert kept >= {"weights.safetensors", "last.safetensors", "config.json", "metrics.jsonl", "summary.json"}
    assert kept >= {"curves.png", "zeroshot.npz"}
    assert not [name for name in kept if name.startswith(".")]
    epochs = [json.loads(line) for line in (run_folder / "metrics.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in epochs] == list(range(1, 16))
    summary = json.loads((run_folder / "summary.json").read_text())
    assert summary["best_epoch"] >= 5


@pytest.fixture(scope="module")
def short_run(recordings, tmp_path_factory) -> tuple[Path, str]:
    """The folder of a run of two epochs, and what the command wrote to stdout."""
    out = tmp_path_factory.mktemp("short") / "run"
    with redirect_stdout(io.StringIO()) as stdout:
        assert main(arguments(recordings, out, "--epochs", "2")) == 0
    return out, stdout.getvalue()


def test_the_last_line_of_training_is_json_for_scripts(short_run):
    out, stdout = short_run
    last = json.loads(stdout.splitlines()[-1])
    assert last["epochs"] == 2
    assert last["out"] == str(out)
    assert 0 <= last["validation_accuracy"] <= 1
    assert last["seconds"] > 0


def test_fewer_clips_than_a_batch_train(recordings, tmp_path):
    assert main(arguments(recordings, tmp_path / "run", "--epochs", "1", "--batch-size", "512")) == 0


def test_clips_are_split_once(recordings, tmp_path, monkeypatch):
    from training.run_folder import split_clips

    split: list[int] = []

    def split_and_note(table, *given):
        split.append(len(table.clips))
        return split_clips(table, *given)

    monkeypatch.setattr("training.run_folder.split_clips", split_and_note)
    assert main(arguments(recordings, tmp_path / "run", "--epochs", "1")) == 0
    assert len(split) == 1


def test_the_same_seed_gives_the_same_weights(short_run, recordings, tmp_path):
    assert main(arguments(recordings, tmp_path / "again", "--epochs", "2")) == 0
    a, b = (load_file(run / "weights.safetensors") for run in (short_run[0], tmp_path / "again"))
    assert a.keys() == b.keys()
    assert all((a[name] == b[name]).all() for name in a)


FINISHED = ["--epochs", "6", "--finishing-epochs", "4"]


@pytest.fixture(scope="module")
def uninterrupted(recordings, tmp_path_factory) -> Path:
    """A run with finishing epochs that nothing interrupted."""
    out = tmp_path_factory.mktemp("uninterrupted") / "run"
    assert main(arguments(recordings, out, *FINISHED)) == 0
    return out


@pytest.mark.parametrize("epoch", [1, 4])  # before the finishing epochs, and between two of them
def test_a_run_killed_and_resumed_ends_with_the_weights_of_an_uninterrupted_one(
    recordings, uninterrupted, tmp_path, epoch
):
    options = arguments(recordings, tmp_path / "cut", *FINISHED)
    process = subprocess.Popen([sys.executable, "-m", "training.run", *options], stderr=subprocess.DEVNULL)
    metrics = tmp_path / "cut" / "metrics.jsonl"
    while not metrics.is_file() or len(metrics.read_text().splitlines()) < epoch:
        assert process.poll() is None
        time.sleep(0.01)
    process.kill()
    process.wait()
    done = len(metrics.read_text().splitlines())
    assert done < 6
    assert main([*options, "--resume"]) == 0
    for name in ("weights.safetensors", "last.safetensors"):
        whole, cut = load_file(uninterrupted / name), load_file(tmp_path / "cut" / name)
        assert whole.keys() == cut.keys()
        assert [key for key in whole if not torch.equal(whole[key], cut[key])] == []


def test_a_run_killed_in_its_first_epoch_is_resumed_as_well(short_run, recordings, tmp_path):
    (tmp_path / "cut").mkdir()
    shutil.copy(short_run[0] / "config.json", tmp_path / "cut")
    assert main(arguments(recordings, tmp_path / "cut", "--epochs", "2", "--resume")) == 0
    whole, cut = (load_file(run / "weights.safetensors") for run in (short_run[0], tmp_path / "cut"))
    assert [key for key in whole if not torch.equal(whole[key], cut[key])] == []


def test_weights_to_start_from_are_read_before_a_run_is_replaced(short_run, recordings, tmp_path, capsys):
    shutil.copytree(short_run[0], tmp_path / "run")
    before = (tmp_path / "run" / "weights.safetensors").read_bytes()
    (tmp_path / "wrong.safetensors").write_bytes(b"junk")
    for out, flags in (("run", ["--overwrite"]), ("new", [])):
        init = ["--epochs", "1", "--init", str(tmp_path / "wrong.safetensors"), *flags]
        one_line(capsys, main(arguments(recordings, tmp_path / out, *init)), "wrong.safetensors")
    assert (tmp_path / "run" / "weights.safetensors").read_bytes() == before
    assert not (tmp_path / "new").exists()


def test_a_full_disk_ends_the_run_with_one_line_and_keeps_the_last_checkpoint(recordings, tmp_path, monkeypatch):
    options = arguments(recordings, tmp_path / "run", "--epochs", "3")
    save = _Training.save

    def save_and_stop(self, history, run):
        save(self, history, run)
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(_Training, "save", save_and_stop)
        assert main(options) == 130
    before = (tmp_path / "run" / "last.safetensors").read_bytes()
    # No file may grow past 1 MB: to the program it is a disk that is full.
    limited = ["bash", "-c", 'ulimit -f 1000; exec "$@"', "-", sys.executable, "-m", "training.run"]
    done = subprocess.run([*limited, *options, "--resume"], capture_output=True, text=True)
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert done.returncode == 2, done.stderr
    assert len(errors) == 1
    assert "cannot be written" in errors[0]
    assert "Traceback" not in done.stderr
    assert (tmp_path / "run" / "last.safetensors").read_bytes() == before
    assert not list((tmp_path / "run").glob(".tmp*"))
    assert main([*options, "--resume"]) == 0


def test_embeddings_of_the_training_clips_have_a_mean_length_of_one(recordings, embedder):
    lengths = np.linalg.norm(embedder.embed_files(sorted(recordings.glob("*/*.wav"))), axis=1)
    assert 0.8 < lengths.mean() < 1.25  # most of these clips were trained on


def test_resuming_with_other_options_is_refused(run_folder, recordings, capsys):
    code = main(arguments(recordings, run_folder, "--resume", "--learning-rate", "0.5"))
    one_line(capsys, code, "--resume", "recipe")


def history(*losses: float) -> list[Epoch]:
    return [Epoch(i + 1, 1.0, 0.5, loss, 0.5, 1e-3, 1.0, 1.0) for i, loss in enumerate(losses)]


def test_the_best_epoch_has_the_least_validation_loss_and_is_none_of_the_first_four():
    recipe = Recipe(epochs=60)
    assert best_epoch(history(0.1, 0.1, 0.1, 0.1), recipe) is None
    best = best_epoch(history(0.1, 0.1, 0.1, 0.1, 0.9, 0.7, 0.8), recipe)
    assert best is not None
    assert best.epoch == 6


def test_patience_counts_from_the_best_epoch():
    recipe = Recipe(epochs=60, patience=2)
    assert not should_stop(history(0.1, 0.2, 0.3, 0.4, 0.5, 0.6), recipe)
    assert should_stop(history(0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7), recipe)
    assert not should_stop(history(0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.4), recipe)


@pytest.mark.parametrize(("windows", "batch"), [(2, 32), (3, 2), (33, 32), (64, 32), (193, 32), (5, 2)])
def test_no_batch_is_too_large_or_a_single_window(windows, batch):
    sizes = [len(part) for part in np.array_split(np.arange(windows), steps_per_epoch(windows, batch))]
    assert sum(sizes) == windows
    assert min(sizes) >= 2
    assert max(sizes) <= max(batch, 3)


def test_patience_stops_a_run_early(recordings, tmp_path, capsys):
    rate = ["--learning-rate", "1e-12"]  # nothing is learned, so the first judged epoch stays the best or nearly so
    code = main(arguments(recordings, tmp_path / "run", "--epochs", "30", "--patience", "1", *rate))
    assert code == 0
    assert 5 < json.loads(capsys.readouterr().out.splitlines()[-1])["epochs"] < 30


@pytest.mark.parametrize(
    ("flags", "parts"),
    [
        (["--dataset", "ESC-5"], ["ESC-5", "ESC-50", "FSC22", "folder"]),
        (["--network", "resnet"], ["resnet", "yamnet", "yamnet-compact", "vggish"]),
        (["--split", "fold04"], ["fold04", "all", "random"]),
        (["--data-dir", "/nowhere"], ["/nowhere"]),
        (["--epochs", "0"], ["--epochs: got 0; wanted 1 or more"]),
        (["--finishing-epochs", "3"], ["--finishing-epochs: got 3; wanted 0 to 2"]),
        (["--epochs", "many"], ["--epochs", "many"]),
        (["--batch-size", "1"], ["--batch-size", "1"]),
        (["--dropout", "1"], ["--dropout"]),
        (["--seed", "-1"], ["--seed", "-1"]),
        (["--learning-rate", "inf"], ["--learning-rate", "inf"]),
        (["--mixup", "inf"], ["--mixup"]),
        (["--mixing", "waves"], ["waves", "sound"]),
        (["--gain-db", "inf"], ["--gain-db"]),
        (["--speed", "0.8"], ["--speed: got 0.8; wanted 1 to 2"]),
        (["--speed", "1.1", "--network", "vggish"], ["--speed: got 1.1; wanted 1 for vggish"]),
        (["--device", "meta"], ["meta", "cuda"]),
        (["--device", "cpu:5"], ["cpu:5", "cuda"]),
        (["--unseen", "tone,tone"], ["once"]),
        (["--unseen", " , "], ["--unseen", "names no class"]),
        (["--resume", "--overwrite"], ["--resume", "--overwrite", "one of them"]),
        (["--unseen", "tone,noise"], ["two or more"]),
        (["--cache-dir", "/proc/nothing"], ["--cache-dir", "/proc/nothing"]),
        (["--out", "/proc/nothing"], ["--out", "/proc/nothing"]),
        (["--text", "bert"], ["bert", "minilm", "word2vec:FILE"]),
        (["--text", "word2vec:/nowhere.bin"], ["word2vec:/nowhere.bin", "no such file"]),
        (["--map", "lasso"], ["--map", "lasso", "ridge", "eszsl"]),
        (["--objective", "text", "--map", "ridge"], ["--map", "--objective text", "own projection"]),
        (["--map", "eszsl", "--attributes", "mine.toml"], ["--attributes: got mine.toml", "--map eszsl", "leave one"]),
        (["--patience", "3", "--validation-share", "0"], ["--patience: got 3", "--validation-share 0", "leave one"]),
        (["--device", "cuda:99"], ["cuda:99"]),
        (["--unseen", "unicorn"], ["unicorn", "clicks"]),
        (["--test-fold", "1"], ["test fold", "1"]),
        (["--init", "/nowhere.pt"], ["--init", "/nowhere.pt"]),
        (["--no-such-flag"], ["--no-such-flag", "--help"]),
    ],
)
def test_wrong_input_gets_one_line_and_leaves_no_run_folder(recordings, tmp_path, capsys, flags, parts):
    try:
        code = main(arguments(recordings, tmp_path / "run", *flags))
    except SystemExit as stop:  # from the parser of flags
        code = stop.code
    one_line(capsys, code, *parts)
    assert not (tmp_path / "run").exists()


def test_a_fold_that_is_not_there_is_refused_before_the_class_texts_are_encoded(recordings, tmp_path, monkeypatch):
    def encode(texts: object) -> None:
        raise AssertionError("the text model was run")

    monkeypatch.setattr("training.run_input.text_encoder", lambda name: encode)
    assert main(arguments(recordings, tmp_path / "run", "--test-fold", "1")) == 2


def test_an_existing_run_folder_is_refused_and_kept(run_folder, recordings, capsys):
    before = {path.name: path.stat().st_mtime_ns for path in run_folder.iterdir()}
    one_line(capsys, main(arguments(recordings, run_folder)), "--overwrite")
    assert {path.name: path.stat().st_mtime_ns for path in run_folder.iterdir()} == before


def test_an_interrupted_run_is_refused_with_the_way_to_continue_it(recordings, tmp_path, capsys):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / LAST).touch()
    code = main(arguments(recordings, tmp_path / "run"))
    one_line(capsys, code, "holds an interrupted run; add --resume to continue it", "--overwrite")


def test_overwrite_never_deletes_the_recordings(recordings, capsys):
    before = sorted(recordings.rglob("*"))
    one_line(capsys, main([*arguments(recordings, recordings), "--overwrite"]), "config.json", "another folder")
    assert sorted(recordings.rglob("*")) == before


def test_a_map_that_is_fitted_again_does_not_keep_the_scores_of_a_calibration_before(recordings, tmp_path):
    run = tmp_path / "run"
    assert main(arguments(recordings, run, "--epochs", "1")) == 0
    (run / EVALUATION).mkdir(exist_ok=True)
    (run / EVALUATION / CALIBRATION).write_text("{}")
    (run / "summary.json").unlink()  # as if it was killed before its end
    assert main(arguments(recordings, run, "--epochs", "1", "--resume")) == 0
    assert not (run / EVALUATION / CALIBRATION).exists()


def test_resuming_a_finished_run_changes_no_file_and_repeats_its_last_line(short_run, recordings, tmp_path, capsys):
    run = tmp_path / "run"
    shutil.copytree(short_run[0], run)
    (run / EVALUATION).mkdir(exist_ok=True)
    (run / EVALUATION / CALIBRATION).write_text("{}")
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    assert main(arguments(recordings, run, "--epochs", "2", "--resume")) == 0
    told = capsys.readouterr()
    assert json.loads(told.out.splitlines()[-1]) == json.loads((run / "summary.json").read_text()) | {"out": str(run)}
    assert "finished already" in told.err
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before


def test_overwriting_a_link_replaces_the_folder_that_it_leads_to(short_run, recordings, tmp_path):
    shutil.copytree(short_run[0], tmp_path / "disk" / "run")
    (tmp_path / "disk" / "run" / "old").touch()
    (tmp_path / "run").symlink_to(tmp_path / "disk" / "run")
    assert main(arguments(recordings, tmp_path / "run", "--epochs", "1", "--overwrite")) == 0
    assert (tmp_path / "run").is_symlink()
    assert not (tmp_path / "run" / "old").exists()
    assert json.loads((tmp_path / "disk" / "run" / "summary.json").read_text())["epochs"] == 1


def test_unseen_classes_are_ranked_by_the_bundle_and_marked_unseen(recordings, tmp_path):
    assert main(arguments(recordings, tmp_path / "run", "--unseen", "noise", "--epochs", "1")) == 0
    zeroshot = read_zeroshot(tmp_path / "run" / "zeroshot.npz")
    assert dict(zip(zeroshot.class_names, zeroshot.seen, strict=True)) == {"clicks": True, "noise": False, "tone": True}
    embedding = np.ones(128, np.float32)
    plain, moved = (dict(zeroshot.rank(embedding, offset=offset)) for offset in (0.0, 2.0))
    assert moved["noise"] > plain["noise"]


def test_a_run_keeps_its_map_and_its_file_of_word_vectors(recordings, tmp_path, monkeypatch):
    """The file lies in the folder of the command, and is found from elsewhere too."""
    monkeypatch.chdir(tmp_path)
    words = {"tone": (3, 0, 1), "noise": (0, 2, 1), "clicks": (1, 1, 4)}
    Path("words.txt").write_text("".join(f"{word} {' '.join(map(str, row))}\n" for word, row in words.items()))
    for kind in ("ridge", "eszsl"):
        flags = ["--text", "word2vec:words.txt", "--map", kind, "--epochs", "1"]
        assert main(arguments(recordings, tmp_path / kind, *flags)) == 0
    monkeypatch.chdir("/")
    config = RunConfig.load(tmp_path / "eszsl")
    assert (config.map, config.text) == ("eszsl", f"word2vec:{tmp_path / 'words.txt'}")
    assert evaluate([str(tmp_path / "eszsl"), "--cache-dir", str(tmp_path / "cache")]) == 0
    ridge, eszsl = (read_zeroshot(tmp_path / kind / "zeroshot.npz") for kind in ("ridge", "eszsl"))
    rows = np.array([words[name] for name in ridge.class_names], float)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    rows -= rows.mean(axis=0)
    np.testing.assert_allclose(ridge.class_vectors, rows / np.linalg.norm(rows, axis=1, keepdims=True), atol=1e-5)
    np.testing.assert_array_equal(ridge.mean, eszsl.mean)  # of the same embeddings
    unit = [fitted.projection / np.linalg.norm(fitted.projection) for fitted in (ridge, eszsl)]
    assert np.abs(unit[0] - unit[1]).max() > 1e-4


def test_a_class_name_that_no_word_list_knows_is_no_reason_to_fail_after_training(tmp_path):
    data = small_folder(tmp_path / "data", {"xqzt": "tone", "noise": "noise"})
    assert main(arguments(data, tmp_path / "run", "--epochs", "1")) == 0


def test_unreadable_audio_in_a_data_set_ends_the_run_before_it_begins(tmp_path, capsys):
    data = small_folder(tmp_path / "data", {"tone": "tone", "noise": "noise"}, each=3)
    (data / "tone" / "3.wav").write_text("not audio")
    code = main(arguments(data, tmp_path / "run"))
    one_line(capsys, code, "3.wav", "not a readable audio file")
    assert not (tmp_path / "run").exists()


def test_a_diverging_run_stops_with_a_line_and_without_weights_that_are_no_numbers(recordings, tmp_path, capsys):
    code = main(arguments(recordings, tmp_path / "run", "--learning-rate", "1e30"))
    one_line(capsys, code, "--learning-rate", "not a finite number")
    for weights in (tmp_path / "run").glob("*.safetensors"):
        assert all(torch.isfinite(tensor).all() for tensor in load_file(weights).values())


def test_a_run_can_start_from_published_weights_and_says_so(recordings, tmp_path, capsys):
    published = {}
    for layer, (channels, out) in enumerate(
        zip((1, 32, 64, 128, 128, 256, 256), (32, 64, 128, 128, 256, 256, 512), strict=True)
    ):
        shapes = {"depthwise_conv": (channels, 1, 3, 3), "pointwise_conv": (out, channels, 1, 1)}
        for part, shape in ({"fused": (out, channels, 3, 3)} if layer == 0 else shapes).items():
            name = f"layer{layer + 1}.{part}"
            published[f"{name}.conv.weight"] = torch.randn(shape) / shape[1]
            published |= {f"{name}.bn.{key}": torch.ones(shape[0]) for key in ("weight", "running_var")}
            published |= {f"{name}.bn.{key}": torch.zeros(shape[0]) for key in ("bias", "running_mean")}
    save_file(published, tmp_path / "yamnet.safetensors")
    code = main(
        arguments(recordings, tmp_path / "run", "--epochs", "1", "--init", str(tmp_path / "yamnet.safetensors"))
    )
    told = capsys.readouterr().err
    assert code == 0
    assert "not zero-shot in the strict sense" in told
    assert "yamnet.safetensors" in json.loads((tmp_path / "run" / "config.json").read_text())["init"]


@pytest.fixture
def part_of_esc50(tmp_path) -> Path:
    """Three of ESC-50's classes, five source recordings each, in one folder more than is given."""
    root, rng = tmp_path / "ESC-50" / "ESC-50-master", np.random.default_rng(0)
    rows = ["filename,fold,target,category,esc10,src_file,take"]
    for target, name, kind in ((1, "rooster", "tone"), (10, "rain", "noise"), (38, "clock_tick", "clicks")):
        for i in range(5):
            (root / "audio").mkdir(parents=True, exist_ok=True)
            soundfile.write(root / "audio" / f"{target}-{i}.wav", small_sound(kind, rng), RATE_HZ)
            rows.append(f"{target}-{i}.wav,{i + 1},{target},{name},True,{target}-{i},A")
    (root / "meta").mkdir()
    (root / "meta" / "esc50.csv").write_text("\n".join(rows))
    return root.parent


def test_a_part_of_a_data_set_is_trained_on_with_a_warning_and_a_record(part_of_esc50, tmp_path, capsys):
    more = ["--dataset", "ESC-50", "--data-dir", str(part_of_esc50), "--split", "cat0", "--epochs", "1"]
    assert main(arguments(part_of_esc50, tmp_path / "run", *more)) == 0
    warnings = [line for line in capsys.readouterr().err.splitlines() if line.startswith("warning: split cat0")]
    assert len(warnings) == 1
    split = RunConfig.load(tmp_path / "run").split
    assert (split.seen, split.unseen_test, len(split.missing)) == (("rain", "clock_tick"), ("rooster",), 47)
    assert all(name in warnings[0] for name in split.missing)


def test_a_split_none_of_whose_unseen_classes_is_there_is_refused_before_anything_is_written(
    part_of_esc50, tmp_path, capsys
):
    more = ["--dataset", "ESC-50", "--data-dir", str(part_of_esc50), "--split", "fold4"]
    one_line(capsys, main(arguments(part_of_esc50, tmp_path / "run", *more)), "split fold4", "none of the classes")
    assert not (tmp_path / "run").exists()


def test_weights_can_be_read_by_whoever_can_read_the_rest_of_the_run(run_folder):
    modes = {path.name: path.stat().st_mode for path in run_folder.iterdir() if path.is_file()}
    assert modes["weights.safetensors"] == modes["last.safetensors"] == modes["config.json"]


def test_a_second_training_in_the_same_folder_is_refused_and_harms_nothing(recordings, tmp_path, capsys):
    options = arguments(recordings, tmp_path / "run", "--epochs", "40")
    first = subprocess.Popen([sys.executable, "-m", "training.run", *options], stderr=subprocess.DEVNULL)
    try:
        while not (tmp_path / "run" / "metrics.jsonl").is_file():
            assert first.poll() is None
            time.sleep(0.05)
        before = (tmp_path / "run" / "config.json").read_bytes()
        for flag in ("--overwrite", "--resume"):
            one_line(capsys, main([*options, "--seed", "1", flag]), "another process is writing it", "--out")
        assert (tmp_path / "run" / "config.json").read_bytes() == before
        assert first.poll() is None
    finally:
        first.kill()
        first.wait()


def test_a_run_folder_that_appears_while_recordings_are_read_is_kept(recordings, tmp_path, capsys, monkeypatch):
    out = tmp_path / "run"
    load = training.run.load_run_input

    def load_slowly(*given):
        out.mkdir()
        (out / "config.json").write_text("of another run")
        return load(*given)

    monkeypatch.setattr("training.run.load_run_input", load_slowly)
    assert main(arguments(recordings, out)) == 2
    assert "another training has begun there; give another --out" in capsys.readouterr().err
    assert (out / "config.json").read_text() == "of another run"


def test_a_recording_of_an_unseen_class_that_a_seen_one_has_too_is_told(tmp_path, capsys):
    data = small_folder(tmp_path / "data", {"bell": "tone", "wind": "noise", "cat": "clicks"})
    shutil.copy(data / "bell" / "0.wav", data / "cat" / "0.wav")
    assert main(arguments(data, tmp_path / "run", "--unseen", "cat", "--epochs", "1")) == 0
    assert "1 recording has two labels, bell and cat" in " ".join(capsys.readouterr().err.split())
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["duplicates"] == 1


def test_only_the_unreadable_recording_is_left_out_however_alike_paths_end(tmp_path, capsys):
    data = small_folder(tmp_path / "data", {"owl": "tone", "birds": "noise"})
    shutil.copytree(data / "owl", data / "birds" / "owl")
    (data / "owl" / "0.wav").write_text("not audio")
    assert main(arguments(data, tmp_path / "run", "--epochs", "1", "--skip-unreadable")) == 0
    table = load_clips("folder", data)
    left = {clip.path for clip in RunConfig.load(tmp_path / "run").without_skipped(table).clips}
    assert {clip.path for clip in table.clips} - left == {data / "owl" / "0.wav"}


def test_an_encoder_that_lacks_the_vocabularys_words_is_told_before_a_run_is_replaced(recordings, tmp_path, capsys):
    words = {"tone": (3, 0, 1), "noise": (0, 2, 1), "clicks": (1, 1, 4)}
    (tmp_path / "w.txt").write_text("".join(f"{word} {' '.join(map(str, row))}\n" for word, row in words.items()))
    assert main(arguments(recordings, tmp_path / "run", "--epochs", "1")) == 0
    before = (tmp_path / "run" / "weights.safetensors").read_bytes()
    capsys.readouterr()
    more = ["--overwrite", "--objective", "text", "--vocabulary", "4", "--text", f"word2vec:{tmp_path / 'w.txt'}"]
    one_line(capsys, main(arguments(recordings, tmp_path / "run", *more)), "acoustic vocabulary", "--vocabulary 0")
    assert (tmp_path / "run" / "weights.safetensors").read_bytes() == before


def test_a_class_folder_without_a_name_is_refused_before_anything_is_written(tmp_path, capsys):
    data = small_folder(tmp_path / "data", {"_": "tone", "wind": "noise"})
    one_line(capsys, main(arguments(data, tmp_path / "run")), "'_'", "rename it")
    assert not (tmp_path / "run").exists()
