"""Which sounds of a library to ask a person about: those whose labels would teach a map most."""

import numpy as np
from numpy.typing import NDArray

from serving.zeroshot import ZeroShot

CANDIDATES = 8  # times the number that is chosen: so many of the most uncertain rows compete by diversity


def choose_rows(
    zeroshot: ZeroShot,
    embeddings: NDArray[np.float32],
    count: int,
    labelled: NDArray[np.float32] | None = None,
) -> list[int]:
    """Choose rows that are uncertain, and different from one another and from those that have labels already.

    zeroshot    the map of the labels that a person chooses among
    embeddings  [n, 128] float32;  labelled  [n_labelled, 128] float32
    returns     indices of `count` rows, or of all if there are fewer
    """
    rows = zeroshot.place(embeddings)
    uncertain = np.argsort(margins(zeroshot, embeddings), kind="stable")[: CANDIDATES * count]
    taken = zeroshot.place(labelled) if labelled is not None and len(labelled) else rows[:0]
    chosen = farthest_first(rows[uncertain], count, taken)
    return uncertain[chosen].tolist()


def margins(zeroshot: ZeroShot, embeddings: NDArray[np.float32]) -> NDArray[np.float32]:
    """Similarity of each row's best class less that of its second best: [n].

    With one class, the distance of the row's similarity from the mean.
    """
    similarities = zeroshot.similarities(embeddings)
    if similarities.shape[1] == 1:
        return np.abs(similarities[:, 0] - similarities[:, 0].mean())
    two = np.partition(similarities, -2, axis=1)[:, -2:]
    return two[:, 1] - two[:, 0]


def farthest_first(rows: NDArray[np.float32], count: int, taken: NDArray[np.float32]) -> list[int]:
    """Indices of rows that are far from one another: each is the one farthest from all before (Gonzalez 1985).

    rows, taken   [n, size], [n_taken, size] unit rows; the chosen are far from `taken` too. Without any, row 0 is first
    """
    nearest = np.max(rows @ taken.T, axis=1) if len(taken) else np.zeros(len(rows), np.float32)
    chosen: list[int] = []
    while len(chosen) < min(count, len(rows)):
        chosen.append(int(nearest.argmin()))
        nearest = np.maximum(nearest, rows @ rows[chosen[-1]])
        nearest[chosen] = np.inf
    return chosen
