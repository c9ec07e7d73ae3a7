"""Seen and unseen labels in one list: the offset between them, and the scores by the numbers of both.

The offset has the best harmonic mean of the accuracies on clips of seen and of unseen classes, over lists of several
sizes. Every score is of clips that the fit did not hear, with an offset that other classes chose.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import log

import numpy as np
from numpy.typing import NDArray

from serving.zeroshot.probabilities import expected_calibration_error, softmax
from training.evaluation.cross_fits import CrossFit, CrossFits
from training.evaluation.scoring import class_mean_accuracy, harmonic_mean

# Numbers of seen and of unseen labels: half of each, one unseen among seen ones, one seen among unseen ones.
SIZES = ((1, 1), (2, 1), (3, 2), (5, 5), (10, 10), (4, 1), (9, 1), (19, 1), (32, 1), (1, 4), (1, 9))
OFFSETS = np.linspace(-0.5, 0.5, 101)  # in cosines
DRAWS = 10  # of labels for each clip
Size = tuple[int, int]
Group = tuple[int, ...]  # the classes that were held out together


@dataclass(frozen=True)
class Questions:
    """Clips, each with a list of labels, of which the first n_seen are seen.

    cosines  [n, labels];  own [n] the column of the clip's own label;  classes [n] of the clips
    """

    cosines: NDArray[np.float64]
    n_seen: int
    own: NDArray[np.int64]
    classes: NDArray[np.int64]

    def accuracies(self, offsets: NDArray[np.float64]) -> NDArray[np.float64]:
        """Accuracy with each of the offsets [k], in cosines, for clips of one kind; mean over the classes: [k]."""
        best = self.cosines[:, : self.n_seen].max(axis=1), self.cosines[:, self.n_seen :].max(axis=1)
        of_seen = self.own < self.n_seen
        own = self.cosines[np.arange(len(self.own)), self.own]
        first_of_kind = own >= np.where(of_seen, *best)
        seen_wins = (best[0] - best[1])[:, None] > offsets
        right = first_of_kind[:, None] & (seen_wins == of_seen[:, None])
        _, place, counts = np.unique(self.classes, return_inverse=True, return_counts=True)
        return (1 / counts[place] / len(counts)) @ right


# By group of classes: the questions about its fits' clips of seen classes, and of unseen ones.
Asked = dict[Group, tuple[Questions, Questions]]


def held_out_rows(fits: CrossFits, fit: CrossFit) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The rows of the held-out fold's clips: those of seen classes, and those of unseen classes."""
    rows = np.flatnonzero(fits.folds == fit.fold)
    of_unseen = fit.unseen[fits.labels[rows]]
    return rows[~of_unseen], rows[of_unseen]


def group_of(fit: CrossFit) -> Group:
    """The classes that were held out of a fit."""
    return tuple(np.flatnonzero(fit.unseen).tolist())


