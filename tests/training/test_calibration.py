"""training.calibrate: what held-out clips say of probabilities, of unseen labels and of "none of these"."""

import json
import re
import shutil
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import soundfile

from serving.bundle.bundle import open_bundle
from serving.bundle.manifest import write_manifest
from serving.errors import RunError
from serving.zeroshot import unit_rows
from serving.zeroshot.zeroshot_file import read_zeroshot, write_zeroshot
from tests.bundle_copies import copy_bundle
from training.evaluation.cross_fits import CrossFit, CrossFits
from training.evaluation.open_labels import apply_calibration, calibrate, gini
from training.prototype_map import ClassSide, prototype_map
from training.run_folder import RunConfig, load_network

FROM_SCRATCH = Path(__file__).parents[2] / "demo" / "model-from-scratch"
NAMES = [f"class {i}" for i in range(16)]


def held_out_fits(noise: float) -> tuple[CrossFits, np.ndarray]:
    """Fits without a fold, or a fold and a group of classes, of embeddings that are linear in the texts, and noise."""
    rng = np.random.default_rng(0)
    texts = unit_rows(np.asarray(rng.standard_normal((16, 8)), np.float32))  # fewer numbers than classes
    labels = np.repeat(np.arange(16), 24)
    folds = np.tile(np.arange(4), 96)
    embeddings = texts[labels] @ rng.standard_normal((8, 32)) + noise * rng.standard_normal((384, 32))
    embeddings = embeddings.astype(np.float32)

    def fit(fold: int, unseen: np.ndarray) -> CrossFit:
        train = (folds != fold) & ~unseen[labels]
        fitted = prototype_map(ClassSide(NAMES, ~unseen, texts), (embeddings[train], labels[train]), 0.1)
        return CrossFit(replace(fitted, text_mean=np.zeros(8, np.float32)), embeddings, fold, unseen)

    groups = [np.arange(16) % 4 == group for group in range(4)]
    none = np.zeros(16, bool)
    pairs = [fit(fold, group) for group in groups for fold in range(4)]
    return CrossFits([fit(fold, none) for fold in range(4)], pairs, labels, folds), texts


def test_the_gini_coefficient_is_zero_for_equal_counts_and_near_one_for_a_single_hub():
    assert gini(np.full(10, 7)) == pytest.approx(0.0)
    assert gini(np.array([0] * 9 + [50])) == pytest.approx(0.9)


def test_held_out_clips_choose_a_temperature_with_a_small_error_and_a_threshold():
    fits, texts = held_out_fits(noise=0.8)
    chosen = calibrate(fits, NAMES, lambda labels: np.stack([texts[NAMES.index(label)] for label in labels]))
    scores = chosen.scores
    assert 0.5 < scores["seen_accuracy"] < 1  # chance: 1/16; noise makes some clips wrong
    assert scores["calibration_error_seen"] < 0.1  # 384 clips in ten bins: sampling alone gives 0.03
    assert scores["unseen_top1"]["2"] > scores["unseen_top1"]["3"] > scores["unseen_top1"]["16"] > 1 / 16
    assert scores["unseen_top5"]["16"] > scores["unseen_top1"]["16"]
    assert "5" not in scores["unseen_top1"]  # the groups have four classes
    assert scores["none_auroc"] > 0.8
    assert scores["none_kept_seen"] > 0.7
    assert scores["none_found_seen"] > 0.7
    assert -1 < chosen.threshold < 1


def test_without_a_relation_of_sound_and_text_nothing_is_recognised():
    fits, texts = held_out_fits(noise=1e3)
    chosen = calibrate(fits, NAMES, lambda labels: np.stack([texts[NAMES.index(label)] for label in labels]))
    assert abs(chosen.scores["none_auroc"] - 0.5) < 0.1
    assert abs(chosen.scores["unseen_top1"]["2"] - 0.5) < 0.1


