"""Find the rows of a graph of vectors that meet a query best."""

from collections.abc import Callable
from dataclasses import dataclass
from threading import Lock
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from serving.errors import UsageError
from serving.search.query import Query
from serving.search.scores import Scorer, scorer

if TYPE_CHECKING:
    from usearch.index import Index

# Candidates of each direction, measured in docs/results/search.md. The best rows for words are further apart.
CANDIDATES, CANDIDATES_FOR_WORDS = 128, 2048
SCANNED_ROWS = 16_384  # at a time, where all rows are compared
Rows = NDArray[np.intp]


@dataclass(frozen=True)
class FoundRow:
    """A row. score: by which rows are ordered, see `serving.search.scores`; scores: condition -> its score."""

    row: int
    score: float
    scores: dict[str, float]


class VectorSearch:
    """Searches rows 0 to n - 1. Safe to use from several threads.

    graph          of `serving.search.graph.lift`ed embeddings, by the numbers of the rows
    n_rows         in the graph, at least 1
    embeddings_of  numbers of rows [n] -> their embeddings [n, size] float32; called by one thread at a time
    sample         embeddings [n, size] of rows from everywhere
    has_claims     the graph has the rows' claims. Otherwise a query with phrases is compared with all rows
    """

    def __init__(
        self,
        graph: "Index | None",
        n_rows: int,
        embeddings_of: Callable[[Rows], NDArray[np.float32]],
        sample: NDArray[np.float32],
        has_claims: bool,
    ):
        self._graph, self._n_rows, self._embeddings_of, self._sample = graph, n_rows, embeddings_of, sample
        self._has_claims = has_claims
        self._lock = Lock()  # USearch gives every search the same memory to work in

    def find(self, query: Query, top: int, exact: bool = False) -> list[FoundRow]:
        """At most `top` rows, best first. The graph finds candidates; their scores are exact.

        exact    compare all rows
        errors   UsageError: `top` is below 1
        """
        check_top(top)
        score_of = scorer(query, self._sample)
        if exact or (query.phrases is not None and not self._has_claims):
            parts = [np.arange(i, min(self._n_rows, i + SCANNED_ROWS)) for i in range(0, self._n_rows, SCANNED_ROWS)]
        else:
            parts = [self._candidates(query, top)]
        best = [row for rows in parts for row in self._best(query, score_of, rows, top)]
        return sorted(best, key=lambda row: -row.score)[:top]

    def _best(self, query: Query, score_of: Scorer, rows: Rows, top: int) -> list[FoundRow]:
        """The best of some rows, best first."""
        with self._lock:
            embeddings = self._embeddings_of(rows)
        by_condition = query.scores(embeddings)  # [n_rows, n]
        scores, shown = score_of(by_condition), query.shown(by_condition)
        return [
            FoundRow(int(rows[i]), float(scores[i]), dict(zip(query.names, shown[i].tolist(), strict=True)))
            for i in np.argsort(-scores, kind="stable")[:top]
        ]

    def _candidates(self, query: Query, top: int) -> Rows:
        """The rows nearest to each wanted direction, and to all directions together, ascending."""
        directions = query.directions(self._sample)
        asked = directions[~query.unwanted]
        if len(directions) > 1:
            together = np.where(query.unwanted, -1, 1).astype(np.float32) @ directions
            asked = np.concatenate([asked, together[None]])
        count = CANDIDATES if query.phrases is None else CANDIDATES_FOR_WORDS
        assert self._graph is not None, "without a graph all rows are compared"
        with self._lock:
            found = self._graph.search(asked, min(self._n_rows, max(count, top)))
        rows = np.unique(found.keys)
        return rows[rows < self._n_rows].astype(np.intp)  # USearch fills up with a key that is none


def check_top(top: int) -> None:
    """UsageError: a number of results below 1."""
    if top < 1:
        raise UsageError(f"top: got {top}; wanted 1 or more")
