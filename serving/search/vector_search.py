"""Find the rows that meet a query best."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from serving.errors import UsageError
from serving.search.cells import Cells, Rows
from serving.search.query import Query
from serving.search.scores import Scorer, scorer

ROWS_AT_A_TIME = 16_384  # where all rows are compared


@dataclass(frozen=True)
class FoundRow:
    """A row. score: by which rows are ordered, see `serving.search.scores`; scores: condition -> its score."""

    row: int
    score: float
    scores: dict[str, float]


class VectorSearch:
    """Searches rows 0 to n - 1, n >= 1. Safe to use from several threads.

    embeddings  [n, size] float32 of all rows
    sample      embeddings [n_sample, size] of rows from everywhere
    cells       of the rows, in their order; None: all rows are compared
    """

    def __init__(self, embeddings: NDArray[np.float32], sample: NDArray[np.float32], cells: Cells | None = None):
        self._embeddings, self._sample, self._cells = embeddings, sample, cells

    def find(self, query: Query, top: int, exact: bool = False) -> list[FoundRow]:
        """At most `top` rows, best first. The scores are exact; of the rows, the cells find nearly always the best.

        exact    compute the scores of all rows
        errors   UsageError: `top` is below 1
        """
        check_top(top)
        score_of = scorer(query, self._sample)
        if exact or self._cells is None:
            n = len(self._embeddings)
            parts = [np.arange(i, min(n, i + ROWS_AT_A_TIME)) for i in range(0, n, ROWS_AT_A_TIME)]
        else:
            parts = [self._cells.candidates(query, score_of, top)]
        best = [row for rows in parts for row in self._best(query, score_of, rows, top)]
        return sorted(best, key=lambda row: -row.score)[:top]

    def _best(self, query: Query, score_of: Scorer, rows: Rows, top: int) -> list[FoundRow]:
        """The best of some rows, best first."""
        by_condition = query.scores(self._embeddings[rows])  # [n_rows, n]
        scores, shown = score_of(by_condition), query.shown(by_condition)
        return [
            FoundRow(int(rows[i]), float(scores[i]), dict(zip(query.names, shown[i].tolist(), strict=True)))
            for i in np.argsort(-scores, kind="stable")[:top]
        ]


def check_top(top: int) -> None:
    """UsageError: a number of results below 1."""
    if top < 1:
        raise UsageError(f"top: got {top}; wanted 1 or more")
