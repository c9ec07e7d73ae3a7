"""Rank labels for the windows of one recording."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from demo.heard import NOTHING
from demo.labels.label_kinds import LabelKind, label_kinds
from demo.labels.typed_labels import choose_labels
from demo.smoothing import smooth_rows, windows_together
from serving.audio import Window
from serving.embedder import Embedder
from serving.pooling import pool, pool_heard
from serving.zeroshot import ZeroShot
from serving.zeroshot.label_text import normalise_label
from serving.zeroshot.probabilities import softmax

BLOCK = 4096  # windows that are ranked at once: with 200 labels their scores take 7 MB


@dataclass(frozen=True, eq=False)
class RankedLabels:
    """The ranking of labels for one recording.

    chosen         the zero-shot map for these labels
    kinds          label -> where the model knows it from
    unknown_words  label -> its words that the text model does not know, if there are any
    ranking        (label, probability) pairs in descending order; the probabilities sum to 1
    similarity     largest cosine of the recording and a label
    none_of_these  whether the recording is like none of the labels;  noise: because it is even noise
    by_window      (label, probability) of the most probable label of each window, averaged with its neighbours
    none_by_window whether a window is like none of the labels
    similar_by_window  [n_windows] the largest cosine of each window and a label
    milliseconds   time for the label vectors and the ranking
    """

    chosen: ZeroShot
    kinds: dict[str, LabelKind]
    unknown_words: dict[str, list[str]]
    ranking: list[tuple[str, float]]
    similarity: float
    none_of_these: bool
    noise: bool
    by_window: list[tuple[str, float]]
    none_by_window: list[bool]
    similar_by_window: NDArray[np.float32]
    milliseconds: float

    @property
    def seen(self) -> set[str]:
        """The labels that are training classes."""
        return set(self.chosen.seen_names)

    def named_windows(self, silent: Sequence[bool]) -> list[str]:
        """The label of each window; NOTHING where it is silent or like none of the labels. silent: of each window."""
        return [
            NOTHING if none or mute else label
            for (label, _), none, mute in zip(self.by_window, self.none_by_window, silent, strict=True)
        ]


def rank_labels(
    embedder: Embedder,
    rows: NDArray[np.float32],
    labels: Sequence[str] | None,
    favour: float = 0.0,
    own: Mapping[str, str] | None = None,
    window: Window | None = None,
    levels_dbfs: Sequence[float] | None = None,
) -> RankedLabels:
    """Rank labels for a clip's windows [n_windows, 128].

    labels           as for `Embedder.classify`
    favour           added to the bundle's own offset for these labels: above 0, unseen labels win more often
    own              the visitor's descriptions, see `read_descriptions`
    window           of the rows; None: the model's own
    levels_dbfs      peak level of each window; silent ones do not count for the whole clip. None: all count
    errors           LabelError
    """
    start = time.perf_counter()
    own = own or {}
    chosen = choose_labels(embedder, labels, own)
    offset = chosen.own_offset + favour
    clip = pool(rows) if levels_dbfs is None else pool_heard(rows, levels_dbfs)
    smooth = smooth_rows(rows, windows_together(window or embedder.manifest.window))
    kinds = label_kinds(embedder, chosen, own)
    typed = [label for label, kind in kinds.items() if kind is LabelKind.TYPED and normalise_label(label) not in own]
    return RankedLabels(
        chosen,
        kinds,
        embedder.labels.unknown_words(typed),
        chosen.rank(clip, offset=offset),
        float(chosen.similarities(clip[None]).max()),
        bool(chosen.none_of_these(clip[None])[0]),
        bool(chosen.is_noise(clip[None])[0]),
        *_name_windows(chosen, smooth, offset),
        1000 * (time.perf_counter() - start),
    )


def _name_windows(
    chosen: ZeroShot, rows: NDArray[np.float32], offset: float
) -> tuple[list[tuple[str, float]], list[bool], NDArray[np.float32]]:
    """`by_window`, `none_by_window` and `similar_by_window` of rows [n_windows, 128], a block at a time."""
    named: list[tuple[str, float]] = []
    none: list[bool] = []
    similar: list[NDArray[np.float32]] = []
    for first in range(0, len(rows), BLOCK):
        block = rows[first : first + BLOCK]
        shares = softmax(chosen.scores(block, offset=offset))  # [n, C]
        best, largest = shares.argmax(axis=1), shares.max(axis=1)
        named += [(chosen.class_names[i], share) for i, share in zip(best, largest.tolist(), strict=True)]
        none += chosen.none_of_these(block).tolist()
        similar.append(chosen.similarities(block).max(axis=1))
    return named, none, np.concatenate(similar)
