"""Group rows in cells of neighbours, by k-means in two steps: a thousand cells at once would take very long."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from serving.search.k_means import Rows, group_means, k_means, nearest
from serving.search.records import Records
from serving.zeroshot import unit_rows

ROWS_A_CELL = 64  # on average; measured in docs/results/search.md
FIT_TO_GROUPS, FIT_TO_CELLS = 256, 32  # rows for each group or cell that the centres are fitted to, at most
ROWS_AT_A_TIME = 8192


@dataclass(frozen=True, eq=False)
class Group:
    """Cells that are near each other.

    rows     [n] in the order of their cells
    sizes    [n_cells] rows of each cell
    means    [n_cells, size] float32: of the rows' unit vectors
    """

    rows: Rows
    sizes: Rows
    means: NDArray[np.float32]


def group_rows(records: Records, rng: np.random.Generator) -> Iterator[Group]:
    """Yield all rows, at least one, grouped by the unit vectors of their embeddings less the mean."""

    def points(rows: Rows | slice) -> NDArray[np.float32]:
        return unit_rows(records.embeddings[rows] - records.mean)

    n = len(records)
    n_groups = max(1, round(np.sqrt(n / ROWS_A_CELL)))
    fit_to = np.sort(rng.choice(n, min(n, FIT_TO_GROUPS * n_groups), replace=False))
    centres = k_means(points(fit_to), n_groups, rng)
    parts = [nearest(points(slice(i, i + ROWS_AT_A_TIME)), centres) for i in range(0, n, ROWS_AT_A_TIME)]
    own = np.concatenate(parts)
    in_groups = np.split(np.argsort(own, kind="stable"), np.cumsum(np.bincount(own, minlength=n_groups))[:-1])
    for rows in filter(len, in_groups):
        yield _cells_of(rows, points(rows), rng)


def _cells_of(rows: Rows, points: NDArray[np.float32], rng: np.random.Generator) -> Group:
    n_cells = max(1, round(len(rows) / ROWS_A_CELL))
    fit_to = rng.choice(len(rows), min(len(rows), FIT_TO_CELLS * n_cells), replace=False)
    cells = nearest(points, k_means(points[fit_to], n_cells, rng))
    _, means, sizes = group_means(points, cells)
    return Group(rows[np.argsort(cells, kind="stable")], sizes, means)
