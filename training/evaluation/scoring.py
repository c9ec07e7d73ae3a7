"""Zero-shot scores from a matrix of class scores.

ZSL   accuracy on clips of unseen classes when only unseen classes can be guessed
GZSL  accuracies on clips of seen and of unseen classes when all classes can be guessed
Accuracies are means over classes, as usual in zero-shot work: Xian 2018 (arXiv:1707.00600). The offset that is
subtracted from the seen classes' scores is the calibrated stacking of Chao 2016 (arXiv:1605.04253).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

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
        """2 s u / (s + u); 0 where both are 0."""
        return 2 * self.seen * self.unseen / (self.seen + self.unseen) if self.seen + self.unseen else 0.0


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
    """The whole seen-unseen curve: one point between each two offsets at which a guess changes, ascending."""
    gaps = scores[:, seen].max(axis=1) - scores[:, ~seen].max(axis=1)  # above this offset the guess is an unseen class
    edges = np.unique(gaps)
    between = np.concatenate([[edges[0] - 1e-3], (edges[1:] + edges[:-1]) / 2, [edges[-1] + 1e-3]])
    return [gzsl(scores, labels, seen, float(offset)) for offset in between]


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
