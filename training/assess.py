"""What one trained network is worth: seen classes, unseen classes with their controls, embeddings; with figures."""

from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.metrics import confusion_matrix

from serving.errors import DataError
from serving.zeroshot import ZeroShot, unit_rows
from training.config import RunConfig
from training.data.clips import Clip
from training.learn import Learner
from training.loop import judge_embeddings
from training.maps import draw_map
from training.networks import Network
from training.plots import draw_confusion, draw_tradeoff, save_figure
from training.quality import embedding_quality
from training.scoring import area_under_tradeoff, best_offset, gzsl, tradeoff, zsl
from training.statistics import clip_statistics
from training.zeroshot import class_vectors, ridge_scores

RANDOM_DRAWS = 10

# Unseen top-1 in percent, mean over 10 seeds: the best of the study's two methods for each split.
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

    seen_accuracy, seen_clips    the network's head on clips kept back: "test" clips, else "validation"
    zsl                          unseen classes among themselves, mean over classes; zsl_*: controls and chance
    published_zsl                the study's score on this split
    gzsl_plain_*                 all classes, no offset;  gzsl_area: area under the trade-off curve
    gzsl_offset, gzsl_*          with the offset chosen on the split's validation classes, where it has some
    quality                      see training.quality, by group of clips
    """

    seen_accuracy: float | None = None
    seen_clips: str = ""
    zsl: float | None = None
    zsl_chance: float | None = None
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
class _Judged:
    """Which classes and clips (rows of the table) take part."""

    seen: NDArray[np.bool_]
    unseen: NDArray[np.bool_]
    chooses: NDArray[np.bool_]
    train: NDArray[np.int64]
    validation: NDArray[np.int64]
    kept_back: NDArray[np.int64]


def assess(learner: Learner, config: RunConfig, network: Network, run: Path, out: Path) -> Assessment:
    """Score a network in eval mode and write confusion.png, map.png and tradeoff.png into `out`."""
    table, labels = learner.recordings.table, learner.recordings.labels()
    judged = _judged(learner, config)
    embeddings = learner.embed(network)
    zeroshot = ZeroShot.load(run / "zeroshot.npz")
    result = Assessment(seen_clips="test" if config.test_fold is not None else "validation")
    if len(judged.kept_back):
        among_seen = np.cumsum(judged.seen) - 1
        rows, wanted = embeddings[judged.kept_back], labels[judged.kept_back]
        head = judge_embeddings(network, torch.from_numpy(rows), among_seen[wanted], learner.machine.device)
        result = replace(result, seen_accuracy=head[1])
        guesses = zeroshot.scores(rows, zeroshot.seen_names).argmax(axis=1)
        counts = confusion_matrix(among_seen[wanted], guesses, labels=np.arange(judged.seen.sum()))
        save_figure(draw_confusion(counts, zeroshot.seen_names), out / "confusion.png")
    if judged.unseen.any():
        scores = replace(zeroshot, temperature=1.0).scores(embeddings)
        result = _unseen(learner, config, judged, embeddings, scores, labels, out, result)
    unseen_rows = np.flatnonzero(judged.unseen[labels])
    mapped = np.concatenate([judged.kept_back, unseen_rows])
    if len(mapped) >= 3:
        save_figure(draw_map(embeddings[mapped], labels[mapped], table.classes, judged.seen), out / "map.png")
    groups = {"seen classes": judged.kept_back, "unseen classes": unseen_rows}
    return replace(result, quality={name: _quality(embeddings, table.clips, rows) for name, rows in groups.items()})


def _judged(learner: Learner, config: RunConfig) -> _Judged:
    table = learner.recordings.table
    clips = config.clips(table)
    rows = {clip.path: row for row, clip in enumerate(table.clips)}
    train, validation, test = (
        np.array([rows[clip.path] for clip in part], np.int64) for part in (clips.train, clips.validation, clips.test)
    )
    groups = [np.isin(table.classes, names) for names in (config.split.unseen_validation, config.split.unseen_test)]
    # foldX4 and "val" judge their validation classes, as published; only FSC22's "test" has others to choose by.
    chooses, unseen = groups
    if chooses.any() and not (config.dataset == "FSC22" and config.split.name != "val"):
        chooses, unseen = np.zeros_like(unseen), chooses
    kept_back = test if len(test) else validation
    return _Judged(np.isin(table.classes, config.split.seen), unseen, chooses, train, validation, kept_back)


def _unseen(
    learner: Learner, config: RunConfig, judged: _Judged, embeddings: NDArray[np.float32],
    scores: NDArray[np.float32], labels: NDArray[np.int64], out: Path, result: Assessment,
) -> Assessment:  # fmt: skip
    statistics = clip_statistics(learner.recordings.frames)
    control = _ridge(learner, judged, statistics, labels)
    rng = np.random.default_rng(config.seed)
    drawn = [unit_rows(np.asarray(rng.standard_normal(learner.texts.shape), np.float32)) for _ in range(RANDOM_DRAWS)]
    unseen_rows = np.flatnonzero(judged.unseen[labels])

    def among_unseen(some: NDArray[np.float32]) -> float:
        return zsl(some[unseen_rows], labels[unseen_rows], ~judged.unseen)

    published = None if config.split.missing else PUBLISHED.get((config.dataset, config.split.name))
    result = replace(
        result,
        zsl=among_unseen(scores),
        zsl_chance=float(1 / judged.unseen.sum()),
        zsl_no_network=among_unseen(control),
        zsl_random_vectors=float(
            np.mean([among_unseen(_ridge(learner, judged, embeddings, labels, vectors)) for vectors in drawn])
        ),
        published_zsl=None if published is None else published / 100,
    )
    if not len(judged.kept_back):
        return result
    asked = judged.seen | judged.unseen
    columns = np.cumsum(asked) - 1
    rows = np.concatenate([judged.kept_back, unseen_rows])
    curves = [tradeoff(some[rows][:, asked], columns[labels[rows]], judged.seen[asked]) for some in (scores, control)]
    plain = gzsl(scores[rows][:, asked], columns[labels[rows]], judged.seen[asked], 0.0)
    result = replace(
        result,
        gzsl_plain_seen=plain.seen,
        gzsl_plain_unseen=plain.unseen,
        gzsl_plain_harmonic_mean=plain.harmonic_mean,
        gzsl_area=area_under_tradeoff(curves[0]),
        gzsl_area_no_network=area_under_tradeoff(curves[1]),
    )
    chosen = None
    if judged.chooses.any() and len(judged.validation):
        offset = _choose_offset(judged, scores, labels)
        chosen = gzsl(scores[rows][:, asked], columns[labels[rows]], judged.seen[asked], offset)
        result = replace(
            result,
            gzsl_offset=offset,
            gzsl_seen=chosen.seen,
            gzsl_unseen=chosen.unseen,
            gzsl_harmonic_mean=chosen.harmonic_mean,
        )
    save_figure(draw_tradeoff(curves[0], chosen), out / "tradeoff.png")
    return result


def _choose_offset(judged: _Judged, scores: NDArray[np.float32], labels: NDArray[np.int64]) -> float:
    """By the split's validation classes and the validation clips: neither judged classes nor test clips take part."""
    asked = judged.seen | judged.chooses
    rows = np.concatenate([judged.validation, np.flatnonzero(judged.chooses[labels])])
    return best_offset(scores[rows][:, asked], (np.cumsum(asked) - 1)[labels[rows]], judged.seen[asked])


def _ridge(
    learner: Learner, judged: _Judged, features: NDArray[np.float32], labels: NDArray[np.int64],
    vectors: NDArray[np.float32] | None = None,
) -> NDArray[np.float32]:  # fmt: skip
    """A control's scores [n, n_classes] from features [n, D]. vectors: other class vectors than the texts'."""
    if vectors is None:
        vectors = class_vectors(learner.texts, judged.seen)
    return ridge_scores(learner.recordings.table.classes, judged.seen, vectors, features, labels, judged.train)


def _quality(embeddings: NDArray[np.float32], clips: tuple[Clip, ...], rows: NDArray[np.int64]) -> dict[str, Any]:
    labels = np.array([clips[row].label for row in rows])
    try:
        return asdict(embedding_quality(embeddings[rows], labels, np.array([clips[row].source for row in rows])))
    except DataError as error:
        return {"not measured": str(error)}
