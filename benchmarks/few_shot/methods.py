"""Ways to recognise classes from a few examples: the taught map, and the methods that it is compared with."""

import warnings
from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

from benchmarks.few_shot.clips import Clips
from serving.teaching.posterior import PlacedExamples, choose_weight, with_examples
from serving.zeroshot import ZeroShot

MAX_ITERATIONS = 100  # of logistic regression, as MTEB and MAEB have it (arXiv:2602.16008); the strength is 1

BOTH, EXAMPLES, DESCRIPTION = "description and examples", "examples alone", "description alone"
PROBE, CENTROID = "logistic regression, embeddings", "nearest centroid, embeddings"
PLAIN_PROBE, PLAIN_CENTROID = "logistic regression, log-mel statistics", "nearest centroid, log-mel statistics"


def placed(zeroshot: ZeroShot, clips: Clips, rows: NDArray[np.intp], labels: NDArray[np.intp]) -> PlacedExamples:
    """Clips as examples: each is its own recording."""
    return PlacedExamples(zeroshot.place(clips.embeddings[rows]), labels[rows], np.arange(len(rows)))


def taught(prior: ZeroShot, clips: Clips, rows: NDArray[np.intp], labels: NDArray[np.intp]) -> ZeroShot:
    """The map after these examples, as `serving.teach` makes it."""
    examples = placed(prior, clips, rows, labels)
    return with_examples(prior, examples, choose_weight(prior, examples))


def without_text(prior: ZeroShot) -> ZeroShot:
    """The same classes without their descriptions."""
    return replace(prior, class_vectors=np.zeros_like(prior.class_vectors), given_targets=None)


def name_clips(
    method: str,
    prior: ZeroShot,
    clips: Clips,
    train: NDArray[np.intp],
    test: NDArray[np.intp],
    labels: NDArray[np.intp],
) -> NDArray[np.intp]:
    """What a method names the test clips after the training clips: [n_test] int, indices of the map's classes.

    prior    the map whose classes are asked
    labels   [n_clips] index of each clip's class
    """
    if method in (BOTH, EXAMPLES, DESCRIPTION):
        start = without_text(prior) if method == EXAMPLES else prior
        zeroshot = start if method == DESCRIPTION or not len(train) else taught(start, clips, train, labels)
        return zeroshot.cosines(clips.embeddings[test]).argmax(axis=1)
    features = clips.embeddings
    if method in (PLAIN_PROBE, PLAIN_CENTROID):
        features = standardised(clips.statistics, train)
    name: Callable[..., NDArray[np.intp]] = probe if method in (PROBE, PLAIN_PROBE) else nearest_centroid
    return name(features[train], labels[train], features[test])


def probe(train: NDArray[np.float32], labels: NDArray[np.intp], test: NDArray[np.float32]) -> NDArray[np.intp]:
    """Logistic regression. That it stops before it has converged belongs to the protocol."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        warnings.filterwarnings("ignore", "The number of unique classes")  # one example each is meant
        return LogisticRegression(max_iter=MAX_ITERATIONS).fit(train, labels).predict(test)


def nearest_centroid(
    train: NDArray[np.float32], labels: NDArray[np.intp], test: NDArray[np.float32]
) -> NDArray[np.intp]:
    """The class whose mean is nearest (Snell 2017, arXiv:1703.05175)."""
    classes = np.unique(labels)
    centroids = np.stack([train[labels == each].mean(axis=0) for each in classes])
    distances = ((test[:, None] - centroids) ** 2).sum(axis=2)
    return classes[distances.argmin(axis=1)]


def standardised(features: NDArray[np.float32], train: NDArray[np.intp]) -> NDArray[np.float32]:
    """Features less the training rows' mean, divided by their standard deviation."""
    deviation = features[train].std(axis=0)
    return (features - features[train].mean(axis=0)) / np.maximum(deviation, 1e-6)
