"""AudioSet's classes, which Google's YAMNet scores: where sounds belong of which there is no recording at hand.

A class's score is linear in the features, features . w, and the embedding is linear too, features @ M. So the direction
of the embedding in which the score grows is known without a recording:

    g = argmin |M g - w|

It is also where the class's mean is to be expected. For classes with one covariance W, w = W^-1 (the class's mean - the
mean of all); in an embedding that is whitened within the classes W = I, so w is the mean itself (linear discriminant
analysis).

audioset_classes.txt has the display names of yamnet_class_map.csv in its order (tensorflow/models,
research/audioset/yamnet, Apache 2.0; names from the AudioSet ontology, CC BY-SA 4.0).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from serving.zeroshot import unit_rows
from training.published.bundle_weights import CLASSIFIER
from training.published.weight_files import read_weights
from training.regression import Anchors, centred_anchors
from training.text_encoders import known_vectors

CLASS_FILE = Path(__file__).with_suffix(".txt")


@dataclass(frozen=True)
class PublishedClassifier:
    """The classifier of a file of YAMNet's weights, and vectors of the names that a text encoder knows.

    texts    [K, text_size] float32
    weights  [K, n_features] float64
    """

    texts: NDArray[np.float32]
    weights: NDArray[np.float64]

    def under(self, matrix: NDArray[np.floating]) -> Anchors:
        """The classes in the space of an embedding. matrix [n_features, D]: the embedding is features @ matrix."""
        directions = np.linalg.lstsq(matrix.astype(np.float64), self.weights.T, rcond=None)[0].T
        return centred_anchors(self.texts, unit_rows(directions.astype(np.float32)))


def published_classifier(
    path: Path, encoder: Callable[[Sequence[str]], NDArray[np.float32]]
) -> PublishedClassifier | None:
    """The classifier of a file of weights; None: it has none, or one of other classes than AudioSet's 521.

    errors   UsageError: the file cannot be read
    """
    names = CLASS_FILE.read_text(encoding="utf-8").splitlines()
    weights = read_weights(path).get(CLASSIFIER)
    if weights is None or weights.squeeze().ndim != 2 or len(weights.squeeze()) != len(names):
        return None
    known, texts = known_vectors(names, encoder)
    return PublishedClassifier(texts, weights.squeeze()[known].to(torch.float64).numpy()) if known else None
