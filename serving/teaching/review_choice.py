"""Which sounds of a library to ask a person about: those whose labels would teach a map most.

The choice is greedy facility location (Wei 2015, ICML; Nemhauser 1978): each chosen sound adds as much as possible to

    sum over the library's sounds of uncertainty * similarity to the nearest sound that has or will have a label

So it is near many sounds that the map is uncertain of, and far from those that have labels or are chosen already.
Uncertainty alone chooses outliers and many sounds of one kind: docs/results/few-shot.md.
"""

import numpy as np
from numpy.typing import NDArray

from serving.zeroshot import ZeroShot
from serving.zeroshot.probabilities import softmax

# Of larger libraries the most uncertain rows compete, and rows at even distances count. 32 MB of similarities.
MOST_CANDIDATES = 2000
MOST_COUNTED = 4000
BLOCK_ROWS = 2**11  # rows that are scored or compared at a time


def choose_rows(
    zeroshot: ZeroShot,
    embeddings: NDArray[np.float32],
    count: int,
    labelled: NDArray[np.float32] | None = None,
) -> list[int]:
    """Choose rows to ask about, the first ones first.

    zeroshot    the map of the labels that a person chooses among
    embeddings  [n, 128] float32;  labelled  [n_labelled, 128] float32: rows that were answered, also with none of these
    returns     indices of `count` rows, or of all if there are fewer
    """
    uncertain = uncertainties(zeroshot, embeddings)
    candidates = np.argsort(-uncertain, kind="stable")[: max(MOST_CANDIDATES, count)]
    n_rows = len(embeddings)
    counted = np.linspace(0, n_rows - 1, min(n_rows, MOST_COUNTED)).astype(np.intp)
    rows = zeroshot.place(embeddings[counted])
    near = np.maximum(rows @ zeroshot.place(embeddings[candidates]).T, 0)  # [n_counted, n_candidates]
    nearest = np.zeros(len(counted), np.float32) if labelled is None else _nearest(rows, zeroshot, labelled)
    weights = uncertain[counted]
    chosen: list[int] = []
    while len(chosen) < min(count, n_rows):
        gains = weights @ np.maximum(near - nearest[:, None], 0)
        gains[chosen] = -1
        best = int(gains.argmax())
        chosen.append(best)
        nearest = np.maximum(nearest, near[:, best])
    return candidates[chosen].tolist()


def _nearest(rows: NDArray[np.float32], zeroshot: ZeroShot, labelled: NDArray[np.float32]) -> NDArray[np.float32]:
    """The cosine of each placed row [n, size] and the nearest labelled one, at least 0: [n] float32."""
    nearest = np.zeros(len(rows), np.float32)
    for first in range(0, len(labelled), BLOCK_ROWS):
        near = rows @ zeroshot.place(labelled[first : first + BLOCK_ROWS]).T
        nearest = np.maximum(nearest, near.max(axis=1))
    return nearest


def uncertainties(zeroshot: ZeroShot, embeddings: NDArray[np.float32]) -> NDArray[np.float64]:
    """The entropy of the labels' probabilities for each row, in nats: [n]; 1 for each row if there is one label."""
    found = np.ones(len(embeddings))
    if len(zeroshot.class_names) > 1:
        for first in range(0, len(embeddings), BLOCK_ROWS):
            block = slice(first, first + BLOCK_ROWS)
            shares = softmax(zeroshot.scores(embeddings[block], offset=zeroshot.own_offset))
            found[block] = -(shares * np.log(np.maximum(shares, 1e-12))).sum(axis=1)
    return found
