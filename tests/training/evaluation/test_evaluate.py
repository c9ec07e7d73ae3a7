"""The evaluation command on a small data set with recording folds, and the text objective that it judges."""

import csv
import json
import shutil
import subprocess
import sys
from functools import partial
from math import comb
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from safetensors.torch import load_file, save_file

from export.trained_run import load_scores
from serving.errors import RunError, UsageError
from serving.zeroshot import ZeroShot
from serving.zeroshot.zeroshot_file import read_zeroshot
from training.evaluate import main as evaluate
from training.evaluation.folds import Folds, FoldScore
from training.evaluation.holdouts import check_holdouts, draw_holdouts
from training.learner import Learner
from training.prototype_map import typed_projection
from training.run import main as train
from training.synthesis.vocabulary import RATE_HZ
from training.text_encoders import text_encoder
from training.zeroshot_maps import fit_zeroshot

# Names whose descriptions the text encoder knows, and sounds that are easily told apart.
CLASSES = ("clock_tick", "rain", "siren", "engine", "wind", "crickets")
COLUMNS = ("filename", "fold", "target", "category", "esc10", "src_file", "take")


def sound(name: str, rng: np.random.Generator) -> np.ndarray:
    time = np.arange(RATE_HZ * 2) / RATE_HZ
    noise = rng.standard_normal(len(time))
    match name:
        case "clock_tick":
            wave = np.where(np.arange(len(time)) % int(rng.integers(5000, 8000)) < 40, 0.8 * noise, 0.0)
        case "rain":
            wave = 0.3 * noise
        case "siren":
            wave = np.sin(2 * np.pi * (700 * time + 100 * np.sin(2 * np.pi * rng.uniform(0.3, 1) * time)))
        case "engine":
            wave = sum(np.sin(2 * np.pi * k * rng.uniform(58, 62) * time) / k for k in range(1, 12))
        case "wind":
            wave = np.convolve(noise, np.ones(60) / 20, "same")
        case _:
            wave = np.sin(2 * np.pi * 4000 * time) * (np.sin(2 * np.pi * rng.uniform(15, 25) * time) > 0)
    return np.clip(0.5 * wave + 1e-3 * noise, -1, 1).astype(np.float32)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """ESC-50's layout: 6 classes, 4 folds, 2 clips each."""
    root, rng = tmp_path_factory.mktemp("esc"), np.random.default_rng(0)
    (root / "audio").mkdir()
    (root / "meta").mkdir()
    with (root / "meta" / "esc50.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(COLUMNS)
        for target, name in enumerate(CLASSES):
            for number in range(8):
                filename = f"{number % 4 + 1}-{target}{number}-A-{target}.wav"
                soundfile.write(root / "audio" / filename, sound(name, rng), RATE_HZ)
                table.writerow((filename, number % 4 + 1, target, name, "True", f"{target}{number}", "A"))
    return root


def own_folder(place: Path) -> Path:
    """A folder of four classes of one's own, without attributes; 4 clips each."""
    rng = np.random.default_rng(1)
    kinds = {"old clock": "clock_tick", "tin roof": "rain", "alarm horn": "siren", "night insects": "crickets"}
    for name, kind in kinds.items():
        (place / "own" / name).mkdir(parents=True)
        for number in range(4):
            soundfile.write(place / "own" / name / f"{number}.wav", sound(kind, rng), RATE_HZ)
    return place / "own"


def options(folder: Path, out: Path, *more: str) -> list[str]:
    fixed = f"--dataset ESC-50 --data-dir {folder} --network yamnet-compact --test-fold 4 --vocabulary 24"
    fixed += f" --vocabulary-epochs 2 --epochs 2 --batch-size 8 --cache-dir {out.parent / 'cache'} --out {out}"
    return [*fixed.split(), *more]


@pytest.fixture(scope="module")
def run(folder, tmp_path_factory) -> Path:
    """A run with the text objective and two unseen classes."""
    out = tmp_path_factory.mktemp("runs") / "run"
    assert train(options(folder, out, "--unseen", "rain,siren")) == 0
    return out


@pytest.fixture
def learned(run, tmp_path) -> Path:
    """A folder for runs whose cache has what `run` computed: log-mels, the vocabulary, the network that learned it."""
    shutil.copytree(run.parent / "cache", tmp_path / "cache")
    return tmp_path


def cache(run: Path) -> list[str]:
    return ["--cache-dir", str(run.parent / "cache")]


def test_the_map_of_a_text_run_without_attributes_ranks_as_its_head_does(folder, learned):
    out = learned / "run"
    assert train(options(folder, out, "--unseen", "rain,siren", "--attributes", "none")) == 0
    zeroshot = read_zeroshot(out / "zeroshot.npz")
    weights = load_file(out / "weights.safetensors")
    embedding = np.random.default_rng(0).standard_normal((5, 128)).astype(np.float32)
    projected = embedding @ weights["head.projection.weight"].numpy().T
    projected /= np.linalg.norm(projected, axis=1, keepdims=True)
    wanted = projected @ weights["head.class_vectors"].numpy().T * np.exp(weights["head.log_scale"].item())
    np.testing.assert_allclose(zeroshot.scores(embedding, zeroshot.seen_names), wanted, atol=1e-4)
    assert set(zeroshot.class_names) == set(CLASSES)
    assert len(zeroshot.seen_names) == 4
    assert zeroshot.given_targets is None
    assert evaluate([str(out), *cache(out)]) == 0
    assert json.loads((out / "evaluation" / "report.json").read_text())["run"]["zsl_texts_alone"] is None


def test_attributes_place_the_classes_of_a_text_run_and_its_head_and_the_lexicon_typed_labels(run):
    zeroshot = read_zeroshot(run / "zeroshot.npz")
    weights = load_file(run / "weights.safetensors")
    assert set(json.loads((run / "config.json").read_text())["attributes"]) == set(CLASSES)
    assert zeroshot.given_targets.any(axis=1).all()
    stretched = np.linalg.svd(zeroshot.projection, compute_uv=False)
    assert stretched[0] > 1.5 * stretched[-1]  # half whitened: some directions count less than others
    alone = ZeroShot(
        zeroshot.mean, zeroshot.projection, zeroshot.class_names, zeroshot.class_vectors, zeroshot.seen, 1.0,
        zeroshot.text_mean, weights["head.projection.weight"].numpy() @ zeroshot.projection,
    )  # fmt: skip
    labels = ["frying", "sizzling meat", "growling dog", "whispering"]
    by_words, by_head = (each.choose(labels, text_encoder("glove+minilm")).targets for each in (zeroshot, alone))
    assert 0.3 < float((by_words * by_head).sum(axis=1).mean()) < 0.95  # the lexicon's words take part beside the head


@pytest.mark.parametrize("objective", ["text", "classes"])
def test_classes_of_ones_own_need_no_attributes_for_the_lexicon(objective, tmp_path):
    own = own_folder(tmp_path)
    out = tmp_path / "run"
    flags = f"--dataset folder --data-dir {own} --network yamnet-compact --objective {objective} --epochs 1"
    flags += f" --batch-size 4 --validation-share 0.25 --vocabulary {12 * (objective == 'text')} --vocabulary-epochs 1"
    assert train([*flags.split(), "--unseen", "tin roof,alarm horn", *cache(out), "--out", str(out)]) == 0
    config = json.loads((out / "config.json").read_text())
    assert (config["lexicon"], config["attributes"]) == (True, {})
    assert config["map"] == (None if objective == "text" else "prototypes")
    zeroshot = read_zeroshot(out / "zeroshot.npz")
    np.testing.assert_array_equal(zeroshot.given_targets.any(axis=1), zeroshot.seen)  # texts place the unseen ones
    assert evaluate([str(out), *cache(out)]) == 0
    scores = json.loads((out / "evaluation" / "report.json").read_text())["run"]
    assert 0 <= scores["zsl_names_alone"] <= 1


def test_one_run_is_scored_with_its_controls_and_figures(run, capsys):
    assert evaluate([str(run), *cache(run)]) == 0
    line = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert line["zsl_chance"] == 0.5
    for name in (
        "seen_accuracy",
        "zsl",
        "zsl_texts_alone",
        "zsl_names_alone",
        "zsl_no_network",
        "zsl_random_vectors",
        "gzsl_area",
    ):
        assert 0 <= line[name] <= 1
    out = run / "evaluation"
    for name in ("confusion.png", "map.png", "tradeoff.png"):
        assert (out / name).read_bytes().startswith(b"\x89PNG")
    report = (out / "report.md").read_text()
    assert "control: no network" in report
    scored = json.loads((out / "report.json").read_text())["run"]
    n_seen, n_unseen = scored["n_seen_clips"], scored["n_unseen_clips"]
    assert 0 < n_seen < n_unseen  # a part of the seen classes' clips, and every clip of the unseen ones
    assert f"on {n_seen} {scored['seen_clips']} clips of " in report
    assert f"on {n_unseen} clips of 2 unseen classes." in report
    assert f"{100 * line['zsl']:.1f} %" in report
    assert json.loads((out / "report.json").read_text())["run"]["zsl"] == line["zsl"]


def test_hold_outs_go_on_where_they_were_interrupted(run, capsys):
    arguments = [str(run), *cache(run), "--holdouts", "2", "--unseen-classes", "2", "--seeds", "0"]
    assert evaluate(arguments) == 0
    first = json.loads(capsys.readouterr().out.splitlines()[-1])
    (parts,) = (run / "evaluation").glob("holdouts-*")
    done = sorted(parts.glob("holdout-*.json"))
    assert len(done) == 2
    lines = json.loads(done[0].read_text())
    assert [line["method"] for line in lines] == ["network", "no network", "random vectors"]
    before = done[0].stat().st_mtime_ns
    done[1].unlink()
    assert evaluate(arguments) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1]) == first
    assert done[0].stat().st_mtime_ns == before
    assert "less no network" in (run / "evaluation" / "report.md").read_text()


