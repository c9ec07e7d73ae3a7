"""What a network is compared with: log-mel statistics instead of its embeddings, random instead of text vectors."""

import math
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import RidgeClassifierCV
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from serving.zeroshot import unit_rows
from training.data.clip_frames import ClipFrames
from training.fit.whitening import half_whitener
from training.learner import Learner
from training.map_fit import class_side, learned_sounds, with_sounds, with_words
from training.prototype_map import DEFAULT_STRENGTH, prototype_map, typed_projection
from training.run_folder import RunConfig
from training.zeroshot_maps import fit_zeroshot

RIDGE_STRENGTHS = np.logspace(-1, 5, 25)
RANDOM_DRAWS = 10  # sets of random class vectors; their scores are averaged


def log_mel_statistics(frames: NDArray[np.float32]) -> NDArray[np.float32]:
    """Mean, standard deviation and mean absolute difference from frame to frame, of each mel band.

    frames   [n, 64] log-mel, n >= 1; a single frame has no deviation and no difference: zeros
    returns  [192] float32: 64 means, 64 deviations, 64 differences
    errors   ValueError: no frame
    """
    if frames.ndim != 2 or not len(frames):
        raise ValueError(f"frames: got {list(frames.shape)}; wanted [n, mel_bands] with at least one frame")
    steps = np.abs(np.diff(frames, axis=0)).mean(axis=0) if len(frames) > 1 else np.zeros_like(frames[0])
    return np.concatenate([frames.mean(axis=0), frames.std(axis=0), steps]).astype(np.float32)


def clip_statistics(frames: ClipFrames) -> NDArray[np.float32]:
    """`log_mel_statistics` of every clip: [n_clips, 192] float32.

    Digital silence at the end of a clip is left out, and with it the zeros that pad the last window. So the statistics
    hardly depend on the network's window: only two frames overlap the end of the sound.
    """
    silence = math.log(frames.config.log_offset) + 1e-4
    rows = []
    for start, count in zip(frames.starts, frames.counts, strict=True):
        values = np.asarray(frames.values[start : start + count])
        sounding = np.flatnonzero((values > silence).any(axis=1))
        rows.append(log_mel_statistics(values[: sounding[-1] + 1 if len(sounding) else 1]))
    return np.stack(rows)


def ridge_classifier() -> Pipeline:
    """Ridge regression from standardised statistics to the classes; cross-validation chooses the strength."""
    return make_pipeline(StandardScaler(), RidgeClassifierCV(RIDGE_STRENGTHS))


def control_scores(
    learner: Learner,
    config: RunConfig,
    seen: NDArray[np.bool_],
    train: NDArray[np.int64],
    features: NDArray[np.float32],
    vectors: NDArray[np.float32] | None = None,
    sounds: NDArray[np.float32] | None = None,
) -> NDArray[np.float32]:
    """Scores [n_clips, n_classes] of a control: a map between features [n_clips, D], standardised, and the classes.

    The map is fitted as the network's: prototypes with the default strength if attributes or the lexicon say where
    unseen classes are, otherwise ridge.
    seen     [n_classes];  train: rows of the clips to fit to, all of seen classes
    vectors  [n_classes, any] unit rows in place of the attributes or texts; None: the control knows what the network's
             map knows
    sounds   see `sound_statistics`; not together with vectors
    """
    classes, labels = with_words(learner, class_side(learner, seen), config), learner.recordings.labels()
    by_prototypes = classes.attributes is not None or classes.words is not None
    if vectors is not None:
        given = {"vectors" if classes.attributes is None else "attributes": vectors}
        classes = replace(classes, words=None, **given)
    scaler = StandardScaler().fit(features[train])
    scaled = np.asarray(scaler.transform(features), np.float32)
    if not by_prototypes:
        return replace(fit_zeroshot(classes, (scaled[train], labels[train])), temperature=1.0).scores(scaled)
    if sounds is not None:
        places = np.asarray(scaler.transform(sounds), np.float32)
        classes = with_sounds(classes, config, learner.vocabulary(config), places)
    whitener = half_whitener(scaled[train], labels[train])
    scaled, classes = scaled @ whitener, classes.turned(whitener)
    clips = scaled[train], labels[train]
    fitted = prototype_map(classes, clips, DEFAULT_STRENGTH)
    if classes.words is not None:
        typed = typed_projection(classes, classes.words, clips, DEFAULT_STRENGTH)
        fitted = replace(fitted, text_projection=typed)
    return fitted.scores(scaled)


def sound_statistics(learner: Learner, config: RunConfig) -> NDArray[np.float32] | None:
    """`clip_statistics` [K, 192] of the sounds from which the network's map learns too; None: it learns from none."""
    vocabulary = learned_sounds(learner, config)
    return None if vocabulary is None else clip_statistics(vocabulary.frames)


def random_class_vectors(learner: Learner, rng: np.random.Generator) -> NDArray[np.float32]:
    """Class vectors without meaning, in the shape of those that the map learns from: random directions as unit rows."""
    learned_from = learner.texts if learner.attributes is None else learner.attributes
    return unit_rows(np.asarray(rng.standard_normal(learned_from.shape), np.float32))
