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
from training.learner import Learner
from training.map_fit import class_side, described_sounds
from training.run_folder import RunConfig
from training.zeroshot_maps import standardised_scores

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
    seen: NDArray[np.bool_],
    train: NDArray[np.int64],
    features: NDArray[np.float32],
    vectors: NDArray[np.float32] | None = None,
    sounds: tuple[NDArray[np.float32], NDArray[np.float32]] | None = None,
) -> NDArray[np.float32]:
    """Scores [n_clips, n_classes] of a control: a map between features [n_clips, D] and the classes.

    seen     [n_classes];  train: rows of the clips to fit to, all of seen classes
    vectors  [n_classes, any] unit rows in place of the attributes or texts; None: the control knows what the network's
             map knows
    sounds   see `sound_statistics`; not together with vectors
    """
    classes = class_side(learner, seen)
    if vectors is not None:
        has_attributes = classes.attributes is not None
        classes = replace(classes, attributes=vectors) if has_attributes else replace(classes, vectors=vectors)
    return standardised_scores(classes, features, learner.recordings.labels(), train, sounds)


def sound_statistics(learner: Learner, config: RunConfig) -> tuple[NDArray[np.float32], NDArray[np.float32]] | None:
    """Attributes [K, n_attributes] and `clip_statistics` of the sounds from which the network's map learns too."""
    described = described_sounds(learner, config)
    return None if described is None else (described[1], clip_statistics(described[0]))


def random_class_vectors(learner: Learner, rng: np.random.Generator) -> NDArray[np.float32]:
    """Class vectors without meaning, in the shape of those that the map learns from: random directions as unit rows."""
    learned_from = learner.texts if learner.attributes is None else learner.attributes
    return unit_rows(np.asarray(rng.standard_normal(learned_from.shape), np.float32))
