"""A clip's embedding from the embeddings of its windows."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from serving.audio.level import SILENT_DBFS


def pool(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """Average the embeddings [n_windows, 128] of a clip's windows (Xie 2021, arXiv:2011.12133). [128] float32."""
    return rows[0] if len(rows) == 1 else rows.mean(axis=0)


def pool_heard(rows: NDArray[np.float32], levels_dbfs: ArrayLike) -> NDArray[np.float32]:
    """Average the embeddings of the windows that are not silent: [128] float32. With none of them, that of all.

    A recording is compared with labels and with other sounds by this: a pause has an embedding too, which is near to
    that of some class. See docs/results/labels.md.

    levels_dbfs   [n_windows] peak level of each window, see `serving.audio.level_dbfs`
    """
    heard = np.asarray(levels_dbfs) >= SILENT_DBFS
    return pool(rows[heard] if heard.any() else rows)


def pool_like(per: str, rows: NDArray[np.float32], levels_dbfs: ArrayLike) -> NDArray[np.float32]:
    """Average the embeddings of a sound's windows as the rows of a library were made, so that it finds itself there.

    per           what each row of the library is: "clip", of which all windows count, or "window"
    levels_dbfs   as for `pool_heard`, which is used for windows
    """
    return pool(rows) if per == "clip" else pool_heard(rows, levels_dbfs)
