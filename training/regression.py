"""Ridge regression from class vectors to embeddings, and its further rows: what is described, and whose place is known.

    U = C C_s' (C_s C_s' + lambda I)^-1 P

C are class vectors, C_s those of the rows that are known, and P their embeddings.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from serving.zeroshot import unit_rows


@dataclass(frozen=True)
class Anchors:
    """Sounds or classes without a recording in the data set, in the space of an embedding.

    vectors     [K, size] float32 unit rows: their texts' vectors or their attributes, less the mean of them
    directions  [K, D] float32 unit rows: where they are, less the mean of them
    """

    vectors: NDArray[np.float32]
    directions: NDArray[np.float32]

    def turned(self, matrix: NDArray[np.float32]) -> "Anchors":
        """The same in the space of embedding @ matrix [D, D]."""
        return Anchors(self.vectors, unit_rows(self.directions @ matrix))


def centred_anchors(vectors: NDArray[np.float32], places: NDArray[np.float32]) -> Anchors:
    """Anchors from vectors [K, size] and places [K, D] that are neither centred nor of unit length."""
    return Anchors(*(unit_rows(rows - rows.mean(axis=0)) for rows in (vectors, places)))


def regression(
    known: NDArray[np.float32], means: NDArray[np.float32], strength: float, *further: tuple[Anchors | None, float]
) -> NDArray[np.float32]:
    """Ridge regression from class vectors [n, size] to prototypes [n, D]: [size, D] float32.

    strength  lambda
    further   anchors, or None, and what one of them counts beside a class; their prototypes have the mean length of
              the others
    """
    mean_length = np.linalg.norm(means, axis=1).mean()
    for anchors, weight in further:
        if anchors is None:
            continue
        root = np.sqrt(weight)  # of a row of a least-squares problem
        known = np.concatenate([known, root * anchors.vectors])
        means = np.concatenate([means, root * mean_length * anchors.directions])
    rows = known.astype(np.float64)
    if len(rows) > rows.shape[1]:  # the same by the smaller of the two matrices
        return np.linalg.solve(rows.T @ rows + strength * np.eye(rows.shape[1]), rows.T @ means).astype(np.float32)
    return (rows.T @ np.linalg.solve(rows @ rows.T + strength * np.eye(len(rows)), means)).astype(np.float32)
