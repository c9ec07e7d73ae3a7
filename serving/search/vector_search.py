"""Find the rows of a graph of vectors that meet a query best."""

from dataclasses import dataclass
from threading import Lock
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from serving.errors import UsageError
from serving.search.linear_scan import LinearScan
from serving.search.query import Query
from serving.search.scores import Scorer, scorer

if TYPE_CHECKING:
    from usearch.index import Index

CANDIDATES, CANDIDATES_FOR_WORDS = 128, 2048  # rows whose exact scores are computed
SCANNED_ROWS = 16_384  # at a time, where all rows are compared
Rows = NDArray[np.intp]


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
    graph       of the rows, for queries without phrases; None: all rows are compared
    scan        what is known of all rows, for queries with phrases; None: all scores are computed
    """

    def __init__(
        self,
        embeddings: NDArray[np.float32],
        sample: NDArray[np.float32],
        graph: "Index | None" = None,
        scan: LinearScan | None = None,
    ):
        self._embeddings, self._sample, self._graph, self._scan = embeddings, sample, graph, scan
        self._lock = Lock()  # USearch gives every search the same memory to work in

    def find(self, query: Query, top: int, exact: bool = False) -> list[FoundRow]:
        """At most `top` rows, best first. The graph or the scan finds candidates; their scores are exact.

        exact    compute the scores of all rows
        errors   UsageError: `top` is below 1
        """
        check_top(top)
        score_of = scorer(query, self._sample)
        candidates = None if exact else self._candidates(query, score_of, top)
        if candidates is None:
            n = len(self._embeddings)
            parts = [np.arange(i, min(n, i + SCANNED_ROWS)) for i in range(0, n, SCANNED_ROWS)]
        else:
            parts = [candidates]
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

    def _candidates(self, query: Query, score_of: Scorer, top: int) -> Rows | None:
        """The rows that may be the best, ascending; None: all rows."""
        n = len(self._embeddings)
        directions = query.directions(self._sample)
        if query.phrases is None and self._graph is not None:
            with self._lock:
                rows = self._graph.search(directions[:, :-1], min(n, max(CANDIDATES, top))).keys
            return np.unique(rows[rows < n]).astype(np.intp)  # USearch fills up with a key that is none
        if query.phrases is None or self._scan is None:
            return None
        scores = score_of(self._scan.products(directions))  # nearly the exact ones
        count = min(n, max(CANDIDATES_FOR_WORDS, top))
        return np.sort(np.argpartition(-scores, count - 1)[:count])


def check_top(top: int) -> None:
    """UsageError: a number of results below 1."""
    if top < 1:
        raise UsageError(f"top: got {top}; wanted 1 or more")
