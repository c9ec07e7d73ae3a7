"""Probabilities from scores, and how well they are calibrated."""

import numpy as np
from numpy.typing import NDArray

BINS = 10  # of the calibration error


def softmax(logits: NDArray[np.floating]) -> NDArray[np.float64]:
    """Probabilities [n, C] of scores [n, C]."""
    odds = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
    return odds / odds.sum(axis=1, keepdims=True)


def expected_calibration_error(
    probabilities: NDArray[np.float64], right: NDArray[np.bool_], weights: NDArray[np.float64] | None = None
) -> float:
    """Mean absolute difference of probability and accuracy over BINS bins of equal width (Guo 2017, arXiv:1706.04599).

    probabilities  [n] of the best-ranked label;  right [n]: it is the clip's
    weights        [n] of the clips; None: all the same
    """
    weights = np.ones(len(right)) if weights is None else weights
    bins = np.minimum((probabilities * BINS).astype(int), BINS - 1)
    gaps = np.bincount(bins, weights * (probabilities - right), minlength=BINS)
    return float(np.abs(gaps).sum() / weights.sum())
