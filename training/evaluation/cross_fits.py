"""Repeat a recipe without a recording fold, and without a fold and a group of classes.

The scores of clips that a fit did not hear calibrate the fit of all clips, and say what a user can expect of it.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import StratifiedGroupKFold

from serving.errors import DataError
from serving.zeroshot import ZeroShot
from training.data.clip_frames import ClipSet
from training.data.clips import ClipTable
from training.data.splits import ClassSplit, ClipSplit
from training.fit.clip_embeddings import clip_features
from training.fit.whitening import whitening
from training.learner import Learner
from training.map_fit import class_side, fit_map, with_words
from training.networks import build_network
from training.published.pretrained import load_pretrained
from training.run_folder import RunConfig
from training.zeroshot_maps import fit_zeroshot

FOLDS = 4  # of recordings, where the data set has none of its own
GROUPS = 4  # of classes
FEWEST_CLASSES = 8  # two in each group

Job = tuple[int, int | None]  # the fold and the group of classes to hold out
Fit = Callable[[NDArray[np.int64], NDArray[np.bool_]], tuple[ZeroShot, NDArray[np.float32]]]


@dataclass(frozen=True)
class CrossFit:
    """A fit, and the clips that it did not hear.

    zeroshot    the map over all classes of the data set
    embeddings  [n_clips, 128] of all clips
    fold        of the recordings that were held out
    unseen      [n_classes] bool: the classes that were held out
    """

    zeroshot: ZeroShot
    embeddings: NDArray[np.float32]
    fold: int
    unseen: NDArray[np.bool_]


@dataclass(frozen=True)
class CrossFits:
    """The fits of a recipe. labels, folds: [n_clips] class and recording fold of each clip."""

    without_folds: list[CrossFit]
    without_classes: list[CrossFit]
    labels: NDArray[np.int64]
    folds: NDArray[np.int64]


def cross_fits(learner: Learner, config: RunConfig, track: Callable[[Sequence[Job]], Iterable[Job]]) -> CrossFits:
    """Fit the recipe once for each fold, and once for each pair of a fold and a group of classes.

    A recipe that trains is fitted without four pairs only, so that each clip and each class is held out once.
    track     shows the progress over a list of jobs
    errors    DataError: as `recording_folds`, or no recording fold has clips of several groups of classes
    """
    table = learner.recordings.table
    labels, n_classes = learner.recordings.labels(), len(table.classes)
    sources = np.array([clip.source for clip in table.clips])
    folds = recording_folds(table)
    group_of = np.random.default_rng(0).permutation(n_classes) % GROUPS
    numbers = np.unique(folds).tolist()
    fit = _whitened_fit(learner, config) if config.objective == "whitening" else _trained_fit(learner, config)
    pairs = [_pairs(group, group_of[labels], folds, numbers) for group in range(GROUPS)]
    if config.objective != "whitening":
        pairs = [[of_group[group % len(of_group)]] for group, of_group in enumerate(pairs)]
    jobs: list[Job] = [*((fold, None) for fold in numbers), *(pair for of_group in pairs for pair in of_group)]
    done = []
    for fold, group in track(jobs):
        unseen = group_of == group if group is not None else np.zeros(n_classes, bool)
        # A source recording that is also in the held-out fold is left out.
        train = ~np.isin(sources, sources[folds == fold]) & ~unseen[labels]
        zeroshot, embeddings = fit(np.flatnonzero(train), unseen)
        done.append(CrossFit(_placed_by_text(zeroshot, unseen), embeddings, fold, unseen))
    return CrossFits(done[: len(numbers)], done[len(numbers) :], labels, folds)


def _pairs(group: int, groups: NDArray[np.int64], folds: NDArray[np.int64], numbers: Sequence[int]) -> list[Job]:
    """A group with each fold that has clips of it and of others.

    groups, folds  [n_clips];  numbers: of the folds
    errors         DataError: there is no such fold
    """
    of_fold = {fold: groups[folds == fold] == group for fold in numbers}
    pairs: list[Job] = [(fold, group) for fold, own in of_fold.items() if own.any() and not own.all()]
    if not pairs:
        raise DataError("calibration: a recording fold has clips of some classes only; wanted each class in each fold")
    return pairs


def _placed_by_text(zeroshot: ZeroShot, unseen: NDArray[np.bool_]) -> ZeroShot:
    """The map whose unseen classes are placed by their texts alone: they stand for labels that are typed later."""
    if zeroshot.given_targets is None:
        return zeroshot
    return replace(zeroshot, given_targets=np.where(unseen[:, None], np.float32(0), zeroshot.given_targets))


def recording_folds(table: ClipTable) -> NDArray[np.int64]:
    """The recording fold of each clip: the data set's own if it has several, or FOLDS drawn, no source in two.

    errors   DataError: fewer than FEWEST_CLASSES classes, or a class has a single source recording
    """
    if len(table.classes) < FEWEST_CLASSES:
        raise DataError(f"calibration: got {len(table.classes)} classes; wanted {FEWEST_CLASSES} or more")
    own = [clip.fold for clip in table.clips]
    if None not in own and len(set(own)) > 1:
        return np.array(own, np.int64)
    labels, sources = (np.array([getattr(clip, name) for clip in table.clips]) for name in ("label", "source"))
    counts = {label: len(np.unique(sources[labels == label])) for label in np.unique(labels)}
    few = min(counts, key=lambda label: counts[label])
    if (fewest := counts[few]) < 2:
        counted = " (the files of one subfolder are one)" if table.dataset == "folder" else ""
        raise DataError(
            f"calibration: {table.classes[few]} has one source recording only{counted}; wanted two or more: add some"
        )
    folds = np.zeros(len(labels), np.int64)
    parts = StratifiedGroupKFold(min(FOLDS, fewest), shuffle=True, random_state=0).split(labels, labels, sources)
    for number, (_, rows) in enumerate(parts):
        folds[rows] = number
    return folds


def _whitened_fit(learner: Learner, config: RunConfig) -> Fit:
    """Fits in closed form on features that are computed once."""
    assert learner.init is not None
    network = build_network(config.network)
    load_pretrained(network, learner.init)
    labels = learner.recordings.labels()
    clips = ClipSet(learner.recordings.frames, np.arange(len(labels)), labels)
    device = learner.compute.device
    features = clip_features(network.to(device), clips, device).numpy().astype(np.float64)

    def fit(train: NDArray[np.int64], unseen: NDArray[np.bool_]) -> tuple[ZeroShot, NDArray[np.float32]]:
        mean, matrix = whitening(features[train], labels[train])
        embeddings = ((features - mean) @ matrix).astype(np.float32)
        embeddings /= np.linalg.norm(embeddings[train], axis=1).mean()
        seen = ~unseen
        clips = embeddings[train], labels[train]
        classes = with_words(learner, class_side(learner, seen), config, matrix)
        zeroshot = fit_zeroshot(classes, clips, None, config.map or "ridge")
        return replace(zeroshot, text_mean=learner.texts[seen].mean(axis=0)), embeddings

    return fit


def _trained_fit(learner: Learner, config: RunConfig) -> Fit:
    """Trainings of the network."""
    table, labels = learner.recordings.table, learner.recordings.labels()

    def fit(train: NDArray[np.int64], unseen: NDArray[np.bool_]) -> tuple[ZeroShot, NDArray[np.float32]]:
        named = [tuple(np.array(table.classes)[which].tolist()) for which in (~unseen, unseen)]
        held_out = replace(
            config,
            split=ClassSplit("cross", named[0], (), named[1]),
            validation_share=0.0,
            network=replace(config.network, n_classes=len(named[0])),
        )
        network = learner.learn_aside(held_out, ClipSplit(tuple(table.clips[i] for i in train), (), ()))
        embeddings = learner.embed(network)
        zeroshot = fit_map(learner, held_out, network, (embeddings[train], labels[train]))
        return replace(zeroshot, text_mean=learner.texts[~unseen].mean(axis=0)), embeddings

    return fit