class MixedLabels:
    """Questions of all SIZES for which there are enough classes, with DRAWS lists for each held-out clip.

    A list has the clip's own label; the others are drawn at random.
    """

    def __init__(self, fits: CrossFits, temperature: float):
        self.temperature = temperature
        self.groups = sorted({group_of(fit) for fit in fits.without_classes})
        self.asked: dict[Size, Asked] = {size: _ask(fits, size) for size in SIZES if _is_possible(fits, size)}
        self._curves = {
            size: {
                group: [questions.accuracies(OFFSETS + self._balance(size)) for questions in kinds]
                for group, kinds in asked.items()
            }
            for size, asked in self.asked.items()
        }

    def best_offset(self, groups: Sequence[Group]) -> float:
        """The offset, in cosines and for as many seen labels as unseen ones, that is best over all sizes.

        groups   whose questions count
        returns  the one with the largest mean of the harmonic means; of several equal ones, the middle one
        """
        means = np.zeros(len(OFFSETS))
        for curves in self._curves.values():
            seen, unseen = np.mean([curves[group] for group in groups], axis=0)  # [n_offsets] each
            means += harmonic_mean(seen, unseen)
        best = np.flatnonzero(means >= means.max() - 1e-9)
        return float(OFFSETS[best[len(best) // 2]])

    def scores(self) -> dict[str, dict[str, float]]:
        """By "seen+unseen labels": accuracies on both kinds of clips, their harmonic mean, and the calibration error.

        The error is that of clips of which half are of seen classes.
        """
        others = {judged: [group for group in self.groups if group != judged] for judged in self.groups}
        offsets = {judged: self.best_offset(groups) for judged, groups in others.items()}
        result: dict[str, dict[str, float]] = {
            name: {} for name in ("mixed_seen", "mixed_unseen", "mixed_harmonic_mean", "calibration_error_mixed")
        }
        for size, asked in self.asked.items():
            name = "{}+{}".format(*size)
            answers = [self._answer([(asked[g][kind], offsets[g]) for g in self.groups]) for kind in (0, 1)]
            seen, unseen = (class_mean_accuracy(answer.guesses, answer.classes) for answer in answers)
            result["mixed_seen"][name], result["mixed_unseen"][name] = seen, unseen
            result["mixed_harmonic_mean"][name] = float(harmonic_mean(seen, unseen))
            result["calibration_error_mixed"][name] = expected_calibration_error(
                np.concatenate([answer.probabilities for answer in answers]),
                np.concatenate([answer.guesses == answer.classes for answer in answers]),
                np.concatenate([np.full(len(answer.classes), 1 / len(answer.classes)) for answer in answers]),
            )
        return result

    def _answer(self, parts: Sequence[tuple[Questions, float]]) -> "_Answers":
        """The answers to questions, each part with its offset."""
        guesses, probabilities = [], []
        for questions, offset in parts:
            n_seen = questions.n_seen
            size = n_seen, questions.cosines.shape[1] - n_seen
            cosines = questions.cosines.copy()
            cosines[:, :n_seen] -= offset + self._balance(size)
            shares = softmax(self.temperature * cosines)
            guesses.append(np.where(shares.argmax(axis=1) == questions.own, questions.classes, -1))
            probabilities.append(shares.max(axis=1))
        classes = np.concatenate([questions.classes for questions, _ in parts])
        return _Answers(np.concatenate(guesses), np.concatenate(probabilities), classes)

    def _balance(self, size: Size) -> float:
        """What `ZeroShot.own_offset` adds for the numbers of labels, in cosines."""
        return log(size[0] / size[1]) / self.temperature


@dataclass(frozen=True)
class _Answers:
    """guesses [n]: the clip's class, or -1 for another one;  probabilities [n] of the guess;  classes [n]."""

    guesses: NDArray[np.int64]
    probabilities: NDArray[np.float64]
    classes: NDArray[np.int64]


def _is_possible(fits: CrossFits, size: Size) -> bool:
    return all(
        (~fit.unseen).sum() >= size[0] and fit.unseen.sum() >= size[1] and all(map(len, held_out_rows(fits, fit)))
        for fit in fits.without_classes
    )


def _ask(fits: CrossFits, size: Size) -> Asked:
    rng = np.random.default_rng(0)
    asked: dict[Group, tuple[list[Questions], list[Questions]]] = {}
    for fit in fits.without_classes:
        of_group = asked.setdefault(group_of(fit), ([], []))
        cosines = fit.zeroshot.cosines(fit.embeddings).astype(np.float64)
        for kind, rows in enumerate(held_out_rows(fits, fit)):
            rows = np.repeat(rows, DRAWS)
            columns = _draw_columns(fit.unseen, fits.labels[rows], size, rng)
            own = np.full(len(rows), 0 if kind == 0 else size[0])
            of_group[kind].append(Questions(cosines[rows[:, None], columns], size[0], own, fits.labels[rows]))
    return {group: (_joined(seen), _joined(unseen)) for group, (seen, unseen) in asked.items()}


def _draw_columns(
    unseen: NDArray[np.bool_], own: NDArray[np.int64], size: Size, rng: np.random.Generator
) -> NDArray[np.int64]:
    """Lists of classes [n, labels], the seen ones first; own [n] is the first of its kind."""
    drawn = []
    for classes, count in zip((np.flatnonzero(~unseen), np.flatnonzero(unseen)), size, strict=True):
        order = rng.random((len(own), len(classes)))
        order[own[:, None] == classes] = -1.0
        drawn.append(classes[np.argsort(order, axis=1)[:, :count]])
    return np.concatenate(drawn, axis=1)


def _joined(parts: Sequence[Questions]) -> Questions:
    return Questions(
        np.concatenate([part.cosines for part in parts]),
        parts[0].n_seen,
        np.concatenate([part.own for part in parts]),
        np.concatenate([part.classes for part in parts]),
    )
