"""Embeddings of short windows, averaged with those of their neighbours."""

import numpy as np
from numpy.typing import NDArray

from serving.audio import Window

# What is averaged together. Windows of 0.96 s of 400 clips of ESC-50, one after the other without a pause, were named
# correctly in 75 % alone, 81 % as means of three (2.9 s), 79 % of five and 75 % of seven.
TOGETHER_S = 3.0


def windows_together(window: Window) -> int:
    """How many neighbouring windows are averaged: an odd number, about TOGETHER_S; 1 for windows of 4.8 s."""
    return 1 + 2 * round((TOGETHER_S * window.rate_hz / window.hop_samples - 1) / 2)


def smooth_rows(rows: NDArray[np.float32], together: int) -> NDArray[np.float32]:
    """The mean of each row [n, size] and its neighbours, `together` rows in all; fewer at both ends: [n, size]."""
    if together <= 1:
        return rows
    half = together // 2
    sums = np.concatenate([np.zeros((1, rows.shape[1])), np.cumsum(rows, axis=0, dtype=np.float64)])
    low = np.maximum(np.arange(len(rows)) - half, 0)
    high = np.minimum(np.arange(len(rows)) + half + 1, len(rows))
    return ((sums[high] - sums[low]) / (high - low)[:, None]).astype(np.float32)
