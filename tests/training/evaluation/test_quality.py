"""Embedding quality: each number on embeddings whose answer is known."""

import tracemalloc

import numpy as np
import pytest

from serving.errors import DataError
from training.evaluation import quality as module
from training.evaluation.quality import embedding_quality

N = 24
LABELS = np.repeat([0, 1, 2], 8)
SOURCES = np.arange(N).astype(str)


def near(directions: np.ndarray, spread: float = 0.01) -> np.ndarray:
    """Embeddings [N, 16] near given rows, of different lengths, which count for nothing."""
    rng = np.random.default_rng(0)
    lengths = rng.uniform(0.1, 10, (N, 1))
    return (lengths * (np.eye(16)[directions] + spread * rng.standard_normal((N, 16)))).astype(np.float32)


def test_classes_in_directions_of_their_own_are_nearly_perfect():
    quality = embedding_quality(near(LABELS), LABELS, SOURCES)
    assert quality.silhouette > 0.99
    assert quality.knn5 == quality.knn10 == 1.0  # seven others of a class: not ten, and 1 all the same
    assert quality.knn_chance == pytest.approx(7 / 23)
    assert quality.within_cosine > 0.99
    assert abs(quality.between_cosine) < 0.05


def test_clips_that_lie_by_source_and_not_by_class_earn_nothing():
    sources = np.tile(np.arange(8), 3)  # each source has one clip of each class
    pairs = np.repeat(np.arange(12), 2)  # neighbours of one class and one source
    same = embedding_quality(near(sources), LABELS, sources.astype(str))
    assert same.knn5 == pytest.approx(same.knn_chance, abs=0.25)
    twins = embedding_quality(near(pairs), LABELS, pairs.astype(str))
    alone = embedding_quality(near(pairs), LABELS, SOURCES)
    assert alone.knn5 > twins.knn5 + 0.1  # the twin of the same recording does not count
    assert alone.within_cosine > twins.within_cosine + 0.1


def test_random_embeddings_score_chance():
    embeddings = np.random.default_rng(1).standard_normal((300, 16)).astype(np.float32)
    labels = np.arange(300) % 3
    quality = embedding_quality(embeddings, labels, np.arange(300).astype(str))
    assert quality.silhouette == pytest.approx(0, abs=0.02)
    assert quality.knn10 == pytest.approx(quality.knn_chance, abs=0.05)
    assert quality.within_cosine == pytest.approx(quality.between_cosine, abs=0.02)


@pytest.mark.parametrize("rank", [1, 4, 16])
def test_effective_rank_counts_directions_of_equal_spread(rank):
    signs = np.concatenate([np.eye(16)[:rank], -np.eye(16)[:rank]])  # centred, `rank` equal singular values
    embeddings = np.tile(signs, (6, 1)).astype(np.float32)
    labels, sources = np.arange(len(embeddings)) % 2, np.arange(len(embeddings)).astype(str)
    assert embedding_quality(embeddings, labels, sources).effective_rank == pytest.approx(rank, rel=1e-4)


def nearest_of_its_class(embeddings: np.ndarray, labels: np.ndarray, sources: np.ndarray, k: int) -> float:
    """knn5 or knn10 by a stable sort of all cosines."""
    unit = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
    others = sources[:, None] != sources
    order = np.argsort(np.where(others, -(unit @ unit.T), np.inf), axis=1, kind="stable")
    within = (labels[:, None] == labels) & others
    asked = np.minimum(k, within.sum(axis=1))
    hits = np.take_along_axis(within, order, axis=1) & (np.arange(len(unit)) < asked[:, None])
    return float((hits.sum(axis=1) / asked).mean())


def test_the_nearest_neighbours_are_those_of_a_sort_of_all_also_among_equals(monkeypatch):
    rng = np.random.default_rng(2)
    embeddings = np.eye(16, dtype=np.float32)[rng.integers(0, 16, 203)]  # a dozen equal ones each: cosines of 0 and 1
    labels, sources = np.arange(203) % 3, (np.arange(203) // 2).astype(str)
    monkeypatch.setattr(module, "COSINES_AT_A_TIME", 50 * 203)  # the last part is smaller
    quality = embedding_quality(embeddings, labels, sources)
    assert quality.knn5 == nearest_of_its_class(embeddings, labels, sources, 5)
    assert quality.knn10 == nearest_of_its_class(embeddings, labels, sources, 10)


def test_the_cosines_of_many_clips_are_never_all_in_memory():
    n = 5000
    embeddings = np.random.default_rng(3).standard_normal((n, 8)).astype(np.float32)
    tracemalloc.start()
    try:
        embedding_quality(embeddings, np.arange(n) % 5, np.arange(n).astype(str))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 8 * n * n


@pytest.mark.parametrize(
    ("embeddings", "labels", "sources", "said"),
    [
        (near(LABELS), np.zeros(N, int), SOURCES, "got 1 class; wanted two or more"),
        (near(LABELS), LABELS, LABELS.astype(str), "class 0 has clips of one source recording"),
        (near(LABELS) * 0, LABELS, SOURCES, "24 of 24 are zero or not finite"),
        (np.where(np.arange(N)[:, None] == 3, np.nan, near(LABELS)), LABELS, SOURCES, "1 of 24 are zero or not finite"),
    ],
)
def test_what_cannot_be_judged_is_named(embeddings, labels, sources, said):
    with pytest.raises(DataError, match=said):
        embedding_quality(embeddings, labels, sources)