def test_unseen_classes_are_never_trained_on(run, tmp_path, monkeypatch):
    out, trained, learn = Path(shutil.copytree(run, tmp_path / "run")), [], Learner.learn

    def learn_and_note(self, config, clips, *arguments):
        trained.append({CLASSES[clip.label] for clip in (*clips.train, *clips.validation)})
        network, history = learn(self, config, clips, *arguments)
        assert len(network.head.class_vectors) == len(trained[-1])
        return network, history

    shutil.rmtree(out / "evaluation", ignore_errors=True)
    monkeypatch.setattr(Learner, "learn", learn_and_note)
    # Nobody resumes these trainings: checkpoints of all of them would take terabytes.
    monkeypatch.setattr("training.fit.checkpoint.save_file", lambda *_: pytest.fail("wrote tensors"))
    assert evaluate([str(out), *cache(run), "--holdouts", "1", "--unseen-classes", "2"]) == 0
    (part,) = (out / "evaluation").glob("holdouts-*/*.json")
    unseen = set(json.loads(part.read_text())[0]["unseen_classes"])
    outer, inner = trained
    assert outer == set(CLASSES) - unseen
    assert inner < outer
    assert len(inner) == 2  # four seen classes less two
    assert [path.name for path in part.parent.iterdir() if path.suffix != ".lock"] == [part.name]  # no network stays