def test_the_calibrated_map_has_what_was_chosen_and_refuses_what_is_like_no_class():
    fits, texts = held_out_fits(noise=0.3)
    chosen = calibrate(fits, NAMES, lambda labels: np.stack([texts[NAMES.index(label)] for label in labels]))
    fitted = replace(fits.without_folds[0].zeroshot, temperature=10.0, offset=2.0)
    calibrated = apply_calibration(fitted, chosen)
    assert (calibrated.temperature, calibrated.offset) == (chosen.temperature, chosen.offset)
    assert calibrated.balanced
    assert calibrated.threshold == chosen.threshold
    embeddings = fits.without_folds[0].embeddings
    similarities = calibrated.similarities(embeddings)
    offset = chosen.offset / chosen.temperature
    np.testing.assert_allclose(similarities, calibrated.cosines(embeddings) - offset, atol=1e-6)  # all classes are seen
    np.testing.assert_array_equal(calibrated.none_of_these(embeddings), similarities.max(axis=1) < chosen.threshold)
    away = calibrated.mean - 5 * (embeddings[fits.labels == 3].mean(axis=0) - calibrated.mean)
    assert calibrated.choose([NAMES[3]]).none_of_these(away[None])[0]
    assert not calibrated.choose([NAMES[3]]).none_of_these(embeddings[fits.labels == 3].mean(axis=0)[None])[0]


def test_too_few_classes_get_one_line(run_folder, tmp_path, capsys):
    from training.calibrate import main

    assert main([str(run_folder), "--cache-dir", str(tmp_path)]) == 2
    assert "calibration: got 3 classes; wanted 8 or more" in capsys.readouterr().err
    assert not (run_folder / "evaluation" / "calibration.json").exists()


def test_a_class_of_one_recording_is_named_before_recordings_are_decoded(calibrated, tmp_path, monkeypatch, capsys):
    from training.calibrate import main

    data = shutil.copytree(RunConfig.load(Path(calibrated[0])).data_dir, tmp_path / "data")
    table = data / "meta" / "esc50.csv"
    table.write_text(re.sub(",3,cow,False,[^,]+,", ",3,cow,False,one,", table.read_text()))
    monkeypatch.setattr("training.recordings.load_frames", lambda *_: pytest.fail("recordings are decoded"))
    assert main([*calibrated, "--data-dir", str(data)]) == 2
    assert "calibration: cow has one source recording only" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["calibrate", "evaluate"])
