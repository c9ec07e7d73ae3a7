"""Fit the closed-form map from embeddings to class vectors that a bundle carries (applied by serving.zeroshot).

prototypes  regression in the other direction, see training.prototype_map
ridge   the embeddings' linear regression on their classes' vectors (Shigeto 2015, arXiv:1507.00825)
eszsl   the bilinear classifier of Romera-Paredes & Torr 2015 (ICML): X embeddings, Y labels of -1 and 1, S vectors,
        (X'X + gamma I)^-1 X'Y S (S'S + lambda I)^-1. Each row of Y S is twice the clip's class vector less a constant.
        X is centred, so X' removes the constant: the map is ridge regression times (S'S + lambda I)^-1
"""

import warnings
from collections.abc import Sequence
from dataclasses import replace
from math import log

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp
from sklearn.linear_model import Ridge
from sklearn.model_selection import StratifiedKFold

from serving.text_model.text_model import encode_classes
from serving.text_model.text_source import CLASS_TEXTS
from serving.zeroshot import ZeroShot, unit_rows
from training.data.known_classes import describe_class
from training.networks import TextHead
from training.prototype_map import (
    DEFAULT_STRENGTH,
    ClassSide,
    Labelled,
    choose_strength,
    draw_sizes,
    drawn_to_text,
    prototype_map,
    typed_projection,
)
from training.text_encoders import TextEncoder
from training.words import with_head

# gamma regularises the embeddings' side, lambda the texts' side. lambda = infinity is ridge regression.
GAMMAS = tuple(10.0**power for power in range(-2, 5))
LAMBDAS = {"ridge": (float("inf"),), "eszsl": tuple(10.0**power for power in range(-3, 4))}
MAPS = (*LAMBDAS, "prototypes")
TEXT_SHARE = 0.5  # of a text head's prediction for an unseen class beside that of attributes: docs/results/zero-shot.md
TEMPERATURES = np.geomspace(0.5, 100.0, 60)


def text_vectors(names: Sequence[str], encoder: TextEncoder, texts: str = "description") -> NDArray[np.float32]:
    """Vectors of the classes, as the encoder returns them: [C, text_size] float32.

    texts   one of CLASS_TEXTS: with "name+description", the mean of both vectors as unit rows
    """
    return encode_classes(names, describe_class, encoder, with_names=texts == CLASS_TEXTS[1])


def centred_unit_rows(texts: NDArray[np.float32], mean: NDArray[np.float32]) -> NDArray[np.float32]:
    """Text vectors [n, text_size] less a mean [text_size], as unit rows."""
    return unit_rows(texts - mean)


def class_vectors(texts: NDArray[np.float32], seen: NDArray[np.bool_]) -> NDArray[np.float32]:
    """`text_vectors` [C, text_size], centred on the mean of the seen classes, as unit rows."""
    return centred_unit_rows(texts, texts[seen].mean(axis=0))


def head_zeroshot(classes: ClassSide, head: TextHead) -> ZeroShot:
    """The map of a text head whose classes have neither attributes nor words: its projection and its scale."""
    to_texts = head.weights.T.copy()  # [128, text_size]
    no_mean = np.zeros(len(to_texts), np.float32)
    return ZeroShot(no_mean, to_texts, list(classes.names), classes.vectors, classes.seen, head.scale.item())


def text_zeroshot(
    classes: ClassSide,
    projection: NDArray[np.float32],
    nearer: float,
    train: Labelled,
    validation: Labelled | None = None,
) -> ZeroShot:
    """The map that a network's text head learned in training. The classes have attributes or words.

    Seen classes stand at their prototypes, as in the prototype map. An unseen class stands between what its attributes
    and its text, by the head's projection, predict. Labels that are typed later, and unseen classes without attributes,
    stand where the head and the words together place them.
    The head has learned the texts of pseudo-unseen classes, so lambda and the offset are chosen without it. The sounds
    of the vocabulary, which the network has learned beside the clips, take part in what attributes predict.
    projection          [text_size, D] float32: the head's
    nearer              added to the offset, in cosines: the network has learned the pseudo-unseen classes, and clips of
                        classes that it never heard lie nearer to the seen ones
    train, validation   as of `fit_zeroshot`
    """
    fitted = _fit_prototypes(classes, train, validation, nearer)
    assert fitted.given_targets is not None
    assert fitted.text_projection is not None
    targets = fitted.given_targets
    if classes.attributes is not None:
        heard = np.isin(np.arange(len(classes.names)), train[1])[:, None]
        targets = np.where(heard, targets, drawn_to_text(targets, classes, projection, TEXT_SHARE))
    typed = projection if classes.words is None else with_head(fitted.text_projection, projection, classes.words)
    return replace(fitted, text_projection=typed, given_targets=targets)