def test_evaluations_of_several_seeds_at_the_same_time_do_not_meet(run, learned, monkeypatch):
    from training.fit.loop import _Training

    alone, both = (Path(shutil.copytree(run, learned / name)) for name in ("alone", "both"))
    for out in (alone, both):
        shutil.rmtree(out / "evaluation", ignore_errors=True)
    arguments, save, others = [*cache(both), "--holdouts", "1", "--unseen-classes", "2", "--seeds"], _Training.save, [1]
    assert evaluate([str(alone), *arguments, "0"]) == 0

    def save_beside_another(self, history, folder):
        save(self, history, folder)
        while others:
            assert evaluate([str(both), *arguments, str(others.pop())]) == 0

    monkeypatch.setattr(_Training, "save", save_beside_another)
    assert evaluate([str(both), *arguments, "0"]) == 0
    report = json.loads((both / "evaluation" / "report.json").read_text())
    assert {line["seed"] for line in report["holdouts"]} == {0, 1}
    of_seed = [line for line in report["holdouts"] if line["seed"] == 0]
    assert of_seed == json.loads((alone / "evaluation" / "report.json").read_text())["holdouts"]


def test_folds_are_scored_beside_the_control(folder, learned, capsys):
    out = learned / "run"
    assert train(options(folder, out, "--objective", "classes", "--epochs", "2", "--validation-share", "0")) == 0
    summary = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert summary["validation_accuracy"] is None
    assert summary["best_epoch"] == 2
    assert evaluate([str(out), *cache(out), "--folds", "--seeds", "0,1"]) == 0
    line = json.loads(capsys.readouterr().out.splitlines()[-1])
    scores = json.loads((out / "evaluation" / "report.json").read_text())["folds"]
    assert [(score["fold"], score["seed"]) for score in scores] == [(f, s) for s in (0, 1) for f in (1, 2, 3, 4)]
    assert line["folds_accuracy"] == pytest.approx(np.mean([score["accuracy"] for score in scores]))
    assert np.mean([score["statistics"] for score in scores]) > 0.8  # the sounds are easy
    assert line["folds_map_accuracy"] == pytest.approx(np.mean([score["map_accuracy"] for score in scores]))
    report = (out / "evaluation" / "report.md").read_text()
    assert f"| all | {line['folds_accuracy']:.1%}".replace("%", " %") in report
    assert "| all, seed 1 |" in report
    scores = load_scores(out)  # what an export puts on the model card
    assert scores["folds_accuracy"] == line["folds_accuracy"]
    assert None not in scores.values()  # the run kept no validation clips