def test_a_run_that_cannot_be_written_gets_one_line_before_the_work(run_folder, tmp_path, capsys, command):
    run = Path(shutil.copytree(run_folder, tmp_path / "run", ignore=shutil.ignore_patterns("evaluation")))
    (run / "evaluation").write_text("a file in the way")
    main = import_module(f"training.{command}").main
    assert main([str(run), "--cache-dir", str(tmp_path / "cache")]) == 2
    (error,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert f"{run / 'evaluation'} cannot be written" in error


@pytest.fixture(scope="module")
def run_of_one_fold(tmp_path_factory) -> Path:
    """A run on ESC-50's layout with eight classes whose clips are all of fold 1."""
    from training.run import main

    root, rng = tmp_path_factory.mktemp("one-fold"), np.random.default_rng(0)
    (root / "audio").mkdir()
    (root / "meta").mkdir()
    rows = ["filename,fold,target,category,esc10,src_file,take"]
    for target, name in enumerate(("dog", "rooster", "pig", "cow", "frog", "cat", "hen", "crow")):
        for number in range(4):
            wave = 0.3 * np.sin(0.05 * (target + 1) * np.arange(16_000)) + 0.01 * rng.standard_normal(16_000)
            soundfile.write(root / "audio" / f"1-{target}{number}-A-{target}.wav", wave, 16_000)
            rows.append(f"1-{target}{number}-A-{target}.wav,1,{target},{name},False,{target}{number},A")
    (root / "meta" / "esc50.csv").write_text("\n".join(rows) + "\n")
    flags = f"--dataset ESC-50 --data-dir {root} --network yamnet-compact --objective classes --map ridge --epochs 1"
    flags += f" --vocabulary 0 --batch-size 8 --validation-share 0 --cache-dir {root / 'cache'} --out {root / 'run'}"
    assert main(flags.split()) == 0
    return root / "run"


@pytest.fixture
def calibrated(run_of_one_fold, tmp_path, monkeypatch) -> list[str]:
    """The command's arguments, for a copy of the run; its trainings are left out."""
    learned = load_network(run_of_one_fold, RunConfig.load(run_of_one_fold))
    monkeypatch.setattr("training.learner.Learner.learn_aside", lambda *_: learned)
    run = shutil.copytree(run_of_one_fold, tmp_path / "run")
    return [str(run), "--cache-dir", str(run_of_one_fold.parent / "cache")]


def test_folds_are_drawn_where_the_data_set_has_one_only(calibrated):
    from training.calibrate import main

    assert main(calibrated) == 0
    assert read_zeroshot(Path(calibrated[0]) / "zeroshot.npz").threshold is not None


def test_groups_of_classes_are_held_out_of_folds_that_have_clips_of_them(run_of_one_fold, tmp_path):
    from training.calibrate import main

    data = shutil.copytree(run_of_one_fold.parent, tmp_path / "data")
    table = data / "meta" / "esc50.csv"
    rows = [row.split(",") for row in table.read_text().splitlines()]
    for row in rows[1:]:  # fold 3 has clips of the first three classes only
        number = int(row[5][1])
        row[1] = str(number if number != 3 or int(row[2]) < 3 else 2)
    table.write_text("".join(",".join(row) + "\n" for row in rows))
    assert main([str(data / "run"), "--data-dir", str(data), "--cache-dir", str(data / "cache")]) == 0
    assert read_zeroshot(data / "run" / "zeroshot.npz").threshold is not None


def test_scores_are_not_written_beside_a_map_without_the_calibration(calibrated, monkeypatch, capsys):
    from training.calibrate import main

    def fail(path, save):
        raise RunError(f"{path}: cannot be written")

    scores = Path(calibrated[0]) / "evaluation" / "calibration.json"
    scores.parent.mkdir()
    scores.write_text("{}")  # of a calibration before: its map may be replaced when the command is killed
    monkeypatch.setattr("training.calibrate.save_whole", fail)
    assert main(calibrated) == 2
    assert "zeroshot.npz: cannot be written" in capsys.readouterr().err
    assert not scores.exists()


def test_the_scores_of_a_calibration_go_into_the_bundle(run_folder, tmp_path):
    from export.trained_run import load_scores

    run = tmp_path / "run"
    shutil.copytree(run_folder, run)
    (run / "evaluation").mkdir(exist_ok=True)
    scores = {"seen_accuracy": 0.5, "unseen_top1": {"2": 0.75}}
    (run / "evaluation" / "calibration.json").write_text(json.dumps({"scores": scores}))
    assert load_scores(run).items() >= scores.items()


def test_a_comparison_takes_nothing_that_the_run_was_calibrated_with(calibrated, capsys):
    from training.compare import main

    arguments, run = [*calibrated, "--bundle", str(FROM_SCRATCH)], Path(calibrated[0])
    assert main(arguments) == 0
    first = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert first["labels"] == 50
    assert first["classes"] == 6  # the bundle was fitted to dog and rooster
    assert 0 < first["recipe"]["words_without_sound_refused"] <= 1  # the fits have thresholds, the run has none
    fitted = read_zeroshot(run / "zeroshot.npz")
    assert fitted.threshold is None
    write_zeroshot(replace(fitted, temperature=1.0, offset=9.0, balanced=True, threshold=2.0), run / "zeroshot.npz")
    assert main(arguments) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1]) == first


def test_a_bundle_that_cannot_be_compared_is_refused_before_the_fits(calibrated, tmp_path, monkeypatch, capsys):
    from training.compare import main

    monkeypatch.setattr("training.compare.cross_fits", lambda *_: pytest.fail("the fits have begun"))
    fitted = copy_bundle(FROM_SCRATCH, tmp_path / "bundle", models=["fp32"])
    classes = RunConfig.load(Path(calibrated[0])).classes
    write_manifest(fitted, replace(open_bundle(fitted).manifest, seen_classes=classes, files={}))
    mute = copy_bundle(FROM_SCRATCH, tmp_path / "mute", models=["fp32"], text=False)
    for bundle, told in ((fitted, "was fitted to all 8 classes"), (mute, "no text"), (tmp_path / "none", "none")):
        assert main([*calibrated, "--bundle", str(bundle)]) == 2
        (error,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
        assert told in error
