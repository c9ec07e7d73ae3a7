"""Fit the map of a trained network: from its embeddings, and from what is known of the classes, to ranked classes."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from torch import nn

from serving.zeroshot import ZeroShot
from training.data.class_attributes import have_half
from training.data.clip_frames import ClipSet
from training.fit.clip_embeddings import embed_clips
from training.fit.whitening import half_whitener
from training.learner import Learner
from training.lexicon import load_lexicon
from training.networks import Network, TextHead
from training.prototype_map import ClassSide
from training.regression import Anchors, centred_anchors
from training.run_folder import RunConfig
from training.synthesis.vocabulary import Vocabulary
from training.synthesis.vocabulary_attributes import sound_attributes
from training.zeroshot_maps import LAMBDAS, Labelled, class_vectors, fit_zeroshot, head_zeroshot, text_zeroshot

# How much nearer, in cosines, clips of unheard classes are to the seen ones than those of pseudo-unseen classes. It
# grows with the epochs: docs/results/zero-shot.md. For vggish it was not measured.
NEARER = {"yamnet": 0.1, "yamnet-compact": 0.05, "vggish": 0.05}


def fit_map(
    learner: Learner, config: RunConfig, network: Network, train: Labelled, validation: Labelled | None = None
) -> ZeroShot:
    """The map from embeddings to the table's classes: the text head's projection, or a fitted closed-form map.

    Prototypes are compared after the embeddings are half whitened; those of the objective `whitening` are whitened
    already.
    train, validation  clips of seen classes: embeddings [n, 128], labels [n] that index the table's classes
    """
    classes = class_side(learner, np.isin(learner.recordings.table.classes, config.split.seen))
    if config.objective == "whitening":
        linear = network.embedding[0]
        assert isinstance(linear, nn.Linear)
        matrix = linear.weight.detach().cpu().numpy().T
        assert config.map is not None
        return fit_zeroshot(with_words(learner, classes, config, matrix), train, validation, config.map)
    classes = with_words(learner, classes, config)
    if config.map in LAMBDAS:
        return fit_zeroshot(classes, train, validation, config.map)
    head = network.head if isinstance(network.head, TextHead) else None
    if head is not None:
        if classes.attributes is None and classes.words is None:
            return head_zeroshot(classes, head)
        if (vocabulary := learned_sounds(learner, config)) is not None:
            classes = with_sounds(classes, config, vocabulary, _embed_sounds(learner, network, vocabulary))
    whitener = half_whitener(*train)
    classes, whitened = classes.turned(whitener), (train[0] @ whitener, train[1])
    others = validation and (validation[0] @ whitener, validation[1])
    if head is not None:
        fitted = text_zeroshot(classes, head.weights @ whitener, NEARER[config.network.name], whitened, others)
    else:
        fitted = fit_zeroshot(classes, whitened, others, "prototypes")
    return replace(fitted, mean=train[0].mean(axis=0), projection=whitener)


def class_side(learner: Learner, seen: NDArray[np.bool_]) -> ClassSide:
    """What is known of the table's classes without a recording, where `seen` [n_classes] are trained on."""
    attributes = None if learner.attributes is None else class_vectors(learner.attributes, seen)
    return ClassSide(learner.recordings.table.classes, seen, class_vectors(learner.texts, seen), attributes)


def with_words(
    learner: Learner, classes: ClassSide, config: RunConfig, matrix: NDArray[np.floating] | None = None
) -> ClassSide:
    """The same with what says where words belong: the classes of published weights, or else the lexicon.

    Published classes say it better: docs/results/labels.md. The lexicon guesses their attributes from their names,
    and they then teach what attributes mean.
    matrix   [n_features, D]: the embedding is features @ matrix; None: the network has been trained
    """
    seen = classes.seen
    # Where a class is unseen: everyday sounds alone, none of which is a class of ESC-50 or FSC22.
    lexicon = load_lexicon(config.text, config.class_texts, bool(seen.all())) if config.lexicon else None
    if matrix is not None and (classifier := learner.classifier(config)) is not None:
        published, guessed = classifier.under(matrix), None
        if lexicon is not None and have_half(config.attribute_columns, lexicon.columns):
            attributes = lexicon.guess(classifier.texts, config.attribute_columns)
            guessed = centred_anchors(attributes, published.directions)
        return replace(classes, published=published, sounds=guessed)
    if lexicon is None:
        return classes
    known = [config.attributes[name] for name in config.classes] if config.attributes else None
    return replace(classes, words=lexicon.words(learner.texts, seen, known))


def learned_sounds(learner: Learner, config: RunConfig) -> Vocabulary | None:
    """The vocabulary that a network learns beside the recordings, and the map from it; None: they learn none."""
    knows_attributes = learner.attributes is not None or config.lexicon
    return learner.vocabulary(config) if config.objective == "text" and config.vocabulary and knows_attributes else None


def with_sounds(
    classes: ClassSide, config: RunConfig, vocabulary: Vocabulary, places: NDArray[np.float32]
) -> ClassSide:
    """The same with the sounds of the vocabulary, whose attributes are known. places [n_sounds, D]: where they are."""

    def described(columns: Sequence[str]) -> Anchors | None:
        known = sound_attributes(vocabulary.qualities, columns)
        return None if known is None else centred_anchors(known, places)

    words = classes.words and replace(classes.words, sounds=described(classes.words.columns))
    return replace(classes, sounds=described(config.attribute_columns), words=words)


def _embed_sounds(learner: Learner, network: Network, vocabulary: Vocabulary) -> NDArray[np.float32]:
    """The embeddings of the vocabulary's sounds: [n_sounds, 128]."""
    n_sounds = len(vocabulary.qualities)
    every = ClipSet(vocabulary.frames, np.arange(n_sounds), np.zeros(n_sounds, np.int64))
    return embed_clips(network, every, learner.compute.device).numpy()
