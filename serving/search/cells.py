"""Rows in cells of neighbours (an inverted file), so that a search reads only the cells that may have the best rows."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from serving.search.query import Query
from serving.search.records import Records, Slices
from serving.search.scores import Scorer

# Measured in docs/results/search.md.
READ, READ_FOR_WORDS = 16_384, 36_864  # rows of the best cells, at least; the latter for one phrase alone
READ_A_RESULT = 16  # for each row that is asked for, at least
CANDIDATES = 256  # rows whose exact scores are computed, at least
CANDIDATES_A_RESULT = 4
CENTRES_AT_A_TIME = 2048  # their product with a direction is too small for BLAS to share it out among threads
Rows = NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class Cells:
    """Rows in the order of their cells.

    rows     [n]
    centres  [n_cells]
    starts   [n_cells + 1] int64: the first row of each cell, and n
    """

    rows: Records
    centres: Records
    starts: NDArray[np.int64]

    def candidates(self, query: Query, score_of: Scorer, top: int) -> Rows:
        """The rows that may be the best `top`, ascending."""
        slices = self._best_cells(query, score_of, top)
        rows = np.concatenate([np.arange(first, end) for first, end in slices])
        count = max(CANDIDATES, CANDIDATES_A_RESULT * top)
        if len(rows) <= count:
            return rows
        scores = score_of(self.rows.scores(query, slices))
        return np.sort(rows[np.argpartition(-scores, count - 1)[:count]])

    def _best_cells(self, query: Query, score_of: Scorer, top: int) -> Slices:
        """Where the cells are whose centres have the best scores; neighbours in one slice."""
        n_cells = len(self.centres)
        parts = [(i, min(n_cells, i + CENTRES_AT_A_TIME)) for i in range(0, n_cells, CENTRES_AT_A_TIME)]
        order = np.argsort(-score_of(self.centres.scores(query, parts)))
        is_one_phrase = query.is_phrase.tolist() == [True]
        read = READ_FOR_WORDS if is_one_phrase else READ
        wanted = max(read, READ_A_RESULT * top)
        enough = np.searchsorted(np.cumsum(np.diff(self.starts)[order]), wanted) + 1
        cells = np.sort(order[:enough])
        breaks = np.flatnonzero(np.diff(cells) > 1)
        firsts, lasts = cells[np.append(0, breaks + 1)], cells[np.append(breaks, len(cells) - 1)]
        return list(zip(self.starts[firsts].tolist(), self.starts[lasts + 1].tolist(), strict=True))
