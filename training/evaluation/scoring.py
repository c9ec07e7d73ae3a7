"""Zero-shot scores (ZSL, unseen classes among themselves; GZSL, among all classes) from a matrix of class scores.

Accuracies are means over classes, as zero-shot work reports them. Source: Xian 2018 (arXiv:1707.00600); the offset
taken from the seen classes' scores is the calibrated stacking of Chao 2016 (arXiv:1605.04253).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Scores = NDArray[np.floating]
Labels = NDArray[np.int64]


@dataclass(frozen=True)
class Gzsl:
    """Accuracy over all classes of the clips of seen classes and of unseen ones, and their harmonic mean."""

    offset: float
    seen: float
    unseen: float

    @property
    def harmonic_mean(self) -> float:
        """2 s u / (s + u); 0 where both are 0."""
        return 2 * self.seen * self.unseen / (self.seen + self.unseen) if self.seen + self.unseen else 0.0


def class_mean_accuracy(guesses: Labels, labels: Labels) -> float:
    """Top-1 accuracy of each class that occurs, averaged over the classes. ValueError for no clips."""
    if not len(labels):
        raise ValueError("accuracy: got no clips; wanted one or more")
    return float(np.mean([(guesses[labels == label] == label).mean() for label in np.unique(labels)]))


def zsl(scores: Scores, labels: Labels, seen: NDArray[np.bool_]) -> float:
    """Accuracy of the unseen classes' clips when only unseen classes are asked for.

    scores  [n, n_classes];  labels [n], clips of seen classes are left out;  seen [n_classes]
    """
    unseen = np.flatnonzero(~seen)
    some = np.isin(labels, unseen)
    return class_mean_accuracy(unseen[scores[some][:, unseen].argmax(axis=1)], labels[some])


def gzsl(scores: Scores, labels: Labels, seen: NDArray[np.bool_], offset: float) -> Gzsl:
    """Accuracies when all classes are asked for and `offset` is taken from the seen classes' scores."""
    guesses = (scores - offset * seen).argmax(axis=1)
    of_seen = seen[labels]
    return Gzsl(
        offset,
        class_mean_accuracy(guesses[of_seen], labels[of_seen]),
        class_mean_accuracy(guesses[~of_seen], labels[~of_seen]),
    )


def tradeoff(scores: Scores, labels: Labels, seen: NDArray[np.bool_]) -> list[Gzsl]:
    """The whole curve: one point for every offset at which a guess changes, rising."""
    gaps = scores[:, seen].max(axis=1) - scores[:, ~seen].max(axis=1)  # the offset at which a clip turns unseen
    edges = np.unique(gaps)
    between = np.concatenate([[edges[0] - 1e-3], (edges[1:] + edges[:-1]) / 2, [edges[-1] + 1e-3]])
    return [gzsl(scores, labels, seen, float(offset)) for offset in between]


def best_offset(scores: Scores, labels: Labels, seen: NDArray[np.bool_]) -> float:
    """The offset of the largest harmonic mean; the middle one of several equal ones.

    To be asked with clips and classes that the score to be reported does not use.
    """
    curve = tradeoff(scores, labels, seen)
    means = np.array([point.harmonic_mean for point in curve])
    best = np.flatnonzero(means >= means.max() - 1e-9)
    return curve[int(best[len(best) // 2])].offset


def area_under_tradeoff(curve: list[Gzsl]) -> float:
    """Area under unseen accuracy as a function of seen accuracy, over all offsets (Chao 2016). 0 to 1."""
    seen = np.array([point.seen for point in curve])
    unseen = np.array([point.unseen for point in curve])
    order = np.lexsort((-unseen, seen))
    return float(np.trapezoid(unseen[order], seen[order]))
