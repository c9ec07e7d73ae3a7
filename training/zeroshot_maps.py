"""Fit the closed-form map from embeddings to class vectors that a bundle carries (serving.zeroshot).

ridge   the embeddings' linear regression on their classes' vectors (Shigeto 2015, arXiv:1507.00825)
eszsl   the bilinear classifier of Romera-Paredes & Torr 2015 (ICML): X embeddings, Y labels of -1 and 1, S vectors,
        (X'X + gamma I)^-1 X'Y S (S'S + lambda I)^-1. Where X is centred, Y S is twice each clip's class vector less
        the same for all, which X' takes away: what is left is ridge regression times (S'S + lambda I)^-1
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp
from sklearn.linear_model import Ridge
from sklearn.model_selection import StratifiedKFold
from sklearn.preprocessing import StandardScaler

from serving.zeroshot import ZeroShot, unit_rows
from training.networks import TextHead
from training.text_encoders import TextEncoder, describe

# gamma holds back the side of the sounds, lambda that of the texts. A lambda without end is ridge regression.
GAMMAS = tuple(10.0**power for power in range(-2, 5))
LAMBDAS = {"ridge": (float("inf"),), "eszsl": tuple(10.0**power for power in range(-3, 4))}
TEMPERATURES = np.geomspace(0.5, 100.0, 60)


def text_vectors(names: Sequence[str], encoder: TextEncoder) -> NDArray[np.float32]:
    """Vectors of the classes' descriptions, as the encoder gives them: [C, text_size] float32."""
    return encoder([describe(name) for name in names])


def class_vectors(texts: NDArray[np.float32], seen: NDArray[np.bool_]) -> NDArray[np.float32]:
    """`text_vectors` [C, text_size], centred on the seen classes' mean, of unit length."""
    return unit_rows(texts - texts[seen].mean(axis=0))


def text_zeroshot(
    names: Sequence[str], seen: NDArray[np.bool_], texts: NDArray[np.float32], head: TextHead
) -> ZeroShot:
    """The map that a network learned with its text targets."""
    projection = head.projection.weight.detach().cpu().numpy().T.copy()  # [128, text_size]
    no_mean = np.zeros(len(projection), np.float32)
    return ZeroShot(no_mean, projection, list(names), class_vectors(texts, seen), seen, head.scale.item())


def fit_zeroshot(
    names: Sequence[str],
    seen: NDArray[np.bool_],
    vectors: NDArray[np.float32],
    train: tuple[NDArray[np.float32], NDArray[np.int64]],
    validation: tuple[NDArray[np.float32], NDArray[np.int64]] | None = None,
    kind: str = "ridge",
) -> ZeroShot:
    """A closed-form map from embeddings to class vectors; its strengths and temperature by the loss on other clips.

    names       all classes, seen and unseen;  seen [C] bool;  vectors [C, text_size] from `class_vectors`
    train       embeddings [n, D] and labels [n] of seen classes, indices into names
    validation  likewise; None: each of five parts of `train` is judged by a map fitted to the others
    kind        "ridge" or "eszsl"
    """
    gram = vectors[seen].astype(np.float64).T @ vectors[seen]
    # (S'S / lambda + I)^-1: the scores are cosines, so that a factor of the whole map, here lambda, says nothing.
    text_sides = [np.linalg.inv(gram / some + np.eye(len(gram))) for some in LAMBDAS[kind]]

    def fit(gamma: float, some: NDArray[np.int64] | slice) -> ZeroShot:
        embeddings, labels = train[0][some], train[1][some]
        mean = embeddings.mean(axis=0)
        scale = float((embeddings - mean).std()) or 1.0  # a strength means the same for every network
        ridge = Ridge(alpha=gamma, fit_intercept=False, solver="svd")
        ridge.fit((embeddings - mean) / scale, vectors[labels])
        projection = (ridge.coef_.T / scale).astype(np.float32)  # [D, text_size]
        return ZeroShot(mean, projection, list(names), vectors, seen, temperature=1.0)

    def finish(ridge: ZeroShot, text_side: NDArray[np.float64]) -> ZeroShot:
        return replace(ridge, projection=(ridge.projection @ text_side).astype(np.float32))

    def judge(gamma: float) -> NDArray[np.float64]:
        """[n_lambdas, n_temperatures]"""
        fitted = [(fit(gamma, some), others) for some, others in judged]
        return np.array(
            [
                np.mean([_losses(finish(ridge, side), *others) for ridge, others in fitted], axis=0)
                for side in text_sides
            ]
        )

    everything = slice(None)
    if validation is None:
        fewest = int(np.unique(train[1], return_counts=True)[1].min())
        parts = StratifiedKFold(max(2, min(5, fewest)), shuffle=True, random_state=0).split(*train)
        judged = [(fitted_on, (train[0][rest], train[1][rest])) for fitted_on, rest in parts]
    else:
        judged = [(everything, validation)]
    losses = np.array([judge(gamma) for gamma in GAMMAS])  # [n_gammas, n_lambdas, n_temperatures]
    gamma, side, temperature = np.unravel_index(losses.argmin(), losses.shape)
    best = finish(fit(GAMMAS[gamma], everything), text_sides[side])
    return replace(best, temperature=float(TEMPERATURES[temperature]))


def ridge_scores(
    names: Sequence[str],
    seen: NDArray[np.bool_],
    vectors: NDArray[np.float32],
    features: NDArray[np.float32],
    labels: NDArray[np.int64],
    train: NDArray[np.int64],
) -> NDArray[np.float32]:
    """Cosines [n, C] of a ridge map fitted to any features [n, D] of the clips: what the controls are scored by.

    labels  [n], indices into names;  train: the rows that are learned from, all of seen classes
    """
    scaled = np.asarray(StandardScaler().fit(features[train]).transform(features), np.float32)
    fitted = fit_zeroshot(names, seen, vectors, (scaled[train], labels[train]))
    return replace(fitted, temperature=1.0).scores(scaled)


def _losses(zeroshot: ZeroShot, embeddings: NDArray[np.float32], labels: NDArray[np.int64]) -> NDArray[np.float64]:
    """The cross-entropy over the seen classes at each of TEMPERATURES."""
    columns = np.cumsum(zeroshot.seen) - 1
    cosines = zeroshot.scores(embeddings, zeroshot.seen_names).astype(np.float64)  # [n, n_seen]
    logits = TEMPERATURES[:, None, None] * cosines
    picked = logits[:, np.arange(len(labels)), columns[labels]]
    return (logsumexp(logits, axis=2) - picked).mean(axis=1)


def accuracy(zeroshot: ZeroShot, embeddings: NDArray[np.float32], labels: NDArray[np.int64]) -> float:
    """Share of clips whose best-scored seen class is theirs."""
    seen_names = zeroshot.seen_names
    best = zeroshot.scores(embeddings, seen_names).argmax(axis=1)
    return float(np.mean([seen_names[i] == zeroshot.class_names[label] for i, label in zip(best, labels, strict=True)]))
