"""The score of rows from their scores by each condition of a query.

One condition    its score itself, of a phrase as odds (`Phrases.odds`)
Several          scores by sounds and by different words have different sizes, so they are standardised: as standard
                 deviations above the mean of a sample of the library. The score is the geometric mean of those that are
                 wanted (their least, if one is not above 0), less what the largest of those that are not has above
                 TOLERATED

Tried on mixtures of ESC-50's clips, with what came of it: docs/results/search.md.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from serving.search.query import Query

LEAST_SPREAD = 1e-3  # of scores, so that nothing is divided by 0
TOLERATED = 1.0  # of what is not wanted: so much is in many sounds of what is wanted
Scorer = Callable[[NDArray[np.float32]], NDArray[np.float32]]  # scores [n_rows, n] -> [n_rows]


def scorer(query: Query, sample: NDArray[np.float32]) -> Scorer:
    """What makes the scores of rows for a query. sample: embeddings [n_sample, size] of sounds of the library."""
    if len(query.unwanted) == 1:
        return lambda scores: query.shown(scores)[:, 0]
    of_sample = query.scores(sample)
    mean, spread = of_sample.mean(axis=0), np.maximum(of_sample.std(axis=0), LEAST_SPREAD)
    return lambda scores: combine((scores - mean) / spread, query.unwanted)


def combine(standardised: NDArray[np.float32], unwanted: NDArray[np.bool_]) -> NDArray[np.float32]:
    """The scores of rows [n_rows] from their standardised scores [n_rows, n]. unwanted: [n], not all."""
    wanted = standardised[:, ~unwanted]
    least = wanted.min(axis=1)
    score = np.where(least > 0, np.exp(np.log(np.maximum(wanted, LEAST_SPREAD)).mean(axis=1)), least)
    if not unwanted.any():
        return score
    return score - np.maximum(standardised[:, unwanted].max(axis=1) - TOLERATED, 0)
