"""Lloyd's k-means, for rows that are grouped once and searched often.

It is our own because no dependency of the serve extra has one: SciPy, scikit-learn and FAISS are none of them.
"""

import numpy as np
from numpy.typing import NDArray

ROUNDS = 8
ROWS_AT_A_TIME = 8192
Rows = NDArray[np.intp]


def k_means(points: NDArray[np.float32], n_centres: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """Centres [n_centres, size] of points [n, size], n >= n_centres >= 1. A centre may end without a point."""
    centres = points[rng.choice(len(points), n_centres, replace=False)]
    for _ in range(ROUNDS):
        own = nearest(points, centres)
        used, means, _ = group_means(points, own)
        centres[used] = means
    return centres


def nearest(points: NDArray[np.float32], centres: NDArray[np.float32]) -> Rows:
    """The centre [n] that is nearest to each point [n, size]."""
    half_squares = 0.5 * np.square(centres).sum(axis=1)
    parts = [points[i : i + ROWS_AT_A_TIME] for i in range(0, len(points), ROWS_AT_A_TIME)]
    return np.concatenate([(part @ centres.T - half_squares).argmax(axis=1) for part in parts])


def group_means(points: NDArray[np.float32], groups: Rows) -> tuple[Rows, NDArray[np.float32], Rows]:
    """The groups that have points, ascending; the mean [n_groups, size] and the number of points of each."""
    used, counts = np.unique(groups, return_counts=True)
    order = np.argsort(groups, kind="stable")
    sums = np.add.reduceat(points[order], np.cumsum(counts) - counts, axis=0)
    return used, (sums / counts[:, None]).astype(np.float32), counts
