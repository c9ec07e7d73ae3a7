"""Fit the closed-form map from embeddings to class vectors that a bundle carries (serving.zeroshot)."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import Ridge

from serving.zeroshot import ZeroShot
from training.text import TextEncoder, describe, unit_rows

RIDGE_STRENGTHS = tuple(10.0**power for power in range(-2, 5))
TEMPERATURES = np.geomspace(0.5, 100.0, 60)


def class_vectors(names: Sequence[str], seen: NDArray[np.bool_], encoder: TextEncoder) -> NDArray[np.float32]:
    """Vectors of the classes' descriptions, centred on the seen classes' mean, of unit length. [C, text_size]."""
    vectors = encoder([describe(name) for name in names])
    return unit_rows(vectors - vectors[seen].mean(axis=0))


def fit_zeroshot(
    names: Sequence[str],
    seen: NDArray[np.bool_],
    vectors: NDArray[np.float32],
    train: tuple[NDArray[np.float32], NDArray[np.int64]],
    validation: tuple[NDArray[np.float32], NDArray[np.int64]],
) -> ZeroShot:
    """Ridge regression from embeddings to class vectors; strength and temperature by validation loss.

    names       all classes, seen and unseen;  seen [C] bool;  vectors [C, text_size] from `class_vectors`
    train       embeddings [n, 128] and labels [n] of seen classes, indices into names;  validation likewise
    Source: ridge regression as in Shigeto 2015 (arXiv:1507.00825), here from sounds to texts.
    """
    mean = train[0].mean(axis=0)
    scale = float((train[0] - mean).std()) or 1.0  # a strength means the same for every network
    best: tuple[float, ZeroShot] | None = None
    for strength in RIDGE_STRENGTHS:
        ridge = Ridge(alpha=strength, fit_intercept=False, solver="svd")
        ridge.fit((train[0] - mean) / scale, vectors[train[1]])
        projection = (ridge.coef_.T / scale).astype(np.float32)  # [128, text_size]
        fitted = ZeroShot(mean, projection, list(names), vectors, seen, temperature=1.0)
        loss, temperature = _calibrate(fitted, *validation)
        if best is None or loss < best[0]:
            best = loss, replace(fitted, temperature=temperature)
    assert best is not None
    return best[1]


def _calibrate(zeroshot: ZeroShot, embeddings: NDArray[np.float32], labels: NDArray[np.int64]) -> tuple[float, float]:
    """The least cross-entropy over the seen classes, and the temperature that reaches it."""
    columns = np.cumsum(zeroshot.seen) - 1
    cosines = zeroshot.scores(embeddings, zeroshot.seen_names).astype(np.float64)  # [n, n_seen]
    logits = TEMPERATURES[:, None, None] * cosines
    top = logits.max(axis=2, keepdims=True)
    log_sums = np.log(np.exp(logits - top).sum(axis=2)) + top[..., 0]  # [n_temperatures, n]
    picked = logits[:, np.arange(len(labels)), columns[labels]]
    losses = (log_sums - picked).mean(axis=1)
    least = int(losses.argmin())
    return float(losses[least]), float(TEMPERATURES[least])


def accuracy(zeroshot: ZeroShot, embeddings: NDArray[np.float32], labels: NDArray[np.int64]) -> float:
    """Share of clips whose best-scored seen class is theirs."""
    seen_names = zeroshot.seen_names
    best = zeroshot.scores(embeddings, seen_names).argmax(axis=1)
    return float(np.mean([seen_names[i] == zeroshot.class_names[label] for i, label in zip(best, labels, strict=True)]))
