"""training.evaluation.mixed_labels: one offset for lists of seen and unseen labels of any numbers."""

from dataclasses import replace

import numpy as np
import pytest

from serving.zeroshot import ZeroShot
from training.evaluation.cross_fits import CrossFit, CrossFits
from training.evaluation.mixed_labels import MixedLabels

CLASSES, GROUPS, CLIPS = 24, 4, 40
TEMPERATURE = 10.0
OWN = 0.3
LEAD = 0.2  # cosines to labels of seen classes are larger by this much, whatever the sound


def biased_fits(lead: float) -> CrossFits:
    """Fits whose cosines are normally distributed around OWN for a clip's own label and around 0 for the others.

    With a variance of OWN / TEMPERATURE, the logarithm of the ratio of both densities is TEMPERATURE times the cosine,
    plus a constant. So the softmax of TEMPERATURE times cosines is the true probability, and the offset is the lead.
    """
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(CLASSES), CLIPS)
    folds = np.tile(np.arange(GROUPS), len(labels) // GROUPS)
    noise = rng.normal(0, np.sqrt(OWN / TEMPERATURE), (len(labels), CLASSES))
    own = OWN * np.eye(CLASSES)[labels]
    fits = []
    for group in range(GROUPS):
        unseen = np.arange(CLASSES) % GROUPS == group
        cosines = (own + noise + lead * ~unseen).astype(np.float32)
        fits += [CrossFit(Given(cosines, ~unseen), cosines, fold, unseen) for fold in range(GROUPS)]
    return CrossFits([], fits, labels, folds)


class Given(ZeroShot):
    """A map whose embeddings are the cosines."""

    def __init__(self, cosines, seen):
        rows = np.eye(CLASSES, dtype=np.float32)
        super().__init__(rows[0], rows, [f"class {i}" for i in range(CLASSES)], rows, seen, 1.0)

    def cosines(self, embeddings):
        return embeddings


@pytest.mark.parametrize("lead", [0.0, LEAD])
def test_the_offset_is_what_seen_classes_score_too_high(lead):
    mixed = MixedLabels(biased_fits(lead), TEMPERATURE)
    # 960 clips: the harmonic mean is flat within 0.03 of its best offset (three seeds: 0.01 to 0.02 away).
    assert mixed.best_offset(mixed.groups) == pytest.approx(lead, abs=0.04)


def test_scores_have_the_numbers_of_both_kinds_of_labels_as_far_as_there_are_classes():
    scores = MixedLabels(biased_fits(LEAD), TEMPERATURE).scores()
    assert set(scores["mixed_seen"]) == {"1+1", "2+1", "3+2", "5+5", "4+1", "9+1", "1+4"}  # 18 seen and 6 unseen
    for seen, unseen, mean in zip(*(scores[f"mixed_{name}"].values() for name in ("seen", "unseen", "harmonic_mean")),
                                  strict=True):  # fmt: skip
        assert 0 < mean <= 1
        assert mean == pytest.approx(2 * seen * unseen / (seen + unseen))
    assert scores["mixed_harmonic_mean"]["1+1"] > scores["mixed_harmonic_mean"]["5+5"]


@pytest.mark.parametrize("size", ["9+1", "1+4"])
def test_the_balance_is_better_than_one_offset_where_the_numbers_of_labels_differ(size):
    fits = biased_fits(LEAD)
    balanced, plain = (kind(fits, TEMPERATURE).scores() for kind in (MixedLabels, Unbalanced))
    assert balanced["mixed_harmonic_mean"][size] > plain["mixed_harmonic_mean"][size] + 0.01


def test_the_probabilities_of_a_balanced_map_are_true_for_lists_of_any_numbers():
    errors = MixedLabels(biased_fits(LEAD), TEMPERATURE).scores()["calibration_error_mixed"]
    assert max(errors.values()) < 0.03  # sampling alone gives 0.01 to 0.02 for 960 clips in ten bins


class Unbalanced(MixedLabels):
    """One offset for all numbers of labels."""

    def _balance(self, size):
        return 0.0


def test_an_offset_is_judged_on_other_classes_than_those_that_chose_it():
    fits = biased_fits(LEAD)
    last = [fit for fit in fits.without_classes if fit.unseen[GROUPS - 1]]
    strange = [replace(fit, embeddings=fit.embeddings + ~fit.unseen) for fit in last]  # a lead of 1.2 in one group
    kept = [fit for fit in fits.without_classes if not fit.unseen[GROUPS - 1]]
    mixed = MixedLabels(replace(fits, without_classes=[*kept, *strange]), TEMPERATURE)
    assert mixed.best_offset(mixed.groups[:-1]) == pytest.approx(LEAD, abs=0.04)
    assert mixed.scores()["mixed_unseen"]["1+1"] < 0.8  # no unseen label of that group wins with the others' offset
