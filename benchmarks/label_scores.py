"""How right the labels of a recording are, given where its clips are."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
from numpy.typing import NDArray

WITHIN = 0.5  # share of a window or a row that has to lie in clips of its label


@dataclass(frozen=True)
class Clip:
    """A clip of ESC-50, and where it is in the recording, in seconds."""

    path: Path
    label: str
    start_s: float = 0.0
    end_s: float = 0.0


def precision_by_class(windows: pyarrow.Table, clips: Sequence[Clip], score: str) -> dict[str, float]:
    """Average precision of each label, from a table with a row for each window and label.

    score   the column that orders the windows
    """
    starts, ends, labels, scores = (windows[name].to_numpy() for name in ("start_s", "end_s", "label", score))
    result = {}
    for name in sorted({clip.label for clip in clips}):
        mine = labels == name
        within = covered(starts[mine], ends[mine], [clip for clip in clips if clip.label == name])
        is_right = within >= WITHIN * (ends[mine] - starts[mine])
        result[name] = average_precision(is_right, scores[mine])
    return result


def covered(starts: NDArray[Any], ends: NDArray[Any], clips: Sequence[Clip]) -> NDArray[np.float64]:
    """The longest stretch of one clip in each row [n], in seconds."""
    stretches = [np.minimum(ends, clip.end_s) - np.maximum(starts, clip.start_s) for clip in clips]
    return np.maximum(0, np.max(stretches, axis=0)) if clips else np.zeros(len(starts))


def average_precision(is_right: NDArray[np.bool_], scores: NDArray[Any]) -> float:
    """Mean over the right rows of the precision of all rows whose score is as high. NaN: no row is right.

    Source: the step-wise average precision of scikit-learn; rows of equal score are counted in their given order.
    """
    right = is_right[np.argsort(-scores, kind="stable")]
    if not right.any():
        return float("nan")
    return float((np.cumsum(right) / np.arange(1, len(right) + 1))[right].mean())


def precision_and_recall(rows: pyarrow.Table, clips: Sequence[Clip]) -> dict[str, float]:
    """Share of the rows that lie at least half in clips of their label, and of the clips that such a row touches."""
    starts, ends, labels = (rows[name].to_numpy() for name in ("start_s", "end_s", "label"))
    right, found = 0, 0
    for name in {clip.label for clip in clips}:
        own = [clip for clip in clips if clip.label == name]
        mine = labels == name
        first, last = starts[mine], ends[mine]
        stretches = np.array([np.minimum(last, clip.end_s) - np.maximum(first, clip.start_s) for clip in own])
        if stretches.size:
            is_right = np.maximum(0, stretches).sum(axis=0) >= WITHIN * (last - first)
            right += int(is_right.sum())
            found += int(((stretches > 0) & is_right).any(axis=1).sum())
    return {"rows": len(starts), "precision": right / max(1, len(starts)), "recall": found / len(clips)}
