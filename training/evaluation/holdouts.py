"""Repeat a recipe over class hold-outs and seeds: zero-shot accuracy on unseen classes, and its standard error.

Each hold-out trains on clips of the seen classes outside one recording fold. It is scored on all clips of the unseen
classes and on the fold's clips of the seen classes. The GZSL offset comes from a second training, which holds out a
part of the seen classes as pseudo-unseen: neither the unseen classes nor the test clips take part in it.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from itertools import combinations
from math import comb
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from serving.errors import UsageError
from training.data.file_lock import folder_lock
from training.data.splits import ClassSplit, split_clips
from training.evaluation.controls import (
    RANDOM_DRAWS,
    clip_statistics,
    control_scores,
    random_class_vectors,
    sound_statistics,
)
from training.evaluation.scoring import best_offset, gzsl, zsl
from training.fit.checkpoint import write_text
from training.learner import Learner
from training.map_fit import fit_map
from training.run_folder import RunConfig

LEAST_UNSEEN, LEAST_SEEN = 2, 4  # classes in a hold-out; two of the seen ones choose the GZSL offset
PSEUDO_SHARE = 0.3  # share of the seen classes that is pseudo-unseen, to choose the offset
PSEUDO_VALIDATION_SHARE = 0.25  # share of the clips that are scored as seen for this choice


@dataclass(frozen=True)
class Holdout:
    """The scores of one method on one hold-out with one seed. Accuracies 0 to 1.

    method    "network", or a control: "no network" (log-mel statistics), "random vectors" (the network's embeddings)
    zsl       among the unseen classes
    offset    chosen on pseudo-unseen classes;  gzsl_*, harmonic_mean: with it;  plain_harmonic_mean: without
    """

    number: int
    seed: int
    method: str
    unseen_classes: tuple[str, ...]
    test_fold: int
    zsl: float
    offset: float
    gzsl_seen: float
    gzsl_unseen: float
    harmonic_mean: float
    plain_harmonic_mean: float


def check_holdouts(n_classes: int, count: int, unseen: int) -> None:
    """UsageError: so many classes do not have `count` sets of `unseen` classes, or too few are left to learn from."""
    most_unseen = n_classes - LEAST_SEEN
    if most_unseen < LEAST_UNSEEN:
        raise UsageError(
            f"holdouts: got a data set of {n_classes} classes; wanted {LEAST_UNSEEN + LEAST_SEEN} or more: "
            f"{LEAST_UNSEEN} that are unseen and {LEAST_SEEN} to learn from"
        )
    if not LEAST_UNSEEN <= unseen <= most_unseen:
        raise UsageError(f"unseen classes: got {unseen} of {n_classes}; wanted {LEAST_UNSEEN} to {most_unseen}")
    if count > (most := comb(n_classes, unseen)):
        raise UsageError(f"holdouts: got {count}; {n_classes} classes have {most} sets of {unseen}")


def draw_holdouts(classes: Sequence[str], count: int, unseen: int, seed: int = 0) -> list[tuple[str, ...]]:
    """Draw `count` different sets of `unseen` classes at random.

    errors   ValueError: there are fewer such sets
    """
    if count > comb(len(classes), unseen):
        raise ValueError(f"{len(classes)} classes have {comb(len(classes), unseen)} sets of {unseen}; got {count}")
    rng = np.random.default_rng(seed)
    if len(classes) <= 20:  # all sets can be listed
        sets = list(combinations(range(len(classes)), unseen))
        drawn = [sets[i] for i in rng.permutation(len(sets))[:count]]
    else:
        different: dict[tuple[int, ...], None] = {}  # a set that keeps the order of the draws
        while len(different) < count:
            different[tuple(sorted(rng.choice(len(classes), unseen, replace=False).tolist()))] = None
        drawn = list(different)
    return [tuple(str(classes[i]) for i in each) for each in drawn]


@dataclass(frozen=True)
class _Split:
    """Seen classes [n_classes], and rows of the clip table that are trained on and scored."""

    seen: NDArray[np.bool_]
    train: NDArray[np.int64]
    scored: NDArray[np.int64]


class Holdouts:
    """A recipe, repeated over sets of unseen classes. Scores are stored in `folder`; those that are there are not
    computed again. Processes may share the folder: one of them computes a score, and the others wait for it.
    """

    def __init__(self, learner: Learner, base: RunConfig, sets: Sequence[tuple[str, ...]], folder: Path):
        self.learner = learner
        self.base = base
        self.sets = sets
        self.folder = folder
        self.labels = learner.recordings.labels()
        self.statistics = clip_statistics(learner.recordings.frames)
        self.sounds = sound_statistics(learner, base)

    def run(self, number: int, seed: int) -> None:
        """Score the network and the controls on one hold-out with one seed, unless the scores are stored."""
        path = self._path(number, seed)
        with folder_lock(path):
            if not path.is_file():
                lines = [asdict(line) for line in self._score(number, self.sets[number], seed)]
                write_text(path, json.dumps(lines, indent=1))

    def finished(self) -> list[Holdout]:
        """The stored scores of the seeds that have every hold-out, also those of other commands."""
        seeds = sorted({int(path.stem.rpartition("-")[2]) for path in self.folder.glob("holdout-*.json")})
        of_seeds = [[self._path(number, seed) for number in range(len(self.sets))] for seed in seeds]
        complete = [paths for paths in of_seeds if all(map(Path.is_file, paths))]
        lines = [Holdout(**line) for paths in complete for path in paths for line in json.loads(path.read_text())]
        return [replace(line, unseen_classes=tuple(line.unseen_classes)) for line in lines]  # JSON made lists of them

    def _path(self, number: int, seed: int) -> Path:
        return self.folder / f"holdout-{number:02d}-seed-{seed}.json"

    def _score(self, number: int, unseen: tuple[str, ...], seed: int) -> list[Holdout]:
        folds = self.learner.recordings.table.folds
        test_fold = folds[number % len(folds)]
        rng = np.random.default_rng([seed, number])
        seen = [name for name in self.base.classes if name not in unseen]
        n_pseudo = max(2, round(PSEUDO_SHARE * len(seen)))
        pseudo = tuple(seen[i] for i in sorted(rng.choice(len(seen), n_pseudo, replace=False)))

        outer = self._config(unseen, (), test_fold, seed, 0.0)
        inner = self._config(unseen, pseudo, test_fold, seed, PSEUDO_VALIDATION_SHARE)
        embedded, scores = zip(*(self._learn(config) for config in (outer, inner)), strict=True)
        splits = [self._split(config) for config in (outer, inner)]
        methods = {"network": scores, "no network": [self._control(self.statistics, split) for split in splits]}
        lines = [
            self._line(number, seed, method, unseen, test_fold, *both, *splits) for method, both in methods.items()
        ]
        lines.append(self._random_vectors(number, seed, unseen, test_fold, embedded, splits, rng))
        return lines

    def _config(
        self, unseen: tuple[str, ...], pseudo: tuple[str, ...], test_fold: int, seed: int, share: float
    ) -> RunConfig:
        seen = tuple(name for name in self.base.classes if name not in unseen + pseudo)
        return replace(
            self.base,
            split=ClassSplit("holdout", seen, pseudo, unseen),
            test_fold=test_fold,
            seed=seed,
            validation_share=share,
            network=replace(self.base.network, n_classes=len(seen)),
        )

    def _learn(self, config: RunConfig) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Train; returns every clip's embedding [n, 128] and its cosines to all classes [n, n_classes]."""
        clips = config.clips(self.learner.recordings.table)
        # The validation clips choose the offset, so they must not choose the epoch: the last epoch is taken.
        network = self.learner.learn_aside(config, replace(clips, validation=()))
        embeddings = self.learner.embed(network)
        train = self._split(config).train
        fitted = fit_map(self.learner, config, network, (embeddings[train], self.labels[train]))
        return embeddings, replace(fitted, temperature=1.0).scores(embeddings)

    def _split(self, config: RunConfig) -> _Split:
        """The clips to train on, and the clips to score: those of held-out classes, and the others of seen classes."""
        table, rows = self.learner.recordings.table, self.learner.recordings.rows
        clips = split_clips(table, config.split, config.test_fold, config.seed, config.validation_share)
        pseudo, unseen = config.split.unseen_validation, config.split.unseen_test
        kept_back = clips.validation if pseudo else clips.test
        held_out = [
            clip
            for clip in table.clips
            if table.classes[clip.label] in (pseudo or unseen) and (not pseudo or clip.fold != config.test_fold)
        ]
        return _Split(
            np.isin(table.classes, config.split.seen),
            rows(clips.train),
            rows((*kept_back, *held_out)),
        )

    def _control(
        self, features: NDArray[np.float32], split: _Split, vectors: NDArray[np.float32] | None = None
    ) -> NDArray[np.float32]:
        sounds = self.sounds if vectors is None else None
        return control_scores(self.learner, self.base, split.seen, split.train, features, vectors, sounds)

    def _line(
        self, number: int, seed: int, method: str, unseen: tuple[str, ...], test_fold: int,
        outer_scores: NDArray[np.float32], inner_scores: NDArray[np.float32], outer: _Split, inner: _Split,
    ) -> Holdout:  # fmt: skip
        # The choice of the offset must not know the unseen classes of the outer split.
        known = np.isin(self.base.classes, unseen, invert=True)
        columns = np.cumsum(known) - 1
        offset = best_offset(
            inner_scores[inner.scored][:, known], columns[self.labels[inner.scored]], inner.seen[known]
        )
        scores, labels = outer_scores[outer.scored], self.labels[outer.scored]
        calibrated, plain = (gzsl(scores, labels, outer.seen, each) for each in (offset, 0.0))
        return Holdout(
            number, seed, method, unseen, test_fold, zsl(scores, labels, outer.seen), offset,
            calibrated.seen, calibrated.unseen, calibrated.harmonic_mean, plain.harmonic_mean,
        )  # fmt: skip

    def _random_vectors(
        self, number: int, seed: int, unseen: tuple[str, ...], test_fold: int,
        embedded: Sequence[NDArray[np.float32]], splits: Sequence[_Split], rng: np.random.Generator,
    ) -> Holdout:  # fmt: skip
        """Scores of the network's embeddings with random class vectors: the mean over several draws."""
        lines = []
        for _ in range(RANDOM_DRAWS):
            vectors = random_class_vectors(self.learner, rng)
            both = [self._control(*each, vectors) for each in zip(embedded, splits, strict=True)]
            lines.append(self._line(number, seed, "random vectors", unseen, test_fold, both[0], both[1], *splits))
        numbers = ("zsl", "offset", "gzsl_seen", "gzsl_unseen", "harmonic_mean", "plain_harmonic_mean")
        means = {name: float(np.mean([getattr(line, name) for line in lines])) for name in numbers}
        return replace(lines[0], **means)
