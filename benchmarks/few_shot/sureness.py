"""Whether a taught map may keep its source's temperature and its threshold of "none of these"."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from benchmarks.few_shot.curves import Values
from benchmarks.few_shot.methods import taught
from benchmarks.few_shot.problem import Problem
from serving.teaching.posterior import counts_as_seen
from serving.zeroshot import ZeroShot
from serving.zeroshot.probabilities import expected_calibration_error, softmax

LABELS = 3  # that a sound is or is not one of, as in docs/results/shipped-model.md
ERROR, KEPT, REFUSED = "calibration error", "kept, if its label is among them", "refused, if not"


def sureness(problems: Sequence[Problem], counts: Sequence[int], draws: int, threshold: float) -> dict[str, Values]:
    """Name -> [draws, n_counts]: the expected calibration error among the unseen classes, and shares of clips.

    threshold   least similarity of a clip and one of LABELS random classes; below it the clip is none of them
    """
    found = {name: np.zeros((draws, len(counts))) for name in (ERROR, KEPT, REFUSED)}
    for draw in range(draws):
        for column, count in enumerate(counts):
            maps = [_map(problem, count, draw) for problem in problems]
            best = [_best(problem, zeroshot) for problem, zeroshot in zip(problems, maps, strict=True)]
            sure, right = (np.concatenate(part) for part in zip(*best, strict=True))
            found[ERROR][draw, column] = expected_calibration_error(sure, right)
            shares = [_none(problem, each, threshold, draw) for problem, each in zip(problems, maps, strict=True)]
            found[KEPT][draw, column], found[REFUSED][draw, column] = np.mean(shares, axis=0)
    return found


def _map(problem: Problem, count: int, draw: int) -> ZeroShot:
    if not count:
        return problem.prior
    train = problem.draw(count, np.random.default_rng(draw))
    zeroshot = taught(problem.prior, problem.clips, train, problem.labels)
    counted = counts_as_seen(zeroshot, np.full(len(zeroshot.class_names), count))
    return replace(zeroshot, seen=counted)


def _best(problem: Problem, zeroshot: ZeroShot) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """The largest probability of each test clip, and whether it is its own class's."""
    shares = softmax(zeroshot.scores(problem.clips.embeddings[problem.test]))
    return shares.max(axis=1), shares.argmax(axis=1) == problem.labels[problem.test]


def _none(problem: Problem, zeroshot: ZeroShot, threshold: float, draw: int) -> tuple[float, float]:
    """Share of clips that are kept, of those whose class is among the labels; of those refused, of the others."""
    similarities = zeroshot.similarities(problem.clips.embeddings[problem.test])
    own = problem.labels[problem.test]
    rng = np.random.default_rng(draw)
    kept, refused = [], []
    for _ in range(len(zeroshot.class_names)):
        labels = rng.choice(len(zeroshot.class_names), min(LABELS, len(zeroshot.class_names) - 1), replace=False)
        like, inside = similarities[:, labels].max(axis=1) >= threshold, np.isin(own, labels)
        kept.append(like[inside].mean())
        refused.append(1 - like[~inside].mean())
    return float(np.mean(kept)), float(np.mean(refused))
