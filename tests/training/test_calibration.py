"""training.calibrate: what held-out clips say of probabilities, of unseen labels and of "none of these"."""

import json
from dataclasses import replace

import numpy as np
import pytest

from serving.zeroshot import unit_rows
from training.evaluation.cross_fits import CrossFit, CrossFits
from training.evaluation.open_labels import apply_calibration, calibrate, gini
from training.prototype_map import ClassSide, prototype_map

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


def test_the_scores_of_a_calibration_go_into_the_bundle(run_folder, tmp_path):
    import shutil

    from export.trained_run import load_scores

    run = tmp_path / "run"
    shutil.copytree(run_folder, run)
    (run / "evaluation").mkdir(exist_ok=True)
    scores = {"seen_accuracy": 0.5, "unseen_top1": {"2": 0.75}}
    (run / "evaluation" / "calibration.json").write_text(json.dumps({"scores": scores}))
    assert load_scores(run).items() >= scores.items()
