"""Zero-shot scores against cases worked out by hand."""

import numpy as np
import pytest

from training.evaluation import scoring
from training.evaluation.scoring import area_under_tradeoff, best_offset, class_mean_accuracy, gzsl, tradeoff, zsl

# Classes 0 and 1 are seen, 2 and 3 unseen.
SEEN = np.array([True, True, False, False])
SCORES = np.array(
    [
        [0.9, 0.1, 0.3, 0.2],  # of class 0: right up to an offset of 0.6
        [0.2, 0.8, 0.1, 0.4],  # of class 1: right up to 0.4
        [0.7, 0.1, 0.6, 0.2],  # of class 2: right from 0.1 on
        [0.9, 0.1, 0.1, 0.4],  # of class 3: right from 0.5 on
    ]
)
LABELS = np.array([0, 1, 2, 3])


def test_zsl_asks_for_unseen_classes_only():
    assert zsl(SCORES, LABELS, SEEN) == 1.0
    assert zsl(SCORES[:, [0, 1, 3, 2]], LABELS, SEEN) == 0.0


def test_accuracy_is_a_mean_over_classes_not_over_clips():
    labels = np.array([0, 0, 0, 1])
    assert class_mean_accuracy(np.array([0, 0, 0, 0]), labels) == 0.5
    with pytest.raises(ValueError, match="no clips"):
        class_mean_accuracy(np.array([], int), np.array([], int))


@pytest.mark.parametrize(
    ("offset", "seen", "unseen"), [(0.0, 1.0, 0.0), (0.2, 1.0, 0.5), (0.45, 0.5, 0.5), (0.55, 0.5, 1.0), (0.7, 0, 1.0)]
)
def test_an_offset_moves_guesses_from_seen_to_unseen(offset, seen, unseen):
    scored = gzsl(SCORES, LABELS, SEEN, offset)
    assert (scored.seen, scored.unseen) == (seen, unseen)
    wanted = 2 * seen * unseen / (seen + unseen) if seen + unseen else 0.0
    assert scored.harmonic_mean == pytest.approx(wanted)


def test_the_best_offset_has_the_largest_harmonic_mean():
    offset = best_offset(SCORES, LABELS, SEEN)
    found = gzsl(SCORES, LABELS, SEEN, offset).harmonic_mean
    assert found == max(gzsl(SCORES, LABELS, SEEN, some).harmonic_mean for some in np.linspace(-1, 1, 401))
    assert found == pytest.approx(2 / 3)


def test_the_curve_runs_from_all_seen_to_all_unseen():
    curve = tradeoff(SCORES, LABELS, SEEN)
    assert (curve[0].seen, curve[0].unseen) == (1.0, 0.0)
    assert (curve[-1].seen, curve[-1].unseen) == (0.0, 1.0)
    assert area_under_tradeoff(curve) == pytest.approx(0.75)


def test_perfect_scores_have_the_whole_area():
    perfect = np.eye(4)
    assert area_under_tradeoff(tradeoff(perfect, LABELS, SEEN)) == pytest.approx(1.0)


@pytest.mark.parametrize("kind", ["float32", "float64", "ties"])
def test_every_point_of_the_curve_is_the_score_with_its_offset(kind, monkeypatch):
    monkeypatch.setattr(scoring, "POINTS_AT_A_TIME", 50)
    rng = np.random.default_rng(0)
    for n, n_classes, n_seen in ((200, 4, 2), (331, 17, 12), (75, 30, 5)):
        seen = rng.permutation(n_classes) < n_seen
        labels = np.arange(n) % n_classes
        scores = rng.normal(0, 0.3, (n, n_classes)) + 0.3 * np.eye(n_classes)[labels]
        scores = np.round(scores, 1) if kind == "ties" else scores
        scores = scores if kind == "float64" else scores.astype(np.float32)
        curve = tradeoff(scores, labels, seen)
        gaps = np.unique(scores[:, seen].max(axis=1) - scores[:, ~seen].max(axis=1))
        assert len(curve) == len(gaps) + 1
        assert all(low.offset <= gap <= high.offset for low, gap, high in zip(curve, gaps, curve[1:], strict=False))
        assert curve == [gzsl(scores, labels, seen, point.offset) for point in curve]


def test_a_curve_of_many_clips_scores_them_once(monkeypatch):
    """A few passes over the scores: to score 20 000 clips with each of their offsets takes minutes."""
    monkeypatch.setattr(scoring, "gzsl", lambda *_: pytest.fail("scored all clips again"))
    rng = np.random.default_rng(0)
    labels, seen = np.arange(20_000) % 20, np.arange(20) < 14
    curve = tradeoff(rng.normal(0, 0.3, (20_000, 20)) + np.eye(20)[labels], labels, seen)
    assert 19_000 < len(curve) <= 20_001
    assert (curve[0].unseen, curve[-1].seen) == (0, 0)