@pytest.mark.parametrize("change", ["a recording", "a fold", "the precision"])
def test_scores_are_stored_for_the_recordings_and_the_precision_that_gave_them(
    folder, run, tmp_path, monkeypatch, change
):
    out, data = (Path(shutil.copytree(place, tmp_path / place.name)) for place in (run, folder))
    shutil.rmtree(out / "evaluation", ignore_errors=True)
    scored = []

    def score(self, fold, seed):
        scored.append(fold)
        return FoldScore(fold, seed, 0.5, 0.5, 0.5)

    monkeypatch.setattr(Folds, "_score", score)
    arguments = [str(out), *cache(run), "--data-dir", str(data), "--folds"]
    for _ in range(2):
        assert evaluate(arguments) == 0
        assert scored == [1, 2, 3, 4]
    table = data / "meta" / "esc50.csv"
    match change:
        case "a recording":
            soundfile.write(data / "audio" / "1-00-A-0.wav", sound("clock_tick", np.random.default_rng(9)), RATE_HZ)
        case "a fold":
            table.write_text(table.read_text().replace("1-00-A-0.wav,1,", "1-00-A-0.wav,2,"))
        case _:
            arguments += ["--precision", "bf16"]
    assert evaluate(arguments) == 0
    assert scored == 2 * [1, 2, 3, 4]


def test_class_numbers_begin_with_what_the_vocabulary_taught(folder, tmp_path, capsys):
    out = tmp_path / "run"
    assert train(options(folder, out, "--objective", "classes", "--epochs", "1")) == 0
    (learned,) = (tmp_path / "cache").glob("pretrained-*/weights.safetensors")
    assert load_file(learned)["head.projection.weight"].shape[1] == 128  # it compared with texts
    assert load_file(out / "weights.safetensors")["head.1.weight"].shape == (6, 128)  # and the run with numbers
    learned.unlink()
    assert (
        train(options(folder, out, "--objective", "classes", "--epochs", "1", "--vocabulary", "0", "--overwrite")) == 0
    )
    assert not learned.exists()


