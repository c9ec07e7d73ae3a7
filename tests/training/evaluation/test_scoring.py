"""Zero-shot scores against cases worked out by hand."""

import numpy as np
import pytest

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
