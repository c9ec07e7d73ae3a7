"""Accuracy by the number of examples of a class: among the taught classes, and among all classes of the bundle."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from benchmarks.few_shot.methods import (
    BOTH,
    CENTROID,
    DESCRIPTION,
    EXAMPLES,
    PLAIN_CENTROID,
    PLAIN_PROBE,
    PROBE,
    name_clips,
)  # fmt: skip
from benchmarks.few_shot.problem import Problem
from serving.progress import track
from serving.teaching.posterior import PlacedExamples, choose_weight, counts_as_seen, with_examples
from serving.zeroshot import ZeroShot

METHODS = (BOTH, EXAMPLES, DESCRIPTION, PROBE, CENTROID, PLAIN_PROBE, PLAIN_CENTROID)
WITHOUT_EXAMPLES = (BOTH, DESCRIPTION)  # methods that name clips before any example was heard
RULES = ("as unseen", "as seen", "by the rule")  # which offset a taught class gets

Values = NDArray[np.float64]


def accuracy_curves(problems: Sequence[Problem], counts: Sequence[int], draws: int) -> dict[str, Values]:
    """Method -> accuracies [draws, n_counts], each the mean over the bundles; NaN: not possible without examples."""
    curves = {method: np.full((draws, len(counts)), np.nan) for method in METHODS}
    for draw in track(range(draws), "draws of examples"):
        for column, count in enumerate(counts):
            for method in METHODS if count else WITHOUT_EXAMPLES:
                curves[method][draw, column] = np.mean([_one(problem, method, count, draw) for problem in problems])
    return curves


def _one(problem: Problem, method: str, count: int, draw: int) -> float:
    train = problem.draw(count, np.random.default_rng(draw))  # the same examples for each method
    named = name_clips(method, problem.prior, problem.clips, train, problem.test, problem.labels)
    return problem.accuracy(named)


def among_all_classes(problems: Sequence[Problem], counts: Sequence[int], draws: int) -> dict[str, Values]:
    """Rule -> [draws, n_counts, 2]: accuracy on the classes of the training, and on the taught ones, among all classes.

    The test clips of the classes of the training are those of the same fold, which the bundle was not trained on.
    """
    found = {rule: np.zeros((draws, len(counts), 2)) for rule in RULES}
    for draw in range(draws):
        for column, count in enumerate(counts):
            each = [_all_classes(problem, count, draw) for problem in problems]
            for rule in RULES:
                found[rule][draw, column] = np.mean([shares[rule] for shares in each], axis=0)
    return found


def _all_classes(problem: Problem, count: int, draw: int) -> dict[str, tuple[float, float]]:
    """Rule -> accuracy on the test clips of the classes of the training, and of the taught ones."""
    clips, whole = problem.clips, problem.whole
    present = whole.choose([name for name in whole.class_names if name in set(clips.classes)])
    rows = {name: row for row, name in enumerate(present.class_names)}
    labels = np.array([rows.get(name, -1) for name in clips.classes])
    train = problem.draw(count, np.random.default_rng(draw))
    placed = PlacedExamples(present.place(clips.embeddings[train]), labels[train], np.arange(len(train)))
    weight = choose_weight(present, placed) if count else 1.0
    taught = with_examples(present, placed, weight)
    is_taught = np.isin(present.class_names, problem.prior.class_names)
    by_rule = present.seen | (is_taught & counts_as_seen(taught, np.full(len(is_taught), count * is_taught)))
    offsets = {"as unseen": present.seen, "as seen": present.seen | is_taught, "by the rule": by_rule}
    test = np.flatnonzero((clips.folds == problem.test_fold) & (labels >= 0))
    new = problem.labels[test] >= 0

    def shares(map_: ZeroShot) -> tuple[float, float]:
        right = map_.similarities(clips.embeddings[test]).argmax(axis=1) == labels[test]
        return _share(right[~new]), _share(right[new])

    return {rule: shares(replace(taught, seen=seen)) for rule, seen in offsets.items()}


def _share(right: NDArray[np.bool_]) -> float:
    """Their mean; NaN: there is none."""
    return float(right.mean()) if len(right) else float("nan")


def harmonic(shares: Values) -> Values:
    """Harmonic means of pairs [..., 2]."""
    return 2 * shares[..., 0] * shares[..., 1] / np.maximum(shares.sum(axis=-1), 1e-12)


def mean_and_error(values: Values) -> tuple[float, float]:
    """The mean of the draws [draws], and its standard error."""
    error = values.std(ddof=1) / np.sqrt(len(values)) if len(values) > 1 else 0.0
    return float(values.mean()), float(error)
