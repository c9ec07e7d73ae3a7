"""The best rows of all, by the scores of serving.search over every row: what a search should have found."""

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


def exact_rows(sounds: Path, score: Callable[[NDArray[np.float32]], NDArray[np.float32]]) -> list[set[int]]:
    """The TOP rows with the largest scores by each query, of all in the file that are in its index.

    score    [n, size] -> [n, n_queries]
    """
    best_scores, best_rows, first = None, None, 0
    for batch, all_rows in EmbeddingFile(sounds).batches(("level_dbfs",)):
        rows = all_rows[is_heard(batch, all_rows)]
        scores = score(rows).T  # [n_queries, n]
        numbers = np.broadcast_to(np.arange(first, first + len(rows)), scores.shape)
        if best_scores is not None and best_rows is not None:
            scores, numbers = np.hstack([best_scores, scores]), np.hstack([best_rows, numbers])
        places = np.argpartition(-scores, TOP - 1, axis=1)[:, :TOP]
        best_scores, best_rows = np.take_along_axis(scores, places, 1), np.take_along_axis(numbers, places, 1)
        first += len(rows)
    assert best_rows is not None
    return [set(rows) for rows in best_rows.tolist()]


def exact_answers(
    sounds: Path, queries: Sequence[Query], phrases: Phrases, sample: NDArray[np.float32]
) -> list[set[int]]:
    """The TOP best rows for each query.

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
        result = np.empty((len(rows), len(queries)), np.float32)
        for i, (query, score_of, own) in enumerate(zip(queries, scorers, columns, strict=True)):
            of_phrases = np.where(query.claimed[query.is_phrase], claimed[:, own], cosines[:, own])
            of_sound = of_sounds[:, i : i + 1] if query.sound is not None else of_sounds[:, :0]
            result[:, i] = score_of(np.hstack([of_sound, of_phrases]))
        return result

    return exact_rows(sounds, score)


def recall(found: Sequence[set[int]], exact: Sequence[set[int]]) -> float:
    """The share of the exact rows that were found by each query."""
    return float(np.mean([len(rows & best) / len(best) for rows, best in zip(found, exact, strict=True)]))
