"""Decoded samples -> a checked mono waveform at another sample rate."""

import math
from functools import reduce
from numbers import Real

import numpy as np
from numpy.typing import NDArray

from serving.audio.resampling import resample
from serving.errors import AudioError

# Beyond these rates, resampling needs memory without limit, or gives no sample.
LOWEST_RATE_HZ, HIGHEST_RATE_HZ = 100, 2_000_000
MOST_CHANNELS = 1024  # libsndfile's own limit; an array with more has its axes exchanged
# 40 dB over full scale: louder than any mix in floats, far below integers that were not divided by their full scale.
LOUDEST = 100.0
FEW_CHANNELS = 8  # always accepted, even with fewer samples than channels: 7.1 surround


def check_wave(wave: NDArray[np.floating], name: str = "audio") -> None:
    """Raise AudioError for a waveform without samples, or with samples that are not finite or far too loud."""
    if wave.size == 0:
        raise AudioError(f"{name}: has no samples; wanted at least one")
    low, high = float(wave.min()), float(wave.max())  # NaN if any sample is NaN
    if not (math.isfinite(low) and math.isfinite(high)):
        bad = int(np.count_nonzero(~np.isfinite(wave)))
        raise AudioError(f"{name}: {bad} of {wave.size} samples are NaN or infinite; wanted finite samples in [-1, 1]")
    if max(-low, high) > LOUDEST:
        raise AudioError(
            f"{name}: samples reach {max(-low, high):g}; wanted [-1, 1]: divide integers by their full scale"
        )


def check_rate(rate_hz: float, name: str = "audio") -> None:
    """Raise AudioError for a rate that is no number, or cannot be resampled."""
    if not isinstance(rate_hz, Real):
        kind = type(rate_hz).__name__
        raise AudioError(f"{name}: got a rate of {rate_hz!r:.80}, of type {kind}; wanted a number of Hz: int or float")
    if not LOWEST_RATE_HZ <= rate_hz <= HIGHEST_RATE_HZ:
        raise AudioError(f"{name}: got a rate of {rate_hz} Hz; wanted {LOWEST_RATE_HZ} to {HIGHEST_RATE_HZ}")


def to_mono(wave: NDArray[np.floating], rate_hz: float, target_hz: int) -> NDArray[np.float32]:
    """Mix the channels to one (their mean) and resample, see `serving.audio.resampling`.

    wave     [n_samples] or [n_samples, n_channels], float in [-1, 1] at rate_hz
    returns  [n_samples * target_hz / rate_hz] float32, at least one sample
    errors   AudioError: wrong shape or dtype, more channels than samples, rate out of range, and as `check_wave`
    An array with more channels than samples probably has its axes exchanged. Up to FEW_CHANNELS channels are accepted
    nevertheless: a file may hold a single sample of each channel.
    """
    wave = np.asarray(wave)
    if wave.ndim not in (1, 2) or not np.issubdtype(wave.dtype, np.floating):
        raise AudioError(
            f"waveform: got {wave.dtype} {list(wave.shape)}; wanted floats [n_samples] or [n_samples, n_channels]"
        )
    if wave.ndim == 2 and not wave.shape[1] <= min(MOST_CHANNELS, max(FEW_CHANNELS, wave.shape[0])):
        raise AudioError(
            f"waveform: got {list(wave.shape)}, {wave.shape[1]} channels of {wave.shape[0]} samples; wanted "
            f"[n_samples, n_channels], with no more channels than samples and up to {MOST_CHANNELS}: transpose it"
        )
    check_rate(rate_hz, "waveform")
    check_wave(wave, "waveform")
    mono = np.ascontiguousarray(mix(wave), dtype=np.float32)  # [n_samples]
    if rate_hz == target_hz:
        return mono
    resampled = resample(mono, rate_hz, target_hz)
    # A few samples at a high rate can give none at a low one; a clip has at least one sample.
    return resampled if resampled.size else mono[:1]


def mix(wave: NDArray[np.floating]) -> NDArray[np.floating]:
    """Average the channels: [n_samples, n_channels] -> [n_samples].

    One is added to the next: `wave.mean(axis=1)` takes 30 times as long for two.
    """
    if wave.ndim == 1:
        return wave
    return wave[:, 0] if wave.shape[1] == 1 else reduce(np.add, wave.T) / wave.shape[1]
