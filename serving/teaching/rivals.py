"""Which other class takes the held-out examples of a taught class: often one that means the same sound."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

# A class is a rival if it takes so many held-out examples, and this share of them. With 3 to 8 examples that names nine
# of ten classes that were taught under a second name, and one of fifteen that are new: docs/results/few-shot.md.
LEAST_TAKEN = 2
LEAST_SHARE = 1 / 3


@dataclass(frozen=True)
class Rival:
    """The other class that takes most of a taught class's held-out examples.

    name      of the rival
    taken     number of the held-out examples that it takes
    held_out  number of all held-out examples
    """

    name: str
    taken: int
    held_out: int

    def warning(self, taught: str) -> str:
        """One line that says so, and what can be done. taught: name of the taught class."""
        return (
            f"{taught}: {self.taken} of {self.held_out} held-out examples are named {self.name} when all classes of "
            f"the bundle are labels. If both are the same sound, teach the examples as {self.name}; if not, give more "
            f"examples or a description, or leave {self.name} out of the labels"
        )


def find_rivals(names: Sequence[str], scores: NDArray[np.float32], own: NDArray[np.intp]) -> dict[str, Rival]:
    """The rivals of classes, by the name of the taught class; a class without a rival is left out.

    names   of all classes, C of them
    scores  [n, C] float32 of held-out examples, see `ZeroShot.scores_of`
    own     [n] index of each one's class
    """
    best = scores.argmax(axis=1)
    rivals = {}
    for row in np.unique(own).tolist():
        counts = np.bincount(best[own == row], minlength=len(names))
        held_out = int(counts.sum())
        counts[row] = 0
        first = int(counts.argmax())
        if (taken := int(counts[first])) >= max(LEAST_TAKEN, LEAST_SHARE * held_out):
            rivals[names[row]] = Rival(names[first], taken, held_out)
    return rivals