def test_hold_outs_fit_the_runs_map_and_the_controls_keep_ridge(folder, learned, monkeypatch):
    out = learned / "run"
    assert train(options(folder, out, "--objective", "classes", "--epochs", "1", "--map", "eszsl")) == 0
    fitted = {"training.map_fit": [], "training.evaluation.controls": []}  # the network's maps, and the controls'
    for module, kinds in fitted.items():
        spy = partial(_fit_and_note, fit_zeroshot, kinds)
        monkeypatch.setattr(f"{module}.fit_zeroshot", spy)
    assert evaluate([str(out), *cache(out), "--holdouts", "1", "--unseen-classes", "2"]) == 0
    assert fitted["training.map_fit"] == ["eszsl", "eszsl"]  # of the training, and of the one that chooses the offset
    assert set(fitted["training.evaluation.controls"]) == {"ridge"}


def _fit_and_note(real, kinds, classes, train, validation=None, kind="ridge"):
    kinds.append(kind)
    return real(classes, train, validation, kind)


@pytest.mark.parametrize(
    ("flags", "parts"),
    [
        (["--seeds", "a"], ["seeds", "0,1,2"]),
        (["--seeds", "1,1"], ["seeds", "different"]),
        (["--seeds", "4294967296"], ["seeds: got 4294967296", "0 to 4294967295"]),
        (["--holdouts", "-1"], ["holdouts: got -1"]),
        (["--holdouts", "2", "--holdout-seed", "-1"], ["holdout seed: got -1"]),
        (["--holdouts", "16", "--unseen-classes", "2"], ["holdouts: got 16", "6 classes have 15 sets of 2"]),
        (["--holdouts", "2", "--unseen-classes", "5"], ["unseen classes: got 5 of 6", "2 to 2"]),
    ],
)
def test_wrong_input_gets_one_line(run, flags, parts, capsys):
    assert evaluate([str(run), *cache(run), *flags]) == 2
    error = capsys.readouterr().err.strip().splitlines()
    assert len(error) == 1
    for part in parts:
        assert part in error[0]


def test_wrong_flags_are_refused_before_the_recordings_are_decoded(run, monkeypatch, capsys):
    monkeypatch.setattr("training.recordings.load_frames", lambda *_: pytest.fail("recordings are decoded"))
    for flags, told in (
        (["--device", "moon"], "device: got moon"),
        (["--precision", "fp12"], "precision: got fp12"),
        (["--folds", "--holdouts", "20", "--unseen-classes", "99"], "unseen classes: got 99 of 6"),
    ):
        assert evaluate([str(run), *cache(run), *flags]) == 2
        (error,) = capsys.readouterr().err.strip().splitlines()
        assert told in error


@pytest.mark.parametrize("flags", [["--folds"], ["--holdouts", "1"]])
def test_a_data_set_without_recording_folds_is_told_which_scores_it_can_have(run_folder, flags, capsys):
    assert evaluate([str(run_folder), *cache(run_folder), *flags]) == 2
    (error,) = capsys.readouterr().err.strip().splitlines()
    assert f"{flags[0]}: folder has no recording folds" in error
    assert "training.run --unseen" in error


def test_holdouts_of_too_few_classes_are_refused():
    with pytest.raises(UsageError, match="holdouts: got a data set of 5 classes; wanted 6 or more"):
        check_holdouts(5, 1, 2)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("config.json", "[]", "not a run's configuration"),
        ("config.json", "[" * 100_000, "not a run's configuration"),
        ("weights.safetensors", None, "not yamnet-compact's weights"),
    ],
)
def test_a_run_folder_that_is_damaged_is_named(run, tmp_path, capsys, name, content, words):
    shutil.copytree(run, tmp_path / "run")
    if content is None:
        save_file({"head.weight": torch.zeros(1)}, tmp_path / "run" / name)
    else:
        (tmp_path / "run" / name).write_text(content)
    assert evaluate([str(tmp_path / "run"), *cache(run)]) == 2
    (error,) = capsys.readouterr().err.strip().splitlines()
    assert name in error
    assert words in error


