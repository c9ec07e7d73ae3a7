"""Embeddings of the windows of a recording -> which label is heard from when to when."""

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from serving.audio import SILENT_DBFS
from serving.audio.level import SHORTEST_S
from serving.zeroshot import ZeroShot
from serving.zeroshot.probabilities import softmax

# Where no least similarity is known. Of 0.3, 0.5, 0.7 and 0.9 it gave the best balance of precision and recall, see
# docs/results/labelling.md.
LEAST_PROBABILITY = 0.7
TOUCHING_S = 1e-6  # rounding of times


@dataclass(frozen=True)
class LabelRules:
    """When a window gets a label.

    threshold    least similarity (cosine, -1 to 1); None: any
    probability  least probability among the labels, 0 to 1
    top          most labels of a window
    offset       subtracted from the scores of classes seen in training; None: the bundle's own
    merge        join windows of one label that touch or overlap
    """

    threshold: float | None
    probability: float
    top: int = 1
    offset: float | None = None
    merge: bool = True


@dataclass(frozen=True)
class Detection:
    """A label that is heard in a stretch of a recording.

    start_s, end_s  in the recording, in seconds; never beyond its end
    probability     the largest of its windows; the labels' probabilities sum to 1 in each window
    similarity      the largest of its windows: the cosine of sound and label
    windows         number of windows
    """

    start_s: float
    end_s: float
    label: str
    probability: float
    similarity: float
    windows: int = 1


def name_windows(
    zeroshot: ZeroShot,
    rules: LabelRules,
    starts_s: NDArray[np.float64],
    ends_s: NDArray[np.float64],
    levels_dbfs: NDArray[np.float64],
    embeddings: NDArray[np.float32],
) -> list[Detection]:
    """The labels of each window [n], in the order of the windows, most probable first.

    embeddings   [n, 128] float32
    A window whose peak level is below SILENT_DBFS gets none: its embedding is that of silence. One with less than
    SHORTEST_S of sound gets none. With a threshold, even noise gets none.
    """
    if not len(embeddings):
        return []
    offset = zeroshot.own_offset if rules.offset is None else rules.offset
    similarities = zeroshot.similarities(embeddings)  # [n, C]
    shares = softmax(zeroshot.scores(embeddings, offset=offset))
    taken = shares >= rules.probability
    if rules.threshold is not None:
        taken &= similarities >= rules.threshold
        taken &= ~zeroshot.is_noise(embeddings)[:, None]
    taken &= ((levels_dbfs >= SILENT_DBFS) & (ends_s - starts_s >= SHORTEST_S))[:, None]
    ranked = np.argsort(-shares, axis=1, kind="stable")[:, : rules.top]
    return [
        Detection(
            float(starts_s[row]),
            float(ends_s[row]),
            zeroshot.class_names[column],
            float(shares[row, column]),
            float(similarities[row, column]),
        )
        for row, columns in enumerate(ranked)
        for column in columns
        if taken[row, column]
    ]


def join_windows(detections: Iterable[Detection]) -> list[Detection]:
    """Join the windows of each label that touch or overlap, of detections in the order of their starts.

    returns   in the order of the starts
    """
    joined: list[Detection] = []
    latest: dict[str, int] = {}  # label -> its last place in `joined`
    for found in detections:
        place = latest.get(found.label)
        if place is None or found.start_s > joined[place].end_s + TOUCHING_S:
            latest[found.label] = len(joined)
            joined.append(found)
            continue
        known = joined[place]
        joined[place] = replace(
            known,
            end_s=max(known.end_s, found.end_s),
            probability=max(known.probability, found.probability),
            similarity=max(known.similarity, found.similarity),
            windows=known.windows + 1,
        )
    return joined
