"""Scores of one trained network: seen classes, unseen classes with their controls, embeddings; with figures."""

from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.metrics import confusion_matrix

from serving.errors import DataError
from serving.zeroshot import ZeroShot
from serving.zeroshot.label_text import words_of_label
from serving.zeroshot.zeroshot_file import read_zeroshot
from training.data.clips import LabelledClip
from training.data.splits import ClipSplit
from training.evaluation.controls import (
    RANDOM_DRAWS,
    clip_statistics,
    control_scores,
    random_class_vectors,
    sound_statistics,
)
from training.evaluation.embedding_plot import draw_embedding_map
from training.evaluation.plots import draw_confusion, draw_tradeoff, save_figure
from training.evaluation.quality import embedding_quality
from training.evaluation.scoring import area_under_tradeoff, gzsl, tradeoff, zsl
from training.fit.clip_embeddings import head_loss_and_accuracy
from training.learner import Learner
from training.networks import Network
from training.run_folder import CONFUSION, EMBEDDING_MAP, TRADEOFF, ZEROSHOT, RunConfig
from training.text_encoders import text_encoder
from training.zeroshot_maps import centred_unit_rows

# Top-1 accuracy on unseen classes in percent, mean over 10 seeds: the better of the study's two methods per split.
# Source: results/ of github.com/ysims/ZeroDiffusion.
PUBLISHED = {
    ("ESC-50", "fold04"): 25.1,
    ("ESC-50", "fold14"): 44.4,
    ("ESC-50", "fold24"): 29.1,
    ("ESC-50", "fold34"): 33.6,
    ("ESC-50", "fold4"): 27.4,
    ("FSC22", "val"): 30.4,
    ("FSC22", "test"): 24.2,
}


@dataclass(frozen=True)
class Assessment:
    """Accuracies 0 to 1; None where the run has no such clips.

    seen_accuracy, seen_clips    the training head on held-back clips: those of "test", otherwise of "validation"
    n_*                          how many were scored
    zsl                          among the unseen classes, mean over classes; zsl_*: chance and controls. None where one
                                 class alone is unseen, because then no clip can be named wrong: zsl_chance is 1
    zsl_texts_alone              the same where their texts place the classes, and not their attributes, as labels that
                                 are typed later are placed; None: the run has no attributes
    zsl_names_alone              the same where their bare names do, without descriptions; None: the text encoder does
                                 not know a name
    published_zsl                the study's score on this split
    gzsl_plain_*                 among all classes, no offset;  gzsl_area: area under the trade-off curve
    gzsl_offset, gzsl_*          with the map's own offset, which pseudo-unseen classes chose; None: it has none
    quality                      training.evaluation.quality by group of clips
    """

    seen_accuracy: float | None = None
    seen_clips: str = ""
    n_seen_classes: int = 0
    n_seen_clips: int = 0
    n_unseen_classes: int = 0
    n_unseen_clips: int = 0
    zsl: float | None = None
    zsl_chance: float | None = None
    zsl_texts_alone: float | None = None
    zsl_names_alone: float | None = None
    zsl_no_network: float | None = None
    zsl_random_vectors: float | None = None
    published_zsl: float | None = None
    gzsl_plain_seen: float | None = None
    gzsl_plain_unseen: float | None = None
    gzsl_plain_harmonic_mean: float | None = None
    gzsl_area: float | None = None
    gzsl_area_no_network: float | None = None
    gzsl_offset: float | None = None
    gzsl_seen: float | None = None
    gzsl_unseen: float | None = None
    gzsl_harmonic_mean: float | None = None
    quality: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class _Parts:
    """Which classes [n_classes] and clips (rows of the table) take part in the scores.

    held_back  clips of seen classes that were not trained on
    """

    seen: NDArray[np.bool_]
    unseen: NDArray[np.bool_]
    train: NDArray[np.int64]
    held_back: NDArray[np.int64]


def assess(learner: Learner, config: RunConfig, network: Network, run: Path, out: Path) -> Assessment:
    """Score a network in eval mode and write confusion.png, map.png and tradeoff.png into `out`."""
    table, labels = learner.recordings.table, learner.recordings.labels()
    clips = config.own_clips(table)
    parts = _parts(clips, learner, config)
    embeddings = learner.embed(network)
    zeroshot = read_zeroshot(run / ZEROSHOT)
    unseen_rows = np.flatnonzero(parts.unseen[labels])
    result = Assessment(
        seen_clips="test" if clips.test else "validation",
        n_seen_classes=int(parts.seen.sum()),
        n_seen_clips=len(parts.held_back),
        n_unseen_classes=int(parts.unseen.sum()),
        n_unseen_clips=len(unseen_rows),
    )
    if len(parts.held_back):
        among_seen = np.cumsum(parts.seen) - 1  # index among the seen classes
        rows, targets = embeddings[parts.held_back], among_seen[labels[parts.held_back]]
        head = head_loss_and_accuracy(network, torch.from_numpy(rows), targets, learner.compute.device)
        result = replace(result, seen_accuracy=head[1])
        guesses = zeroshot.scores(rows, zeroshot.seen_names).argmax(axis=1)
        counts = confusion_matrix(targets, guesses, labels=np.arange(parts.seen.sum()))
        save_figure(draw_confusion(counts, zeroshot.seen_names), out / CONFUSION)
    if parts.unseen.any():
        scores = replace(zeroshot, temperature=1.0).scores(embeddings)
        statistics, sounds = clip_statistics(learner.recordings.frames), sound_statistics(learner, config)
        control = control_scores(learner, config, parts.seen, parts.train, statistics, sounds=sounds)
        placed_by_text = replace(zeroshot, given_targets=None)
        typed = {
            "zsl_texts_alone": placed_by_text if config.attributes else None,
            "zsl_names_alone": _placed_by_name(placed_by_text, config),
        }
        by_text = {name: placed.scores(embeddings) for name, placed in typed.items() if placed}
        result = _among_unseen(learner, config, parts, embeddings, scores, by_text, control, result)
        if len(parts.held_back):
            names = [name for name, asked in zip(zeroshot.class_names, parts.seen | parts.unseen, strict=True) if asked]
            offset = zeroshot.choose(names).own_offset / zeroshot.temperature
            result = _among_all(parts, scores, control, labels, offset, out, result)
    mapped = np.concatenate([parts.held_back, unseen_rows])
    if len(mapped) >= 3:
        figure = draw_embedding_map(embeddings[mapped], labels[mapped], table.classes, parts.seen)
        save_figure(figure, out / EMBEDDING_MAP)
    groups = {"seen classes": parts.held_back, "unseen classes": unseen_rows}
    return replace(result, quality={name: _quality(embeddings, table.clips, rows) for name, rows in groups.items()})


