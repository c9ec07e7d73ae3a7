"""The classes of ESC-50 that a bundle has not seen, split into clips to teach with and clips to test with."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from benchmarks.few_shot.clips import Clips
from serving.errors import UsageError
from serving.zeroshot import ZeroShot


@dataclass(frozen=True, eq=False)
class Problem:
    """A bundle's unseen classes.

    whole      the bundle's map, with all of its classes
    prior      the map with the unseen classes alone
    clips      all clips;  labels [n_clips] int: index among the prior's classes, -1: another class
    test_fold  recording fold of the test clips, which the bundle was not trained on
    """

    whole: ZeroShot
    prior: ZeroShot
    clips: Clips
    labels: NDArray[np.intp]
    test_fold: int

    @property
    def test(self) -> NDArray[np.intp]:
        """The test clips of the unseen classes."""
        return np.flatnonzero((self.clips.folds == self.test_fold) & (self.labels >= 0))

    @property
    def pool(self) -> NDArray[np.intp]:
        """The clips of the unseen classes that may be taught."""
        return np.flatnonzero((self.clips.folds != self.test_fold) & (self.labels >= 0))

    def draw(self, count: int, rng: np.random.Generator) -> NDArray[np.intp]:
        """Random clips of the pool, `count` of each class."""
        of_class = [self.pool[self.labels[self.pool] == each] for each in range(len(self.prior.class_names))]
        return np.concatenate([rng.choice(rows, count, replace=False) for rows in of_class]).astype(np.intp)

    def accuracy(self, named: NDArray[np.intp]) -> float:
        """Share of the test clips that are named right. named [n_test]."""
        return float((named == self.labels[self.test]).mean())


def make_problem(zeroshot: ZeroShot, clips: Clips, test_fold: int, most: int) -> Problem:
    """The problem of a bundle. most: of examples of a class.

    errors   UsageError: fewer than two unseen classes have enough clips in the other folds and one in this fold
    """
    unseen = [name for name, seen in zip(zeroshot.class_names, zeroshot.seen, strict=True) if not seen]
    enough = [
        name
        for name in unseen
        if ((clips.classes == name) & (clips.folds != test_fold)).sum() >= most
        and ((clips.classes == name) & (clips.folds == test_fold)).any()
    ]
    if len(enough) < 2:
        raise UsageError(
            f"the bundle has {len(unseen)} unseen classes, and {len(enough)} of them have {most} clips outside fold "
            f"{test_fold} and one in it; wanted two or more: a bundle of a run with --split and --test-fold"
        )
    labels = np.array([enough.index(name) if name in enough else -1 for name in clips.classes])
    return Problem(zeroshot, zeroshot.choose(enough), clips, labels, test_fold)
