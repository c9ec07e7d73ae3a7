"""The best scores of all, by the scores of serving.search over every row: what a search should have found."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from serving.bulk.embedding_file import EmbeddingFile, is_heard
from serving.search.phrases import Phrases
from serving.search.query import Query
from serving.search.scores import scorer
from serving.zeroshot import unit_rows

TOP = 10
ROUNDING = 1e-5  # a cosine in float32 is right to about 3e-7; odds multiply that by the temperature, 17


def least_scores(sounds: Path, score: Callable[[NDArray[np.float32]], NDArray[np.float32]]) -> NDArray[np.float32]:
    """The least of the TOP best scores by each query: [n_queries], over the rows of the file that are in its index.

    score    embeddings [n, size] -> [n_queries, n]
    """
    best: NDArray[np.float32] | None = None
    for batch, all_rows in EmbeddingFile(sounds).batches(("level_dbfs",)):
        scores = score(all_rows[is_heard(batch, all_rows)])
        scores = scores if best is None else np.hstack([best, scores])
        best = np.partition(scores, -TOP, axis=1)[:, -TOP:] if scores.shape[1] > TOP else scores
    assert best is not None
    assert best.shape[1] == TOP, f"got {best.shape[1]} rows, wanted {TOP} or more"
    return best.min(axis=1)


def exact_answers(
    sounds: Path, queries: Sequence[Query], phrases: Phrases, sample: NDArray[np.float32]
) -> NDArray[np.float32]:
    """The least of the TOP best scores for each query: [n_queries].

    phrases  all that the queries have, so that embeddings are mapped once for all queries
    sample   of the index, by which scores are standardised
    """
    scorers = [scorer(query, sample) for query in queries]
    columns = [[phrases.names.index(name) for name in each.phrases.names] if each.phrases else [] for each in queries]
    mean, every = queries[0].mean, np.ones(len(phrases.names), bool)
    directions = unit_rows(np.array([mean if query.sound is None else query.sound for query in queries]) - mean).T

    def score(rows: NDArray[np.float32]) -> NDArray[np.float32]:
        of_sounds = unit_rows(rows - mean) @ directions  # [n, n_queries]
        cosines, claimed = phrases.scores(rows, ~every), phrases.scores(rows, every)
        result = np.empty((len(queries), len(rows)), np.float32)
        for i, (query, score_of, own) in enumerate(zip(queries, scorers, columns, strict=True)):
            of_phrases = np.where(query.claimed[query.is_phrase], claimed[:, own], cosines[:, own])
            of_sound = of_sounds[:, i : i + 1] if query.sound is not None else of_sounds[:, :0]
            result[i] = score_of(np.hstack([of_sound, of_phrases]))
        return result

    return least_scores(sounds, score)


def recall(found: Sequence[Sequence[float]], least: NDArray[np.float32]) -> float:
    """The share of TOP rows that were found, from the scores of what each query found and the least of the exact ones.

    Of a class, many rows have probabilities that round to 1. So a row counts if its score is one of the best but for
    rounding, as in ann-benchmarks.com.
    """
    enough = least - ROUNDING * np.maximum(1, np.abs(least))
    shares = [np.mean(np.array(scores[:TOP]) >= each) for scores, each in zip(found, enough, strict=True)]
    return float(np.mean(shares))
