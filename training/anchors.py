"""Further rows of a regression from class vectors to embeddings: what is described, and whose place is known."""

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


def centred_anchors(vectors: NDArray[np.float32], places: NDArray[np.float32]) -> Anchors:
    """Anchors from vectors [K, size] and places [K, D] that are neither centred nor of unit length."""
    return Anchors(*(unit_rows(rows - rows.mean(axis=0)) for rows in (vectors, places)))
