"""Zero-shot scores from a matrix of class scores.

ZSL   accuracy on clips of unseen classes when only unseen classes can be guessed
GZSL  accuracies on clips of seen and of unseen classes when all classes can be guessed
Accuracies are means over classes, as usual in zero-shot work: Xian 2018 (arXiv:1707.00600). The offset that is
subtracted from the seen classes' scores is the calibrated stacking of Chao 2016 (arXiv:1605.04253).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

POINTS_AT_A_TIME = 1024  # of the trade-off curve, each with the accuracy of every class

Scores = NDArray[np.floating]
Labels = NDArray[np.int64]


@dataclass(frozen=True)
class Gzsl:
    """Accuracies on clips of seen and of unseen classes when all classes can be guessed, with one offset."""

    offset: float
    seen: float
    unseen: float

    @property
    def harmonic_mean(self) -> float:
        """That of both accuracies."""
        return float(harmonic_mean(self.seen, self.unseen))


def harmonic_mean(seen: ArrayLike, unseen: ArrayLike) -> NDArray[np.float64]:
    """2 s u / (s + u) of accuracies, each a number or an array; 0 where both are 0."""
    seen, unseen = np.asarray(seen, np.float64), np.asarray(unseen, np.float64)
    return 2 * seen * unseen / np.maximum(seen + unseen, 1e-12)


def class_mean_accuracy(guesses: Labels, labels: Labels) -> float:
    """Top-1 accuracy of each class that occurs, averaged over the classes. ValueError without clips."""
    if not len(labels):
        raise ValueError("accuracy: got no clips; wanted one or more")
    return float(np.mean([(guesses[labels == label] == label).mean() for label in np.unique(labels)]))


def zsl(scores: Scores, labels: Labels, seen: NDArray[np.bool_]) -> float:
    """Accuracy on the clips of unseen classes when only unseen classes can be guessed.

    scores  [n, n_classes];  labels [n], clips of seen classes are ignored;  seen [n_classes]
    """
    unseen = np.flatnonzero(~seen)
    rows = np.isin(labels, unseen)
    return class_mean_accuracy(unseen[scores[rows][:, unseen].argmax(axis=1)], labels[rows])


def gzsl(scores: Scores, labels: Labels, seen: NDArray[np.bool_], offset: float) -> Gzsl:
    """Accuracies when all classes can be guessed and `offset` is subtracted from the seen classes' scores."""
    guesses = (scores - offset * seen).argmax(axis=1)
    of_seen = seen[labels]
    return Gzsl(
        offset,
        class_mean_accuracy(guesses[of_seen], labels[of_seen]),
        class_mean_accuracy(guesses[~of_seen], labels[~of_seen]),
    )


def tradeoff(scores: Scores, labels: Labels, seen: NDArray[np.bool_]) -> list[Gzsl]:
    """The whole seen-unseen curve: one point between each two offsets at which a guess changes, ascending.

    Each point is that of `gzsl`. A clip changes its guess once, from its best seen class to its best unseen one.
    """
    rows = np.arange(len(scores))
    among_seen, among_unseen = (which[scores[:, which].argmax(axis=1)] for which in map(np.flatnonzero, (seen, ~seen)))
    high, low = scores[rows, among_seen], scores[rows, among_unseen]
    edges = np.unique(high - low)  # above this offset the guess is an unseen class
    between = np.concatenate([[edges[0] - 1e-3], (edges[1:] + edges[:-1]) / 2, [edges[-1] + 1e-3]]).astype(np.float64)
    change = _first_unseen_guess(high, low, among_seen < among_unseen, between)
    of_seen, ends = seen[labels], np.full(len(labels), len(between))
    on_seen = _accuracies(labels, among_seen == labels, 0 * ends, change, of_seen, len(between))
    on_unseen = _accuracies(labels, among_unseen == labels, change, ends, ~of_seen, len(between))
    return [Gzsl(*map(float, point)) for point in zip(between, on_seen, on_unseen, strict=True)]


def _first_unseen_guess(
    high: Scores, low: Scores, seen_first: NDArray[np.bool_], offsets: NDArray[np.float64]
) -> NDArray[np.int64]:
    """The first of ascending offsets at which each clip's guess is an unseen class; their number if there is none.

    high, low    [n] scores of the best seen and the best unseen class;  seen_first [n]: which one a tie goes to
    It is found by bisection with the comparison of `gzsl`, so that both round alike.
    """
    first, last = np.zeros(len(high), np.int64), np.full(len(high), len(offsets))
    while (first < last).any():
        middle = (first + last) // 2
        moved = high - offsets[np.minimum(middle, len(offsets) - 1)]
        still_seen = ((moved > low) | ((moved == low) & seen_first)) & (first < last)
        first, last = np.where(still_seen, middle + 1, first), np.where(still_seen, last, np.minimum(middle, last))
    return first


def _accuracies(
    labels: Labels, right: NDArray[np.bool_], first: Labels, last: Labels, rows: NDArray[np.bool_], points: int
) -> NDArray[np.float64]:
    """`class_mean_accuracy` over some rows at each point: [points]. ValueError without clips.

    right   [n] whether a clip is guessed right from the point `first` to the one before `last`; elsewhere it is not
    """
    if not rows.any():
        raise ValueError("accuracy: got no clips; wanted one or more")
    classes, columns, counts = np.unique(labels[rows], return_inverse=True, return_counts=True)
    right, edges = right[rows], ((first[rows], 1), (last[rows], -1))
    means, now = np.empty(points), np.zeros(len(classes), np.int64)
    for start in range(0, points, POINTS_AT_A_TIME):
        steps = np.zeros((min(POINTS_AT_A_TIME, points - start), len(classes)), np.int64)
        for at, step in edges:
            inside = right & (at >= start) & (at < start + len(steps))
            np.add.at(steps, (at[inside] - start, columns[inside]), step)
        n_right = now + np.cumsum(steps, axis=0)  # [points, n_classes]
        means[start : start + len(steps)] = (n_right / counts).mean(axis=1)
        now = n_right[-1]
    return means


def best_offset(scores: Scores, labels: Labels, seen: NDArray[np.bool_]) -> float:
    """The offset with the largest harmonic mean; of several equal ones, the middle one.

    Choose it on other clips and classes than those that are scored with it.
    """
    curve = tradeoff(scores, labels, seen)
    means = np.array([point.harmonic_mean for point in curve])
    best = np.flatnonzero(means >= means.max() - 1e-9)
    return curve[int(best[len(best) // 2])].offset


def area_under_tradeoff(curve: list[Gzsl]) -> float:
    """Area under unseen accuracy as a function of seen accuracy, over all offsets (Chao 2016): 0 to 1."""
    seen = np.array([point.seen for point in curve])
    unseen = np.array([point.unseen for point in curve])
    order = np.lexsort((-unseen, seen))
    return float(np.trapezoid(unseen[order], seen[order]))
