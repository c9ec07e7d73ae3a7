"""Compare words with all rows: one product of the embeddings with a direction, at the speed of the memory."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

ROWS_AT_A_TIME = 65_536


@dataclass(frozen=True, eq=False)
class LinearScan:
    """What is known of all rows.

    embeddings  [n, size] float32
    lengths     [n] float32: of the embeddings less the mean
    claims      [n] float32: how much the bundle's classes claim each (`ZeroShot.claims`)
    mean        [size] float32
    """

    embeddings: NDArray[np.float32]
    lengths: NDArray[np.float32]
    claims: NDArray[np.float32]
    mean: NDArray[np.float32]

    def products(self, directions: NDArray[np.float32]) -> NDArray[np.float32]:
        """The product of the unit vector and the claim of each row with each direction: [n, m] float32.

        directions  [m, size + 1]
        """
        of_unit, of_claim = directions[:, :-1], directions[:, -1:]
        products = np.empty((len(directions), len(self.lengths)), np.float32)
        for first in range(0, len(self.lengths), ROWS_AT_A_TIME):
            part = slice(first, first + ROWS_AT_A_TIME)
            products[:, part] = of_unit @ self.embeddings[part].T
        products -= of_unit @ self.mean[:, None]
        products /= np.maximum(self.lengths, 1e-12)
        products += of_claim * self.claims
        return products.T
