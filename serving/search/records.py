"""Embeddings with numbers that turn one product with a query's direction into a score."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from serving.search.query import Query
from serving.zeroshot import ZeroShot

FACTS = 4  # numbers behind each embedding, see `Records`
SLACK = 0.4  # of a cell's spread: measured in docs/results/search.md
Slices = Sequence[tuple[int, int]]  # first row, and the one behind the last


@dataclass(frozen=True, eq=False)
class Records:
    """Embeddings of rows, or the centres of cells of rows.

    numbers   [n, size + FACTS] float32: the embedding; its length less the mean; the length of its place in the map's
              space; how much the bundle's classes claim it (`ZeroShot.claims`); and of a cell its spread, which is the
              root mean square distance of its rows' unit vectors to their mean, of a row 0
    mean      [size] float32
    has_map   the numbers of the map are there
    """

    numbers: NDArray[np.float32]
    mean: NDArray[np.float32]
    has_map: bool

    def __len__(self) -> int:
        return len(self.numbers)

    @property
    def embeddings(self) -> NDArray[np.float32]:
        """[n, size] float32."""
        return self.numbers[:, :-FACTS]

    def scores(self, query: Query, slices: Slices) -> NDArray[np.float32]:
        """The scores of the rows of slices by each condition: [n_rows, m] float32.

        The same as `Query.scores`, if the map is the one that the numbers were computed with. A cosine gets as much
        more as the best rows of a cell may have.
        """
        if self.has_map and np.array_equal(self.mean, query.mean):
            scores, facts = self._products(query, slices)
        else:
            rows = np.concatenate([self.numbers[first:end] for first, end in slices])
            scores, facts = query.scores(rows[:, :-FACTS]).T, rows[:, -FACTS:].T
        slack = SLACK * facts[3]
        return np.stack([row if claimed else row + slack for row, claimed in zip(scores, query.claimed, strict=True)]).T

    def _products(self, query: Query, slices: Slices) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """The scores [m, n_rows] and the facts [FACTS, n_rows] of rows. In this order, because NumPy is slow with rows
        of two or three numbers."""
        directions = query.directions  # [m, size]
        n_rows = sum(end - first for first, end in slices)
        products, facts = np.empty((len(directions), n_rows), np.float32), np.empty((FACTS, n_rows), np.float32)
        at = 0
        for first, end in slices:
            rows, place = self.numbers[first:end].T, slice(at, at + end - first)
            np.matmul(directions, rows[:-FACTS], out=products[:, place])
            facts[:, place] = rows[-FACTS:]
            at += end - first
        products -= (directions @ self.mean)[:, None]
        for row, is_phrase, claimed in zip(products, query.is_phrase, query.claimed, strict=True):
            row /= np.maximum(facts[1 if is_phrase else 0], 1e-12)
            if claimed:
                row -= facts[2]
        return products, facts


def numbers_of(
    embeddings: NDArray[np.float32],
    mean: NDArray[np.float32],
    zeroshot: ZeroShot | None,
    spreads: NDArray[np.float32] | float = 0.0,
) -> NDArray[np.float32]:
    """The numbers of `Records` for embeddings [n, size]: [n, size + FACTS]. zeroshot: None: those of the map are 0."""
    facts = np.zeros((len(embeddings), FACTS), np.float32)
    facts[:, 0] = np.linalg.norm(embeddings - mean, axis=1)
    if zeroshot is not None and len(embeddings):
        facts[:, 1] = np.linalg.norm((embeddings - mean) @ zeroshot.projection, axis=1)
        facts[:, 2] = zeroshot.claims(embeddings)
    facts[:, 3] = spreads
    return np.hstack([embeddings, facts])
