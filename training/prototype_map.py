"""The zero-shot map that predicts a class's prototype, its mean embedding, from its text or its attributes.

    U = C C_s' (C_s C_s' + lambda I)^-1 P        score = cosine(embedding - mean, U)

C are the class vectors, C_s those of the seen classes, and P the means of the seen classes' embeddings: ridge
regression from texts to embeddings. The opposite direction, from embeddings to texts, draws all predictions together,
so that a few classes become the nearest of most clips (hubs): Shigeto 2015 (arXiv:1507.00825), Lazaridou 2015 (ACL
P15-1027).

Seen classes stand at their own prototypes, unseen ones where the regression places them. Where the classes have
attributes (training.data.class_attributes), these place the unseen classes, and texts only the labels that are typed
later: see training.words.

Published weights with a classifier know more classes than the recordings have (training.published.audioset_classes).
Their names and their directions then take part in the regression from texts. In the regression from attributes they
take part with the attributes that the lexicon (training.lexicon) guesses from their names. An unseen class with
attributes stands halfway between its attributes' prediction and its text's; without the lexicon nearer to the text's,
where few seen classes teach what attributes mean.

The sounds of the acoustic vocabulary that a network has learned (training.synthesis.vocabulary) have attributes too,
from the properties that they were made from. They take part in the regression from attributes.

Lambda and the GZSL offset are chosen on pseudo-unseen classes: seen classes that a fit leaves out.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from serving.zeroshot import ZeroShot, unit_rows
from training.evaluation.scoring import gzsl, zsl
from training.regression import Anchors, regression
from training.words import Words

STRENGTHS = (0.3, 1.0, 3.0, 10.0)  # lambda
# What a published class counts beside a seen one. With 1, the 521 outvote the seen classes, which are then recognised
# worse in other words than without published classes, see docs/results/zero-shot.md.
PUBLISHED_WEIGHT = 0.2  # in both regressions
SOUND_WEIGHT = 0.03  # what a sound of the vocabulary counts beside a seen class: docs/results/zero-shot.md
WORD_STRENGTH = 0.3  # lambda where words take part: docs/results/labels.md
WORD_WEIGHT = 1.0  # what a word counts beside a seen class
# If the seen classes alone teach what attributes mean, then with so many of them an attributes' prediction counts as
# much as that of a text, which published classes teach too; with n of them, n / 20 as much: docs/results/zero-shot.md.
EQUAL_CLASSES = 20
DEFAULT_STRENGTH = 3.0  # for too few classes to choose
DRAWS = 12  # of pseudo-unseen classes
PSEUDO_SHARE = 0.25  # of the seen classes, and of the clips of the others, which are scored as seen
FEWEST_CLASSES = 6  # for a choice: two pseudo-unseen classes and four to fit to
OFFSETS = np.linspace(-0.5, 1.5, 401)  # in cosines

Labelled = tuple[NDArray[np.float32], NDArray[np.int64]]  # embeddings [n, D] and labels [n]


@dataclass(frozen=True)
class ClassSide:
    """What is known of the classes without a recording.

    names       all classes;  seen [C] bool
    vectors     [C, text_size] float32 from `class_vectors`
    attributes  [C, n_attributes] float32: those of the classes, centred on the seen ones, as unit rows; None: unknown
    published   the classes of the published weights in the space of the embeddings; None: there are none
    sounds      sounds, or published classes, that teach what attributes mean beside the seen classes; None: there are
                none
    words       sounds that teach what the words of typed labels mean; None: the texts of the classes and of published
                ones do
    """

    names: Sequence[str]
    seen: NDArray[np.bool_]
    vectors: NDArray[np.float32]
    attributes: NDArray[np.float32] | None = None
    published: Anchors | None = None
    sounds: Anchors | None = None
    words: Words | None = None

    def turned(self, matrix: NDArray[np.float32]) -> "ClassSide":
        """The same beside embeddings @ matrix [D, D]."""
        words = self.words and replace(self.words, sounds=self.words.sounds and self.words.sounds.turned(matrix))
        published, sounds = self.published and self.published.turned(matrix), self.sounds and self.sounds.turned(matrix)
        return replace(self, published=published, sounds=sounds, words=words)


def prototype_map(classes: ClassSide, train: Labelled, strength: float) -> ZeroShot:
    """The map for one lambda, with a temperature of 1 and without an offset.

    train    embeddings [n, D] and labels [n], indices into the names; classes without a clip take no part
    """
    mean, heard, means = _prototypes(train)
    by_text = regression(classes.vectors[heard], means, strength, (classes.published, PUBLISHED_WEIGHT))
    targets = np.zeros((len(classes.names), len(mean)), np.float32)  # zeros: the text places the class
    if classes.attributes is not None:
        weight = SOUND_WEIGHT if classes.published is None else PUBLISHED_WEIGHT
        by_attributes = regression(classes.attributes[heard], means, strength, (classes.sounds, weight))
        targets = unit_rows(classes.attributes @ by_attributes)
        if classes.published is not None:
            share = max(1.0, EQUAL_CLASSES / len(heard)) if classes.sounds is None else 1.0
            targets = drawn_to_text(targets, classes, by_text, share)
    targets[heard] = unit_rows(means.astype(np.float32))  # no prediction is needed: docs/results/zero-shot.md
    return ZeroShot(
        mean,
        np.eye(len(mean), dtype=np.float32),
        list(classes.names),
        classes.vectors,
        classes.seen,
        1.0,
        text_projection=by_text,
        given_targets=targets,
    )


def typed_projection(classes: ClassSide, words: Words, train: Labelled, strength: float) -> NDArray[np.float32]:
    """The projection [text_size, D] of labels that are typed later. train, strength: as of `prototype_map`."""
    _, heard, means = _prototypes(train)
    by_attributes = regression(words.class_attributes[heard], means, strength, (words.sounds, SOUND_WEIGHT))
    return regression(classes.vectors[heard], means, WORD_STRENGTH, (words.places(by_attributes), WORD_WEIGHT))


def _prototypes(train: Labelled) -> tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.float32]]:
    """The mean embedding [D], the classes that have clips [n], and their prototypes less the mean [n, D]."""
    embeddings, labels = train
    mean = embeddings.mean(axis=0)
    heard = np.unique(labels)
    return mean, heard, np.stack([embeddings[labels == c].mean(axis=0) for c in heard]) - mean


def drawn_to_text(
    targets: NDArray[np.float32], classes: ClassSide, text_projection: NDArray[np.float32], share: float
) -> NDArray[np.float32]:
    """Targets [C, D] between those that are given and the places of the classes' texts.

    text_projection  [text_size, D];  share: of the text's place beside the given target
    """
    by_text = unit_rows(classes.vectors @ text_projection)
    return unit_rows((targets + share * by_text).astype(np.float32))


@dataclass(frozen=True)
class _Draw:
    """Scores [n, n_classes] of the clips that the fit did not hear, those of pseudo-unseen classes among them.

    labels [n] and seen [n_classes] are of the classes that have clips.
    """

    scores: NDArray[np.float32]
    labels: NDArray[np.int64]
    seen: NDArray[np.bool_]


def choose_strength(classes: ClassSide, train: Labelled) -> tuple[float, float]:
    """Lambda with the best mean accuracy on pseudo-unseen classes, and the offset with the best mean harmonic mean.

    returns  lambda, and the offset in cosines for as many labels of each kind as in a draw, see `draw_sizes`;
             the default and 0 with fewer than FEWEST_CLASSES classes, or too few with two clips
    """
    heard, counts = np.unique(train[1], return_counts=True)
    n_pseudo = draw_sizes(len(heard))[1]
    if len(heard) < FEWEST_CLASSES or np.count_nonzero(counts > 1) <= n_pseudo:  # a draw may have no seen clip to score
        return DEFAULT_STRENGTH, 0.0
    draws = {
        strength: [_draw(classes, train, heard, n_pseudo, strength, number) for number in range(DRAWS)]
        for strength in STRENGTHS
    }
    accuracies = {
        strength: np.mean([zsl(draw.scores, draw.labels, draw.seen) for draw in drawn])
        for strength, drawn in draws.items()
    }
    best = max(STRENGTHS, key=lambda strength: accuracies[strength])
    curves = np.mean([_harmonic_means(draw) for draw in draws[best]], axis=0)  # [n_offsets]
    return best, float(OFFSETS[curves.argmax()])


def draw_sizes(n_classes: int) -> tuple[int, int]:
    """How many of the classes are seen and pseudo-unseen in a draw of `choose_strength`."""
    n_pseudo = max(2, round(PSEUDO_SHARE * n_classes))
    return n_classes - n_pseudo, n_pseudo


def _draw(
    classes: ClassSide, train: Labelled, heard: NDArray[np.int64], n_pseudo: int, strength: float, number: int
) -> _Draw:
    rng = np.random.default_rng(number)  # the same draws for each lambda
    embeddings, labels = train
    pseudo = rng.permutation(heard)[:n_pseudo]
    of_pseudo = np.isin(labels, pseudo)
    chance = rng.random(len(labels))
    for label in heard:  # one clip of each class is kept for the fit
        own = np.flatnonzero(labels == label)
        chance[own[chance[own].argmax()]] = 1.0
    scored = of_pseudo | (chance <= max(PSEUDO_SHARE, chance[~of_pseudo].min()))  # and one at least is scored
    fitted = prototype_map(classes, (embeddings[~scored], labels[~scored]), strength)
    scores = fitted.scores(embeddings[scored])[:, heard]
    return _Draw(scores, np.searchsorted(heard, labels[scored]), ~np.isin(heard, pseudo))


def _harmonic_means(draw: _Draw) -> NDArray[np.float64]:
    """The harmonic mean at each of OFFSETS."""
    return np.array([gzsl(draw.scores, draw.labels, draw.seen, offset).harmonic_mean for offset in OFFSETS])
