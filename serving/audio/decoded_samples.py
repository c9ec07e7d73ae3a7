"""Join the blocks of a recording to one waveform with all its channels, at the recording's own rate."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from serving.audio.resampling import resample
from serving.audio.sample_blocks import VALUES_PER_SECOND, SampleBlock, Wave
from serving.errors import DurationError


@dataclass(frozen=True)
class DecodedSamples:
    """All samples of a recording.

    wave        [n_samples, n_channels] float32
    is_checked  the samples are finite and in [-1, 1]
    """

    wave: Wave
    rate_hz: int
    is_checked: bool


def joined(blocks: Iterable[SampleBlock], name: str, max_seconds: float | None) -> DecodedSamples:
    """Join all blocks, at the highest rate and with the most channels of any.

    errors   DurationError: at that rate and number of channels the samples need more memory than the limit allows
    """
    runs = _runs(blocks)
    if not runs:
        return DecodedSamples(np.empty((0, 1), np.float32), 1, is_checked=False)
    rate_hz, channels = max(run.rate_hz for run in runs), max(run.channels for run in runs)
    if len(runs) == 1:
        return DecodedSamples(runs[0].wave, rate_hz, runs[0].is_checked and runs[0].wave.size > 0)
    most_s = math.inf if max_seconds is None else max_seconds
    if sum(len(run.wave) / run.rate_hz for run in runs) * rate_hz * channels > most_s * VALUES_PER_SECOND:
        raise DurationError(
            f"{name}: its parts together last more than {most_s * VALUES_PER_SECOND / channels / rate_hz:g} s, the "
            f"most here for {rate_hz} Hz {channels}-channel sound; send a shorter recording"
        )
    wave = np.concatenate([_fitted(run, rate_hz, channels) for run in runs])
    return DecodedSamples(wave, rate_hz, is_checked=False)


def _runs(blocks: Iterable[SampleBlock]) -> list[SampleBlock]:
    """Join neighbouring blocks of the same rate and channels, so that each run is resampled as a whole."""
    runs: list[list[SampleBlock]] = []
    for block in blocks:
        if runs and (runs[-1][0].rate_hz, runs[-1][0].channels) == (block.rate_hz, block.channels):
            runs[-1].append(block)
        else:
            runs.append([block])
    return [
        run[0]
        if len(run) == 1
        else SampleBlock(
            np.concatenate([block.wave for block in run]), run[0].rate_hz, all(block.is_checked for block in run)
        )
        for run in runs
    ]


def _fitted(run: SampleBlock, target_hz: int, channels: int) -> Wave:
    """Convert to another rate and number of channels; if the number differs, every channel is the mean of the old."""
    wave = run.wave
    if wave.shape[1] != channels:
        wave = np.broadcast_to(wave.mean(axis=1, keepdims=True), (len(wave), channels))
    if run.rate_hz == target_hz or not len(wave):
        return wave
    resampled = [resample(np.ascontiguousarray(wave[:, i]), run.rate_hz, target_hz) for i in range(channels)]
    return np.stack(resampled, axis=1)