def test_a_run_that_was_interrupted_is_not_scored(run, tmp_path, capsys):
    shutil.copytree(run, tmp_path / "run")
    (tmp_path / "run" / "summary.json").unlink()
    (tmp_path / "run" / "zeroshot.npz").unlink()
    assert evaluate([str(tmp_path / "run"), *cache(run)]) == 2
    (error,) = capsys.readouterr().err.strip().splitlines()
    assert error.endswith("the training did not finish; continue it with: training.run ... --resume")


def test_clips_are_not_called_held_back_where_the_folder_has_others_than_the_training(folder, learned, capsys):
    data, out = shutil.copytree(folder, learned / "data"), learned / "run"
    assert train(options(data, out, "--unseen", "rain,siren", "--epochs", "1")) == 0
    table = data / "meta" / "esc50.csv"
    rows = table.read_text().splitlines()
    gone = next(number for number, row in enumerate(rows) if ",engine," in row and ",1," in row)
    table.write_text("\n".join(rows[:gone] + rows[gone + 1 :]) + "\n")
    told = "recordings were added, removed or renamed since the training"
    assert evaluate([str(out), *cache(out)]) == 2
    assert told in capsys.readouterr().err
    assert train(options(data, out, "--unseen", "rain,siren", "--epochs", "1", "--resume")) == 2
    assert told in capsys.readouterr().err


def test_folds_without_a_clip_of_a_seen_class_are_neither_tested_on_nor_counted(folder, learned, capsys):
    data, out = shutil.copytree(folder, learned / "data"), learned / "run"
    table = data / "meta" / "esc50.csv"
    rows = table.read_text().splitlines()
    unseen = (",rain,", ",siren,")
    table.write_text("\n".join(row for row in rows if row[0] != "3" or any(name in row for name in unseen)) + "\n")
    flags = ["--unseen", "rain,siren", "--objective", "classes", "--vocabulary", "0", "--epochs", "1"]
    assert train([*options(data, out, *flags), "--test-fold", "3"]) == 2
    assert "test fold: got 3; the seen classes of ESC-50 have 1, 2, 4" in capsys.readouterr().err
    assert train(options(data, out, *flags)) == 0
    assert evaluate([str(out), *cache(out), "--folds"]) == 0
    report = json.loads((out / "evaluation" / "report.json").read_text())
    assert [score["fold"] for score in report["folds"]] == [1, 2, 4]


def test_the_control_of_classes_without_attributes_knows_what_the_networks_map_knows(tmp_path, monkeypatch):
    own = own_folder(tmp_path)
    fixed = f"--dataset folder --data-dir {own} --network yamnet-compact --objective classes --epochs 1"
    fixed += f" --unseen alarm_horn,tin_roof --vocabulary 0 --cache-dir {tmp_path / 'cache'} --out {tmp_path / 'run'}"
    assert train(fixed.split()) == 0
    placed = []

    def spy(classes, words, *rest):
        placed.append(len(words.vectors))
        return typed_projection(classes, words, *rest)

    monkeypatch.setattr("training.evaluation.controls.typed_projection", spy)
    assert evaluate([str(tmp_path / "run"), "--cache-dir", str(tmp_path / "cache")]) == 0
    (lexicon,) = placed  # of the control without a network; random class vectors know no words
    assert lexicon > 300


def test_a_report_that_lacks_its_scores_is_named(tmp_path):
    (tmp_path / "summary.json").write_text('{"validation_accuracy": 0.5}')
    (tmp_path / "evaluation").mkdir()
    (tmp_path / "evaluation" / "report.json").write_text('{"folds": [{"fold": 1, "seed": 0, "accuracy": 0.5}]}')
    with pytest.raises(RunError, match=r"report\.json: is damaged.*training\.evaluate again"):
        load_scores(tmp_path)


