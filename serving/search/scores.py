"""The score of rows from their scores by each condition of a query.

One condition    its score itself
Several          scores by sounds and by different words have different sizes, so they are standardised: as standard
                 deviations above the mean of a sample of the library. The score is the least of those that are wanted,
                 less the largest of those that are not, where that is above 0
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from serving.search.query import Query

LEAST_SPREAD = 1e-3  # of scores, so that nothing is divided by 0
Scorer = Callable[[NDArray[np.float32]], NDArray[np.float32]]  # scores [n_rows, n] -> [n_rows]


def scorer(query: Query, sample: NDArray[np.float32]) -> Scorer:
    """What makes the scores of rows for a query. sample: embeddings [n_sample, size] of sounds of the library."""
    if len(query.unwanted) == 1:
        return lambda scores: scores[:, 0]
    of_sample = query.scores(sample)
    mean, spread = of_sample.mean(axis=0), np.maximum(of_sample.std(axis=0), LEAST_SPREAD)
    return lambda scores: combine((scores - mean) / spread, query.unwanted)


def combine(standardised: NDArray[np.float32], unwanted: NDArray[np.bool_]) -> NDArray[np.float32]:
    """The scores of rows [n_rows] from their standardised scores [n_rows, n]. unwanted: [n], not all."""
    wanted = standardised[:, ~unwanted].min(axis=1)
    if not unwanted.any():
        return wanted
    return wanted - np.maximum(standardised[:, unwanted].max(axis=1), 0)
