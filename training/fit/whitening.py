"""Fit a network's embedding and head in closed form, on features that stay as they are.

The embedding is a linear layer. It takes away what varies within a class and keeps the 128 directions in which the
clips differ most:

    z = (features - mean) / max(standard deviation, floor)
    W = pooled covariance of z within the classes;  L L' = ((1 - s) W + s trace(W)/d I)^-1
    embedding = z L V, with V the leading 128 right singular vectors of the training clips' z L

Within-class whitening is Fisher's discriminant analysis without its reduction to n_classes - 1 directions; the
shrinkage s is that of Ledoit 2004 in form, with a fixed strength.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from torch import nn

from training.networks import EMBEDDING_SIZE, Network

SHRINKAGE = 0.6  # 0.5 to 0.7 are equal within the error over the splits of ESC-50: docs/results/zero-shot.md
HALF_SHRINKAGE = 0.5  # 0.2 is equal within the error: docs/results/zero-shot.md
RMS_SHARE = 0.8  # of the root mean square of all features' deviations; on ESC-50 the median is larger
LEAST_VALUE = 1e-12  # so that nothing is divided by 0
HEAD_STRENGTH = 0.1  # inverse strength of the regularisation of the logistic regression


@torch.no_grad()
def fit_embedding(network: Network, features: NDArray[np.float32], labels: NDArray[np.int64]) -> None:
    """Set the linear layer of the embedding; its BatchNorm becomes the identity.

    features  [n_clips, n_features] of the training clips, from `clip_features`;  labels [n_clips]
    """
    mean, matrix = whitening(features.astype(np.float64), labels)  # [n_features], [n_features, 128]
    linear, norm = network.embedding[0], network.embedding[1]
    assert isinstance(linear, nn.Linear)
    assert isinstance(norm, nn.BatchNorm1d)
    linear.weight.copy_(torch.from_numpy(matrix.T))
    linear.bias.copy_(torch.from_numpy(-mean @ matrix))
    norm.weight.fill_(1.0)
    norm.bias.zero_()
    assert norm.running_mean is not None
    assert norm.running_var is not None
    norm.running_mean.zero_()
    norm.running_var.fill_(1.0 - norm.eps)


def whitening(
    features: NDArray[np.float64], labels: NDArray[np.int64], shrinkage: float = SHRINKAGE
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The mean [n_features] and the matrix [n_features, 128] of (features - mean) @ matrix."""
    mean, deviation = features.mean(axis=0), features.std(axis=0)
    # A feature that is nearly constant on the training clips may not be on others, and must not outweigh the rest. On a
    # few short clips more than half of YAMNet's features are zero, and their median too.
    floor = max(float(np.median(deviation)), RMS_SHARE * float(np.sqrt((deviation**2).mean())), LEAST_VALUE)
    deviation = np.maximum(deviation, floor)
    scaled = (features - mean) / deviation
    whitener = _whitener(scaled, labels, shrinkage, 1.0)
    whitened = scaled @ whitener
    _, directions = np.linalg.eigh(whitened.T @ whitened)  # ascending
    kept = directions[:, ::-1][:, :EMBEDDING_SIZE]
    return mean, whitener @ kept / deviation[:, None]


def half_whitener(rows: NDArray[np.floating], labels: NDArray[np.int64]) -> NDArray[np.float32]:
    """The matrix [d, d] after which rows [n, d] differ less within the classes: by the square root of W.

    Full whitening serves features that were not trained on these classes. A trained embedding needs less of it:
    docs/results/zero-shot.md.
    """
    return _whitener(rows, labels, HALF_SHRINKAGE, 0.5).astype(np.float32)


def _whitener(
    rows: NDArray[np.floating], labels: NDArray[np.int64], shrinkage: float, power: float
) -> NDArray[np.float64]:
    """The matrix [d, d] after which the pooled covariance W within the classes, once shrunk, is W ** (1 - power)."""
    within = np.concatenate([part - part.mean(axis=0) for part in (rows[labels == c] for c in np.unique(labels))])
    covariance = within.T.astype(np.float64) @ within / len(within)
    size = len(covariance)
    shrunk = (1 - shrinkage) * covariance + shrinkage * np.trace(covariance) / size * np.eye(size)
    values, vectors = np.linalg.eigh(shrunk)
    least = LEAST_VALUE * values[-1] or 1.0  # with one clip a class nothing varies
    return vectors * np.maximum(values, least) ** (-power / 2)


@torch.no_grad()
def fit_head(network: Network, embeddings: NDArray[np.float32], labels: NDArray[np.int64]) -> None:
    """Set the head to a logistic regression on the embeddings [n_clips, 128] of all classes 0 to n_classes - 1."""
    linear = network.head
    assert isinstance(linear, nn.Linear)
    # Unit variance on average, so that one strength suits embeddings of any scale.
    scale = float(embeddings.std()) or 1.0
    fitted = LogisticRegression(C=HEAD_STRENGTH, max_iter=1000).fit(embeddings / scale, labels)
    weight, bias = fitted.coef_ / scale, fitted.intercept_
    if len(weight) == 1:  # two classes: scikit-learn gives the scores of the second alone
        weight, bias = np.concatenate([-weight, weight]) / 2, np.concatenate([-bias, bias]) / 2
    linear.weight.copy_(torch.from_numpy(weight))
    linear.bias.copy_(torch.from_numpy(bias))
