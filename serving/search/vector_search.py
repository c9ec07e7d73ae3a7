"""Find the rows of a graph of vectors that meet a query best."""

from collections.abc import Callable
from dataclasses import dataclass
from threading import Lock
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from serving.errors import UsageError
from serving.search.query import Query
from serving.search.scores import scorer

if TYPE_CHECKING:
    from usearch.index import Index

CANDIDATES = 256  # of each direction; measured in docs/results/search.md
Rows = NDArray[np.intp]


@dataclass(frozen=True)
class FoundRow:
    """A row. score: by which rows are ordered, see `serving.search.scores`; similarities: condition -> similarity."""

    row: int
    score: float
    similarities: dict[str, float]


class VectorSearch:
    """Searches rows 0 to n - 1. Safe to use from several threads.

    graph          the directions of the rows' embeddings, by the numbers of the rows
    n_rows         in the graph, at least 1
    embeddings_of  numbers of rows [n] -> their embeddings [n, size] float32; called by one thread at a time
    sample         embeddings [n, size] of rows from everywhere
    """

    def __init__(
        self,
        graph: "Index",
        n_rows: int,
        embeddings_of: Callable[[Rows], NDArray[np.float32]],
        sample: NDArray[np.float32],
    ):
        self._graph, self._n_rows, self._embeddings_of, self._sample = graph, n_rows, embeddings_of, sample
        self._lock = Lock()  # USearch gives every search the same memory to work in

    def find(self, query: Query, top: int) -> list[FoundRow]:
        """At most `top` rows, best first. The graph finds candidates; their scores are exact.

        errors   UsageError: `top` is below 1
        """
        check_top(top)
        with self._lock:
            rows = self._candidates(query, top)
            embeddings = self._embeddings_of(rows)
        similarities = query.similarities(embeddings)  # [n_candidates, n]
        scores = scorer(query, self._sample)(similarities)
        return [
            FoundRow(int(rows[i]), float(scores[i]), dict(zip(query.names, similarities[i].tolist(), strict=True)))
            for i in np.argsort(-scores, kind="stable")[:top]
        ]

    def _candidates(self, query: Query, top: int) -> Rows:
        """The rows nearest to each wanted direction, and to all directions together, ascending."""
        directions = query.directions()
        asked = directions[~query.unwanted]
        if len(directions) > 1:
            together = np.where(query.unwanted, -1, 1).astype(np.float32) @ directions
            asked = np.concatenate([asked, together[None]])
        found = self._graph.search(asked, min(self._n_rows, max(CANDIDATES, top)))
        rows = np.unique(found.keys)
        return rows[rows < self._n_rows].astype(np.intp)  # USearch fills up with a key that is none


def check_top(top: int) -> None:
    """UsageError: a number of results below 1."""
    if top < 1:
        raise UsageError(f"--top: got {top}; wanted 1 or more")