def _placed_by_name(zeroshot: ZeroShot, config: RunConfig) -> ZeroShot | None:
    """The map whose classes stand where their bare names place them; None: the text encoder does not know a name."""
    if zeroshot.text_mean is None:
        return None
    try:
        vectors = text_encoder(config.text)([words_of_label(name) for name in zeroshot.class_names])
    except DataError:
        return None
    return replace(zeroshot, class_vectors=centred_unit_rows(vectors, zeroshot.text_mean))


def _parts(clips: ClipSplit, learner: Learner, config: RunConfig) -> _Parts:
    classes, rows, split = learner.recordings.table.classes, learner.recordings.rows, config.split
    # foldX4 and "val" score their validation classes, as published; FSC22's other splits score the test classes.
    of_fsc22 = config.dataset == "FSC22" and split.name != "val"
    scored = split.unseen_test if of_fsc22 or not split.unseen_validation else split.unseen_validation
    return _Parts(np.isin(classes, split.seen), np.isin(classes, scored), rows(clips.train), rows(clips.held_out))


def _among_unseen(
    learner: Learner, config: RunConfig, parts: _Parts, embeddings: NDArray[np.float32],
    scores: NDArray[np.float32], by_text: dict[str, NDArray[np.float32]], control: NDArray[np.float32],
    result: Assessment,
) -> Assessment:  # fmt: skip
    """ZSL: accuracy when only the unseen classes can be guessed. scores, by_text, control [n_clips, n_classes]."""
    labels = learner.recordings.labels()
    rows = np.flatnonzero(parts.unseen[labels])
    if parts.unseen.sum() == 1:
        return replace(result, zsl_chance=1.0)

    def accuracy(class_scores: NDArray[np.float32]) -> float:
        return zsl(class_scores[rows], labels[rows], ~parts.unseen)

    rng = np.random.default_rng(config.seed)
    drawn = [random_class_vectors(learner, rng) for _ in range(RANDOM_DRAWS)]
    known = learner, config, parts.seen, parts.train, embeddings
    random = [accuracy(control_scores(*known, vectors)) for vectors in drawn]
    published = None if config.split.missing else PUBLISHED.get((config.dataset, config.split.name))
    return replace(
        result,
        zsl=accuracy(scores),
        **{name: accuracy(each) for name, each in by_text.items()},
        zsl_chance=float(1 / parts.unseen.sum()),
        zsl_no_network=accuracy(control),
        zsl_random_vectors=float(np.mean(random)),
        published_zsl=None if published is None else published / 100,
    )


def _among_all(
    parts: _Parts, scores: NDArray[np.float32], control: NDArray[np.float32], labels: NDArray[np.int64],
    offset: float, out: Path, result: Assessment,
) -> Assessment:  # fmt: skip
    """GZSL: accuracy when all classes can be guessed, and tradeoff.png. scores, control [n_clips, n_classes].

    offset   in cosines, chosen on pseudo-unseen classes of the training; 0: none was chosen
    """
    asked = parts.seen | parts.unseen
    rows = np.concatenate([parts.held_back, np.flatnonzero(parts.unseen[labels])])
    seen, targets = parts.seen[asked], (np.cumsum(asked) - 1)[labels[rows]]
    of_network, of_control = scores[rows][:, asked], control[rows][:, asked]
    curve = tradeoff(of_network, targets, seen)
    plain = gzsl(of_network, targets, seen, 0.0)
    result = replace(
        result,
        gzsl_plain_seen=plain.seen,
        gzsl_plain_unseen=plain.unseen,
        gzsl_plain_harmonic_mean=plain.harmonic_mean,
        gzsl_area=area_under_tradeoff(curve),
        gzsl_area_no_network=area_under_tradeoff(tradeoff(of_control, targets, seen)),
    )
    chosen = None
    if offset:
        chosen = gzsl(of_network, targets, seen, offset)
        result = replace(
            result,
            gzsl_offset=offset,
            gzsl_seen=chosen.seen,
            gzsl_unseen=chosen.unseen,
            gzsl_harmonic_mean=chosen.harmonic_mean,
        )
    save_figure(draw_tradeoff(curve, chosen), out / TRADEOFF)
    return result


def _quality(
    embeddings: NDArray[np.float32], clips: tuple[LabelledClip, ...], rows: NDArray[np.int64]
) -> dict[str, Any]:
    labels = np.array([clips[row].label for row in rows])
    try:
        return asdict(embedding_quality(embeddings[rows], labels, np.array([clips[row].source for row in rows])))
    except DataError as error:
        return {"not measured": str(error)}
