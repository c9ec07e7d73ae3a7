"""Repeat a recipe over class hold-outs and seeds: how well it names classes that it never heard, and how surely.

Each hold-out trains on the seen classes outside one recording fold. Unseen are all clips of the held-out classes;
seen are the fold's clips of the seen classes. The GZSL offset comes from a second training, which holds out some of
the seen classes in the same way: neither the unseen classes nor the test clips have a part in it.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from itertools import combinations
from math import comb
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from serving.zeroshot import unit_rows
from training.config import RunConfig
from training.data.splits import ClassSplit, split_clips
from training.evaluation.controls import clip_statistics
from training.evaluation.scoring import best_offset, gzsl, zsl
from training.fit.checkpoint import write_text
from training.learner import Learner
from training.zeroshot_maps import class_vectors, ridge_scores

PSEUDO_SHARE = 0.3  # of the seen classes, held out to choose the offset
PSEUDO_VALIDATION_SHARE = 0.25  # of the clips: the seen clips of that choice
RANDOM_DRAWS = 10  # of random class vectors


@dataclass(frozen=True)
class Holdout:
    """One line of the results.

    method    "network", or a control: "no network" (log-mel statistics), "random vectors" (the network's embeddings)
    zsl       unseen classes among themselves
    offset    chosen on pseudo-unseen classes;  gzsl_*: with it;  gzsl_plain_*: without
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


def draw_holdouts(classes: Sequence[str], count: int, unseen: int, seed: int = 0) -> list[tuple[str, ...]]:
    """`count` different sets of `unseen` classes, drawn without regard to what they are.

    errors   ValueError: there are not so many
    """
    if count > comb(len(classes), unseen):
        raise ValueError(f"{len(classes)} classes have {comb(len(classes), unseen)} sets of {unseen}; got {count}")
    rng = np.random.default_rng(seed)
    if len(classes) <= 20:  # all sets can be listed
        sets = list(combinations(range(len(classes)), unseen))
        drawn = [sets[i] for i in rng.permutation(len(sets))[:count]]
    else:
        some: dict[tuple[int, ...], None] = {}  # in the order of the draws
        while len(some) < count:
            some[tuple(sorted(rng.choice(len(classes), unseen, replace=False).tolist()))] = None
        drawn = list(some)
    return [tuple(str(classes[i]) for i in each) for each in drawn]


@dataclass(frozen=True)
class _Split:
    """Rows of the clip table: trained on, and scored."""

    seen: NDArray[np.bool_]
    train: NDArray[np.int64]
    scored: NDArray[np.int64]


class Holdouts:
    """A recipe, repeated. Finished parts are kept in `folder` and not done twice."""

    def __init__(self, learner: Learner, base: RunConfig, folder: Path):
        self.learner = learner
        self.base = base
        self.folder = folder
        self.labels = learner.recordings.labels()
        self.statistics = clip_statistics(learner.recordings.frames)

    def run(self, number: int, unseen: tuple[str, ...], seed: int) -> list[Holdout]:
        """The network's line and the controls' of one hold-out and one seed."""
        path = self.folder / f"holdout-{number:02d}-seed-{seed}.json"
        if path.is_file():
            lines = [Holdout(**line) for line in json.loads(path.read_text())]
            if {line.unseen_classes for line in map(_tupled, lines)} == {unseen}:
                return [_tupled(line) for line in lines]
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
        methods = {"network": scores, "no network": [self._ridge(self.statistics, split) for split in splits]}
        lines = [
            self._line(number, seed, method, unseen, test_fold, *both, *splits) for method, both in methods.items()
        ]
        lines.append(self._random_vectors(number, seed, unseen, test_fold, embedded, splits, rng))
        write_text(path, json.dumps([asdict(line) for line in lines], indent=1))
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
        """Train; every clip's embedding [n, 128] and its cosines to all classes [n, n_classes]."""
        clips = config.clips(self.learner.recordings.table)
        work = self.folder / "work"
        work.mkdir(parents=True, exist_ok=True)
        # Validation clips would choose the epoch, and are wanted for the offset: the last epoch is taken.
        network, _ = self.learner.learn(config, replace(clips, validation=()), work)
        embeddings = self.learner.embed(network)
        train = self._split(config).train
        fitted = self.learner.zeroshot(config, network, (embeddings[train], self.labels[train]))
        return embeddings, replace(fitted, temperature=1.0).scores(embeddings)

    def _split(self, config: RunConfig) -> _Split:
        """Scored are the clips of classes held out, and of seen ones those kept back from training."""
        table = self.learner.recordings.table
        rows = {clip.path: row for row, clip in enumerate(table.clips)}
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
            np.array([rows[clip.path] for clip in clips.train]),
            np.array([rows[clip.path] for clip in (*kept_back, *held_out)]),
        )

    def _ridge(
        self, features: NDArray[np.float32], split: _Split, vectors: NDArray[np.float32] | None = None
    ) -> NDArray[np.float32]:
        """A control's scores [n, n_classes] from features [n, D]. vectors: other class vectors than the texts'."""
        if vectors is None:
            vectors = class_vectors(self.learner.texts, split.seen)
        return ridge_scores(self.base.classes, split.seen, vectors, features, self.labels, split.train)

    def _line(
        self, number: int, seed: int, method: str, unseen: tuple[str, ...], test_fold: int,
        outer_scores: NDArray[np.float32], inner_scores: NDArray[np.float32], outer: _Split, inner: _Split,
    ) -> Holdout:  # fmt: skip
        # The classes held out by the outer split are no classes at all to the choice of the offset.
        known = np.isin(self.base.classes, unseen, invert=True)
        columns = np.cumsum(known) - 1
        offset = best_offset(
            inner_scores[inner.scored][:, known], columns[self.labels[inner.scored]], inner.seen[known]
        )
        scores, labels = outer_scores[outer.scored], self.labels[outer.scored]
        scored, plain = (gzsl(scores, labels, outer.seen, some) for some in (offset, 0.0))
        return Holdout(
            number, seed, method, unseen, test_fold, zsl(scores, labels, outer.seen), offset,
            scored.seen, scored.unseen, scored.harmonic_mean, plain.harmonic_mean,
        )  # fmt: skip

    def _random_vectors(
        self, number: int, seed: int, unseen: tuple[str, ...], test_fold: int,
        embedded: Sequence[NDArray[np.float32]], splits: Sequence[_Split], rng: np.random.Generator,
    ) -> Holdout:  # fmt: skip
        """The network's embeddings, but class vectors that say nothing: the mean of several draws."""
        lines = []
        for _ in range(RANDOM_DRAWS):
            vectors = unit_rows(np.asarray(rng.standard_normal(self.learner.texts.shape), np.float32))
            both = [self._ridge(*each, vectors) for each in zip(embedded, splits, strict=True)]
            lines.append(self._line(number, seed, "random vectors", unseen, test_fold, both[0], both[1], *splits))
        numbers = ("zsl", "offset", "gzsl_seen", "gzsl_unseen", "harmonic_mean", "plain_harmonic_mean")
        means = {name: float(np.mean([getattr(line, name) for line in lines])) for name in numbers}
        return replace(lines[0], **means)


def _tupled(line: Holdout) -> Holdout:
    return replace(line, unseen_classes=tuple(line.unseen_classes))
