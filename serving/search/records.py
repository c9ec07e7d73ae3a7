"""Embeddings with numbers that turn one product with a query's direction into a score."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from serving.search.query import Query
from serving.zeroshot import ZeroShot

FACTS = 4  # numbers behind each embedding, see `Records`
SLACK = 0.4  # of a cell's spread: measured in docs/results/search.md
LEAST_LENGTH = 1e-12  # so that nothing is divided by 0
Slices = Sequence[tuple[int, int]]  # first row, and the one behind the last


@dataclass(frozen=True, eq=False)
class Records:
    """Embeddings of rows, or the centres of cells of rows.

    numbers   [n, size + FACTS] float32: the embedding; its length less the mean; the length of its place in the map's
              space; how much the bundle's classes claim it (`ZeroShot.claims`); and of a cell its spread, which is the
              root mean square distance of its rows' unit vectors to their mean, of a row 0
    mean      [size] float32
    map_id    of the map that the numbers are of; None: there are no numbers of a map
    """

    numbers: NDArray[np.float32]
    mean: NDArray[np.float32]
    map_id: str | None

    def __len__(self) -> int:
        return len(self.numbers)

    @property
    def embeddings(self) -> NDArray[np.float32]:
        """[n, size] float32."""
        return self.numbers[:, :-FACTS]

    def scores(self, query: Query, slices: Slices) -> NDArray[np.float32]:
        """The scores of the rows of slices by each condition: [n_rows, m] float32.

        They are those of `Query.scores`, but for roundings; words cost several times as much if the numbers are not of
        the query's map. A cosine gets as much more as the best rows of a cell may have.
        """
        if self.map_id == query.map_id:
            products, facts = self._products(query.directions, slices)
            scores = self._scores_of(query, products, facts)
        elif query.phrases is None:
            shift = query.mean - self.mean
            products, facts = self._products(np.stack([query.directions[0], shift]), slices)
            scores = self._cosines_to(query.directions[0], shift, products, facts)
        else:
            rows = np.concatenate([self.numbers[first:end] for first, end in slices])
            scores, facts = query.scores(rows[:, :-FACTS]).T, rows[:, -FACTS:].T
        slack = SLACK * facts[3]
        return np.stack([row if claimed else row + slack for row, claimed in zip(scores, query.claimed, strict=True)]).T

    def _products(
        self, directions: NDArray[np.float32], slices: Slices
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """The products [m, n_rows] of the embeddings less the mean with directions [m, size], and the facts
        [FACTS, n_rows]. In this order, because NumPy is slow with rows of two or three numbers."""
        n_rows = sum(end - first for first, end in slices)
        products, facts = np.empty((len(directions), n_rows), np.float32), np.empty((FACTS, n_rows), np.float32)
        at = 0
        for first, end in slices:
            rows, place = self.numbers[first:end].T, slice(at, at + end - first)
            np.matmul(directions, rows[:-FACTS], out=products[:, place])
            facts[:, place] = rows[-FACTS:]
            at += end - first
        products -= (directions @ self.mean)[:, None]
        return products, facts

    @staticmethod
    def _scores_of(query: Query, products: NDArray[np.float32], facts: NDArray[np.float32]) -> NDArray[np.float32]:
        """The scores [m, n_rows] from the products with the directions of a query of the same map."""
        for row, is_phrase, claimed in zip(products, query.is_phrase, query.claimed, strict=True):
            row /= np.maximum(facts[1 if is_phrase else 0], LEAST_LENGTH)
            if claimed:
                row -= facts[2]
        return products

    @staticmethod
    def _cosines_to(
        sound: NDArray[np.float32],
        shift: NDArray[np.float32],
        products: NDArray[np.float32],
        facts: NDArray[np.float32],
    ) -> NDArray[np.float32]:
        """The cosines [1, n_rows] to a sound [size], a unit vector, of rows that are shifted to another mean.

        products  [2, n_rows] with the sound and with the shift
        """
        squares = np.square(facts[0]) - 2 * products[1] + shift @ shift  # of the rows' lengths less the other mean
        return ((products[0] - sound @ shift) / np.sqrt(np.maximum(squares, LEAST_LENGTH**2)))[None]


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
