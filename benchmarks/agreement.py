"""How far the embeddings of two ways lie apart, the worst row."""

import numpy as np
from numpy.typing import NDArray


def worst_cosine(rows: NDArray[np.floating], reference: NDArray[np.floating]) -> float:
    """The least cosine of any row with the same row of the reference, both [n, size]; 1 is agreement.

    A row that is not finite counts as -1, one that is zero as 0 unless its reference is zero too.
    """
    assert rows.shape == reference.shape, f"got {rows.shape}, wanted {reference.shape}"
    left, right = rows.astype(np.float64), reference.astype(np.float64)
    lengths = np.linalg.norm(left, axis=1) * np.linalg.norm(right, axis=1)
    with np.errstate(invalid="ignore"):
        cosines = np.divide((left * right).sum(axis=1), lengths, out=np.zeros(len(left)), where=lengths != 0)
    cosines[~left.any(axis=1) & ~right.any(axis=1)] = 1.0
    return float(np.where(np.isfinite(cosines), np.clip(cosines, -1.0, 1.0), -1.0).min())
