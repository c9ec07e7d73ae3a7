"""Cosine similarity of embeddings, row by row: how well two runtimes agree."""

import numpy as np
from numpy.typing import NDArray


def row_cosines(reference: NDArray[np.floating], candidate: NDArray[np.floating]) -> NDArray[np.float64]:
    """Cosine of each pair of rows [n, size], in float64: [n]. 0 if a row is all zeros, because it has no direction."""
    a, b = reference.astype(np.float64), candidate.astype(np.float64)
    lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(lengths == 0, 0.0, (a * b).sum(axis=1) / lengths)


def worst_cosine(rows: NDArray[np.floating], reference: NDArray[np.floating]) -> float:
    """The lowest cosine of any row with the same row of the reference, both [n, size]; 1 is full agreement.

    A row that is not finite counts as -1, a row of zeros as 0 unless its reference is zero too.
    """
    assert rows.shape == reference.shape, f"got {rows.shape}, wanted {reference.shape}"
    cosines = row_cosines(reference, rows)
    cosines[~rows.any(axis=1) & ~reference.any(axis=1)] = 1.0
    return float(np.where(np.isfinite(cosines), np.clip(cosines, -1.0, 1.0), -1.0).min())
