"""The classes of a zero-shot map after examples were heard, and how well that works on examples that were held out.

The model is that of `ZeroShot`: a class with examples lies in the direction of

    weight * text + sum of the examples

All are unit rows in the space of the comparison. The weight, in examples, is chosen on held-out examples: each
recording is left out in turn, and its examples are scored by what the others give.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from serving.zeroshot import ZeroShot, unit_rows

WEIGHTS = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0)
# Few held-out examples cannot choose a weight, so a candidate's loss grows with its distance from DEFAULT_WEIGHT.
DEFAULT_WEIGHT = 1.0  # 1 and 2 are the best for up to 8 examples, see docs/results/few-shot.md
TEMPERATURES = np.geomspace(0.5, 64.0, 29, dtype=np.float32)  # in steps of the fourth root of 2
SEEN_FROM = 8.0
STEP_PENALTY = 1.0  # in nats, for the square of each factor of 2


@dataclass(frozen=True, eq=False)
class PlacedExamples:
    """Examples in the space of a map's comparison.

    rows        [n, size] float32 unit rows
    classes     [n] int: index among the map's classes
    recordings  [n] int: examples of one recording have one number
    known       [n] bool: an earlier lesson had examples of its recording, which are in the map's sums; None: none had
    """

    rows: NDArray[np.float32]
    classes: NDArray[np.intp]
    recordings: NDArray[np.intp]
    known: NDArray[np.bool_] | None = None

    def sums(self, n_classes: int) -> NDArray[np.float32]:
        """The sum of the rows of each class: [n_classes, size] float32."""
        sums = np.zeros((n_classes, self.rows.shape[1]), np.float32)
        np.add.at(sums, self.classes, self.rows)
        return sums

    def can_be_held_out(self) -> NDArray[np.bool_]:
        """[n] bool: another recording has examples of the same class, and no earlier lesson had the example's own.

        What an earlier lesson had of a recording cannot be taken out of the map's sums.
        """
        n_recordings = {c: len(np.unique(self.recordings[self.classes == c])) for c in np.unique(self.classes)}
        has_others = np.array([n_recordings[c] > 1 for c in self.classes], bool)
        return has_others if self.known is None else has_others & ~self.known


def with_examples(prior: ZeroShot, examples: PlacedExamples, weight: float) -> ZeroShot:
    """The map whose classes moved to the examples. weight: of a text, in examples."""
    sums = examples.sums(len(prior.class_names))
    if prior.example_sums is not None:
        sums += prior.example_sums
    return replace(prior, example_sums=sums, prior_weight=weight)


def held_out_cosines(prior: ZeroShot, examples: PlacedExamples, weight: float) -> NDArray[np.float32]:
    """The cosines [n, C] of each example and each class, of a map that was not taught the example's own recording.

    That is not so of `PlacedExamples.known` examples: the map keeps what an earlier lesson had of their recording.
    """
    taught = with_examples(prior, examples, weight)
    assert taught.example_sums is not None
    sums, texts = taught.example_sums, prior.described_targets
    cosines = examples.rows @ taught.targets.T
    for recording in np.unique(examples.recordings):
        own = np.flatnonzero(examples.recordings == recording)
        changed = np.unique(examples.classes[own])
        rest = sums[changed].copy()
        np.subtract.at(rest, np.searchsorted(changed, examples.classes[own]), examples.rows[own])
        cosines[np.ix_(own, changed)] = examples.rows[own] @ unit_rows(weight * texts[changed] + rest).T
    return cosines


def choose_weight(prior: ZeroShot, examples: PlacedExamples) -> float:
    """The weight of WEIGHTS with the least cross-entropy of the held-out examples among the classes with examples.

    Each weight is judged at its own best temperature: at one for all, a map that is too sure of itself would choose a
    weight that blurs the classes.
    Only examples that can be held out and whose class has a text count; with none of them it is DEFAULT_WEIGHT.
    """
    counted = examples.can_be_held_out() & prior.has_text[examples.classes]
    columns = np.unique(examples.classes)
    if not counted.any():
        return DEFAULT_WEIGHT
    if len(columns) == 1:  # there is nothing to confuse it with but the other classes of the map
        columns = np.arange(len(prior.class_names))
    own = np.searchsorted(columns, examples.classes[counted])
    losses = []
    for weight in WEIGHTS:
        cosines = held_out_cosines(prior, examples, weight)[np.ix_(counted, columns)]
        steps = np.log2(weight / DEFAULT_WEIGHT)
        losses.append(_least_loss(cosines, own) + STEP_PENALTY * steps**2)
    return WEIGHTS[int(np.argmin(losses))]


def counts_as_seen(taught: ZeroShot, counts: NDArray[np.integer]) -> NDArray[np.bool_]:
    """Which classes' scores are as large as those of classes of the training: see docs/results/few-shot.md.

    A class counts as seen once its examples outweigh its text SEEN_FROM times, at once if it has no text.

    taught   from `with_examples`
    counts   [C] number of examples of each class
    returns  [C] bool
    """
    return (counts > 0) & ((counts > SEEN_FROM * taught.prior_weight) | ~taught.has_text)


def _least_loss(cosines: NDArray[np.float32], own: NDArray[np.intp]) -> float:
    """The sum of `cross_entropies` at the best of TEMPERATURES."""
    return min(float(cross_entropies(temperature * cosines, own).sum()) for temperature in TEMPERATURES)


def cross_entropies(scores: NDArray[np.float32], own: NDArray[np.intp]) -> NDArray[np.float64]:
    """Of softmax probabilities: -log of the share of each row's own column. scores [n, C], own [n] -> [n]."""
    shifted = scores.astype(np.float64) - scores.max(axis=1, keepdims=True)
    return np.log(np.exp(shifted).sum(axis=1)) - shifted[np.arange(len(own)), own]
