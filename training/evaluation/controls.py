"""The control without a network: statistics of a clip's log-mel frames in the place of its embedding."""

import math

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import RidgeClassifierCV
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from training.data.windows import Frames

RIDGE_STRENGTHS = np.logspace(-1, 5, 25)


def log_mel_statistics(frames: NDArray[np.float32]) -> NDArray[np.float32]:
    """Mean, standard deviation and mean absolute difference from frame to frame, of each mel band.

    frames   [n, 64] log-mel, n >= 1; a single frame has no deviation and no difference: zeros
    returns  [192] float32: 64 means, 64 deviations, 64 differences
    """
    if frames.ndim != 2 or not len(frames):
        raise ValueError(f"frames: got {list(frames.shape)}; wanted [n, mel_bands] with at least one frame")
    steps = np.abs(np.diff(frames, axis=0)).mean(axis=0) if len(frames) > 1 else np.zeros_like(frames[0])
    return np.concatenate([frames.mean(axis=0), frames.std(axis=0), steps]).astype(np.float32)


def clip_statistics(frames: Frames) -> NDArray[np.float32]:
    """`log_mel_statistics` of every clip: [n_clips, 192] float32.

    Digital silence at a clip's end is left out, and with it the zeros that a network's window adds there: whatever
    network the control stands beside, it is the same but for the two frames that such an end cuts through.
    """
    silence = math.log(frames.config.log_offset) + 1e-4
    rows = []
    for start, count in zip(frames.starts, frames.counts, strict=True):
        values = np.asarray(frames.values[start : start + count])
        sounding = np.flatnonzero((values > silence).any(axis=1))
        rows.append(log_mel_statistics(values[: sounding[-1] + 1 if len(sounding) else 1]))
    return np.stack(rows)


def ridge_classifier() -> Pipeline:
    """Ridge regression to the classes from standardised statistics; the strength is chosen on what it is fitted to."""
    return make_pipeline(StandardScaler(), RidgeClassifierCV(RIDGE_STRENGTHS))
