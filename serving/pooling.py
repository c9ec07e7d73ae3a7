"""A clip's embedding from the embeddings of its windows."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def pool(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """Average the embeddings [n_windows, 128] of a clip's windows (Xie 2021, arXiv:2011.12133). [128] float32."""
    return rows[0] if len(rows) == 1 else rows.mean(axis=0)


def pool_clips(rows: NDArray[np.float32], counts: Sequence[int]) -> NDArray[np.float32]:
    """Pool the windows of several clips, whose rows follow each other.

    rows     [n_windows of all clips, 128]
    counts   number of windows of each clip
    returns  [n_clips, 128] float32
    """
    return np.stack([pool(clip) for clip in np.split(rows, np.cumsum(counts)[:-1])])