def test_hold_outs_are_different_sets_of_classes():
    for n_classes in (6, 22):  # few enough to list them, and more
        names = [f"class {i}" for i in range(n_classes)]
        every = comb(n_classes, 2)
        drawn = draw_holdouts(names, every, 2)
        assert len(set(drawn)) == every
        assert draw_holdouts(names, 5, 2) == drawn[:5]
        with pytest.raises(ValueError, match=f"{every} sets"):
            draw_holdouts(names, every + 1, 2)


def test_trainings_that_share_a_cache_take_turns(folder, tmp_path):
    """Both want the same log-mels, the same vocabulary and the same network that learned it."""
    commands = [[sys.executable, "-m", "training.run", *options(folder, tmp_path / name)] for name in ("one", "two")]
    running = [
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=_environment())
        for command in commands
    ]
    try:
        outputs = [process.communicate(timeout=300) for process in running]
    finally:
        for process in running:
            process.kill()
    assert [process.returncode for process in running] == [0, 0], outputs
    told = "".join(error for _, error in outputs)
    assert told.count("the acoustic vocabulary first") == 1
    assert "another process is writing it" in told
    one, two = (load_file(tmp_path / name / "weights.safetensors") for name in ("one", "two"))
    assert all((one[name] == two[name]).all() for name in one)


def test_a_damaged_checkpoint_in_the_cache_is_made_again(folder, learned):
    assert train(options(folder, learned / "run")) == 0
    (weights,) = (learned / "cache").glob("pretrained-*/weights.safetensors")
    weights.unlink()
    weights.with_name("last.safetensors").write_bytes(b"cut off")
    assert train(options(folder, learned / "again")) == 0
    one, two = (load_file(learned / name / "weights.safetensors") for name in ("run", "again"))
    assert all((one[name] == two[name]).all() for name in one)


def test_a_text_run_interrupted_while_it_learns_goes_on_to_the_same_weights(folder, learned, monkeypatch):
    from training.fit.loop import _Training

    save = _Training.save

    def save_and_stop(self, history, run):
        save(self, history, run)
        if len(history) == 2:
            raise KeyboardInterrupt

    assert train(options(folder, learned / "whole", "--epochs", "4")) == 0
    with monkeypatch.context() as patched:
        patched.setattr(_Training, "save", save_and_stop)
        assert train(options(folder, learned / "half", "--epochs", "4")) == 130
    metrics = learned / "half" / "metrics.jsonl"
    assert len(metrics.read_text().splitlines()) == 2
    assert train(options(folder, learned / "half", "--epochs", "4", "--resume")) == 0
    assert len(metrics.read_text().splitlines()) == 4
    whole, half = (load_file(learned / name / "weights.safetensors") for name in ("whole", "half"))
    assert all((whole[name] == half[name]).all() for name in whole)


def test_two_processes_share_a_batch_and_end_where_one_does(folder, tmp_path):
    """The same global batch, so the same losses: within 1e-3, for sums are taken in another order.

    With a small learning rate, for AdamW makes steps of full size of the smallest gradients, rounding included: at
    1e-4 the losses were 4e-5 apart after one epoch and 1.1e-3 after five.
    """
    common = ("--epochs", "2", "--dropout", "0", "--learning-rate", "1e-5")
    assert train(options(folder, tmp_path / "one", *common)) == 0
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    arguments = [*launch, "-m", "training.run", *options(folder, tmp_path / "two", *common)]
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=300, env=_environment())
    assert done.returncode == 0, done.stderr[-2000:]
    assert len([line for line in done.stdout.splitlines() if line.startswith("{")]) == 1
    one, two = (
        [json.loads(line) for line in (tmp_path / name / "metrics.jsonl").read_text().splitlines()]
        for name in ("one", "two")
    )
    for name in ("train_loss", "validation_loss"):
        np.testing.assert_allclose([e[name] for e in two], [e[name] for e in one], rtol=0, atol=1e-3)


def _environment() -> dict[str, str]:
    import os

    return os.environ | {"OMP_NUM_THREADS": "1"}
