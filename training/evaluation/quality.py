"""Quality of embeddings without a classifier or a map: do clips of a class lie close together?"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn import config_context
from sklearn.metrics import silhouette_score

from serving.errors import DataError

MOST_NEIGHBOURS = 10
COSINES_AT_A_TIME = 2**20  # 8 MB
SILHOUETTE_MB = 32  # of cosines at a time


@dataclass(frozen=True)
class Quality:
    """Measures of labelled embeddings. Cosines and neighbours are of the embeddings as they are, not centred.

    silhouette       mean silhouette with cosine distance, -1 to 1; 0 means overlapping classes
                     (Rousseeuw 1987, doi:10.1016/0377-0427(87)90125-7)
    knn5, knn10      share of a clip's 5 or 10 nearest neighbours (cosine) that are of its class, 0 to 1, mean over
                     clips. Clips of its own source recording do not count. If its class has fewer than 5 or 10
                     other clips, only that many neighbours are looked at, so that 1 can be reached
    knn_chance       the same with neighbours drawn at random
    within_cosine    mean cosine between two clips of one class and different source recordings
    between_cosine   mean cosine between two clips of different classes
    effective_rank   exponential of the entropy of the centred embeddings' normalised singular values, 1 to the
                     embedding's size: the number of directions in use (Roy & Vetterli 2007, EUSIPCO, pp. 606-610)
    """

    silhouette: float
    knn5: float
    knn10: float
    knn_chance: float
    within_cosine: float
    between_cosine: float
    effective_rank: float


def embedding_quality(
    embeddings: NDArray[np.float32], labels: NDArray[np.integer], sources: NDArray[np.str_]
) -> Quality:
    """Measure the quality of labelled embeddings.

    embeddings  [n, size] float, not normalised
    labels      [n] class of each clip
    sources     [n] source recording of each clip (LabelledClip.source): clips of one recording are alike in any case
    errors      DataError: fewer than two classes, a class with a single source recording, or embeddings that are
                zero or not finite
    """
    unit = _unit_rows(embeddings)
    _check(labels, sources)
    numbers = np.unique(sources, return_inverse=True)[1]  # integers are compared faster than names
    n = len(unit)
    n_within, n_other, n_between = (np.empty(n, np.int64) for _ in range(3))  # of each clip's pairs
    sum_within, sum_between = np.empty(n), np.empty(n)
    hits = np.empty((n, min(MOST_NEIGHBOURS, n)), np.bool_)  # nearest first
    rows = max(1, COSINES_AT_A_TIME // n)
    for part in (slice(first, first + rows) for first in range(0, n, rows)):
        same_class = labels[part, None] == labels
        other_source = numbers[part, None] != numbers
        within = same_class & other_source
        cosines = unit[part] @ unit.T  # [rows, n]
        nearest = _smallest(np.where(other_source, -cosines, np.inf), hits.shape[1])  # same source: last
        hits[part] = np.take_along_axis(within, nearest, axis=1)
        n_within[part], n_other[part], n_between[part] = (
            each.sum(axis=1) for each in (within, other_source, ~same_class)
        )
        sum_within[part] = cosines.sum(axis=1, where=within)
        sum_between[part] = cosines.sum(axis=1, where=~same_class)

    def consistency(k: int) -> float:
        asked = np.minimum(k, n_within)  # [n]
        counted = hits & (np.arange(hits.shape[1]) < asked[:, None])
        return float((counted.sum(axis=1) / asked).mean())

    with config_context(working_memory=SILHOUETTE_MB):
        silhouette = float(silhouette_score(unit, labels, metric="cosine"))
    return Quality(
        silhouette=silhouette,
        knn5=consistency(5),
        knn10=consistency(MOST_NEIGHBOURS),
        knn_chance=float((n_within / n_other).mean()),
        within_cosine=float(sum_within.sum() / n_within.sum()),
        between_cosine=float(sum_between.sum() / n_between.sum()),
        effective_rank=_effective_rank(embeddings),
    )


def _smallest(values: NDArray[np.float64], count: int) -> NDArray[np.int64]:
    """The columns of the smallest values of each row, ascending: [rows, count]. Of equal values the first come first.

    They are those of a stable sort, which would take ten times as long.
    """
    bound = np.partition(values, count - 1, axis=1)[:, count - 1 : count]
    below, equal = values < bound, values == bound
    chosen = below | (equal & (equal.cumsum(axis=1) <= count - below.sum(axis=1, keepdims=True)))
    columns = np.nonzero(chosen)[1].reshape(len(values), count)
    order = np.take_along_axis(values, columns, axis=1).argsort(axis=1, kind="stable")
    return np.take_along_axis(columns, order, axis=1)


def _unit_rows(embeddings: NDArray[np.float32]) -> NDArray[np.float64]:
    values = embeddings.astype(np.float64)
    lengths = np.linalg.norm(values, axis=1, keepdims=True)
    bad = int(np.count_nonzero(~np.isfinite(lengths) | (lengths == 0)))
    if bad:
        raise DataError(f"embeddings: {bad} of {len(values)} are zero or not finite; train the network again")
    return values / lengths


def _check(labels: NDArray[np.integer], sources: NDArray[np.str_]) -> None:
    classes = np.unique(labels)
    if len(classes) < 2:
        raise DataError(f"embedding quality: got {len(classes)} class; wanted two or more")
    for label in classes:
        if len(np.unique(sources[labels == label])) < 2:
            raise DataError(
                f"embedding quality: class {label} has clips of one source recording only; wanted two or more"
            )


def _effective_rank(embeddings: NDArray[np.float32]) -> float:
    centred = embeddings.astype(np.float64) - embeddings.mean(axis=0, dtype=np.float64)
    singular = np.linalg.svd(centred, compute_uv=False)
    shares = singular / max(singular.sum(), np.finfo(np.float64).tiny)
    shares = shares[shares > 0]
    return float(np.exp(-(shares * np.log(shares)).sum()))