def fit_zeroshot(
    classes: ClassSide, train: Labelled, validation: Labelled | None = None, kind: str = "ridge"
) -> ZeroShot:
    """Fit a closed-form map from embeddings to class vectors. The loss on other clips chooses gamma, lambda and the
    temperature.

    classes     all classes, seen and unseen; only prototypes make use of their attributes
    train       embeddings [n, D] and labels [n] of seen classes, indices into their names
    validation  likewise; None: `train` is split into up to five parts, each judged by a map fitted to the others
    kind        one of MAPS
    """
    if kind == "prototypes":
        return _fit_prototypes(classes, train, validation)
    vectors, seen = classes.vectors, classes.seen
    gram = vectors[seen].astype(np.float64).T @ vectors[seen]
    # (S'S / lambda + I)^-1: the scores are cosines, which do not change with a factor, here lambda, of the whole map.
    text_sides = [np.linalg.inv(gram / strength + np.eye(len(gram))) for strength in LAMBDAS[kind]]

    def fit(gamma: float, rows: NDArray[np.int64] | slice) -> ZeroShot:
        return _ridge_map(classes, train[0][rows], train[1][rows], gamma)

    everything = slice(None)
    judged = _judged(train, validation)

    def mean_losses(gamma: float) -> NDArray[np.float64]:
        """Mean over the parts: [n_lambdas, n_temperatures]."""
        fitted = [(fit(gamma, rows), others) for rows, others in judged]
        return np.array(
            [
                np.mean([_losses(_with_text_side(ridge, side), *others) for ridge, others in fitted], axis=0)
                for side in text_sides
            ]
        )

    losses = np.array([mean_losses(gamma) for gamma in GAMMAS])  # [n_gammas, n_lambdas, n_temperatures]
    gamma, side, temperature = np.unravel_index(losses.argmin(), losses.shape)
    best = _with_text_side(fit(GAMMAS[gamma], everything), text_sides[side])
    return replace(best, temperature=float(TEMPERATURES[temperature]))


def _judged(train: Labelled, validation: Labelled | None) -> list[tuple[NDArray[np.int64] | slice, Labelled]]:
    """The rows of `train` to fit to, and the clips that judge the fit: one pair, or one for each part of `train`."""
    if validation is not None:
        return [(slice(None), validation)]
    counts = np.unique(train[1], return_counts=True)[1]
    if counts.max() < 2:  # a clip that is left out would be the only one of its class
        return [(slice(None), train)]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The least populated class")  # a class of one clip is in one part only
        folds = StratifiedKFold(max(2, min(5, int(counts.min()))), shuffle=True, random_state=0)
        parts = list(folds.split(*train))
    return [(rows, (train[0][rest], train[1][rest])) for rows, rest in parts]


def _fit_prototypes(classes: ClassSide, train: Labelled, validation: Labelled | None, nearer: float = 0.0) -> ZeroShot:
    """The prototype map: pseudo-unseen classes choose lambda and the offset, the loss chooses the temperature.

    nearer   added to the offset, in cosines
    """
    # Without the sounds: a network that has learned them places the pseudo-unseen classes, which it has learned too,
    # near them, and published classes are these classes under other names. The offset would be too small for classes
    # that are truly unseen: docs/results/zero-shot.md.
    strength, offset = choose_strength(replace(classes, sounds=None), train)
    if classes.sounds is not None and classes.published is None:
        strength = DEFAULT_STRENGTH  # what a sound counts was measured with it
    losses = [
        _losses(prototype_map(classes, (train[0][rows], train[1][rows]), strength), *others)
        for rows, others in _judged(train, validation)
    ]
    temperature = float(TEMPERATURES[np.mean(losses, axis=0).argmin()])
    fitted = replace(prototype_map(classes, train, strength), temperature=temperature)
    if classes.words is not None:
        fitted = replace(fitted, text_projection=typed_projection(classes, classes.words, train, strength))
    if not offset:
        return fitted
    n_seen, n_unseen = draw_sizes(len(np.unique(train[1])))
    return replace(fitted, offset=(offset + nearer) * temperature - log(n_seen / n_unseen), balanced=True)


def _ridge_map(
    classes: ClassSide, embeddings: NDArray[np.float32], labels: NDArray[np.int64], gamma: float
) -> ZeroShot:
    """Ridge regression from embeddings [n, D] to the vectors of their classes."""
    mean = embeddings.mean(axis=0)
    scale = float((embeddings - mean).std()) or 1.0  # so that one gamma suits embeddings of any scale
    ridge = Ridge(alpha=gamma, fit_intercept=False, solver="svd")
    ridge.fit((embeddings - mean) / scale, classes.vectors[labels])
    projection = (ridge.coef_.T / scale).astype(np.float32)  # [D, text_size]
    return ZeroShot(mean, projection, list(classes.names), classes.vectors, classes.seen, temperature=1.0)


def _with_text_side(ridge: ZeroShot, text_side: NDArray[np.float64]) -> ZeroShot:
    """The map whose projection is multiplied by ESZSL's second factor [text_size, text_size]."""
    return replace(ridge, projection=(ridge.projection @ text_side).astype(np.float32))


def _losses(zeroshot: ZeroShot, embeddings: NDArray[np.float32], labels: NDArray[np.int64]) -> NDArray[np.float64]:
    """The mean cross-entropy over the seen classes at each of TEMPERATURES: [n_temperatures]."""
    columns = np.cumsum(zeroshot.seen) - 1
    cosines = zeroshot.scores(embeddings, zeroshot.seen_names)  # [n, n_seen]
    return temperature_losses(cosines, columns[labels])


def temperature_losses(cosines: NDArray[np.float32], targets: NDArray[np.int64]) -> NDArray[np.float64]:
    """The mean cross-entropy at each of TEMPERATURES: [n_temperatures].

    cosines [n, n_classes];  targets [n], columns of the cosines
    """
    precise, rows = cosines.astype(np.float64), np.arange(len(targets))
    losses = []
    for temperature in TEMPERATURES:  # at once, they would take 60 times the cosines' memory, several times over
        logits = temperature * precise
        losses.append((logsumexp(logits, axis=1) - logits[rows, targets]).mean())
    return np.array(losses)


def accuracy(zeroshot: ZeroShot, embeddings: NDArray[np.float32], labels: NDArray[np.int64]) -> float:
    """Share of clips whose best-scored seen class is their own."""
    seen_names = zeroshot.seen_names
    best = zeroshot.scores(embeddings, seen_names).argmax(axis=1)
    return float(np.mean([seen_names[i] == zeroshot.class_names[label] for i, label in zip(best, labels, strict=True)]))
