"""Which sounds of a library to ask a person about: those whose labels would teach a map most."""

import numpy as np
from numpy.typing import NDArray

from serving.zeroshot import ZeroShot

CANDIDATES = 8  # times the number that is chosen: so many of the most uncertain rows compete by diversity


def margins(zeroshot: ZeroShot, embeddings: NDArray[np.float32]) -> NDArray[np.float32]:
    """Similarity of each row's best class less that of its second best: [n]; small: uncertain. One class: its cosine."""
    similarities = zeroshot.similarities(embeddings)
    if similarities.shape[1] == 1:
        return np.abs(similarities[:, 0] - similarities[:, 0].mean())
    two = np.partition(similarities, -2, axis=1)[:, -2:]
    return two[:, 1] - two[:, 0]


def farthest_first(rows: NDArray[np.float32], count: int, first: int, taken: NDArray[np.float32]) -> list[int]:
    """Indices of rows that are far from one another: each is the one farthest from all before (Gonzalez 1985).

    rows, taken   [n, size], [n_taken, size] unit rows; the chosen are far from `taken` too
    first         the index to begin with
    """
    chosen = [first]
    nearest = np.max(rows @ taken.T, axis=1, initial=-1.0) if len(taken) else np.full(len(rows), -1.0)
    while len(chosen) < min(count, len(rows)):
        nearest = np.maximum(nearest, rows @ rows[chosen[-1]])
        nearest[chosen] = np.inf
        chosen.append(int(nearest.argmin()))
    return chosen
