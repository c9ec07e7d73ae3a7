"""Bytes or a path -> mono float32 at the model's rate -> the fixed windows a network sees."""

import math
import os
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import reduce
from numbers import Real
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from serving.errors import AudioError, AudioWarning
from serving.formats.decode import decode, source_seconds
from serving.formats.source import Source
from serving.resample import resample

LOWEST_RATE_HZ, HIGHEST_RATE_HZ = 100, 2_000_000  # outside, resampling costs memory without bound, or gives nothing
MOST_CHANNELS = 1024  # libsndfile's own limit; an array with more has its axes the wrong way round
# 40 dB over full scale: louder than any mix in floats, far below integers that were never divided by their full scale.
LOUDEST = 100.0
FEW_CHANNELS = 8  # that a file of fewer samples may have: 7.1 surround
LOWEST_DBFS = -120.0  # digital silence, which has no level, is given as this
# Peak level below which a sound is called silent: there the front end's log offset of 0.01 drowns it. Made softer, 11 %
# of ESC-10's clips are named right at -50 dBFS (chance: 10 %); at -70 dBFS their embeddings have a median cosine of
# 0.999 with that of digital silence. With a log offset of 0.001 the same holds 20 dB lower, where -70 is -50 here. The
# softest of 1280 clips of ESC-50 reaches -38 dBFS; 16-bit dither reaches -88 dBFS, A-law's idle code -72 dBFS.
SILENT_DBFS = -70.0


@dataclass(frozen=True)
class Window:
    """The stretch of sound that a network sees at once, and how far apart two of them start.

    samples       length of a window at rate_hz (480 frames = 77 040 samples = 4.8 s for yamnet)
    hop_samples   start-to-start distance (window frames x 160)
    """

    rate_hz: int
    samples: int
    hop_samples: int

    def count(self, n_samples: int) -> int:
        """How many windows a clip of n_samples gives: at least 1; a rest of half a window or more counts."""
        if n_samples <= self.samples:
            return 1
        full = 1 + (n_samples - self.samples) // self.hop_samples
        rest = n_samples - full * self.hop_samples
        return full + (2 * rest >= self.samples)

    def reach(self, n_samples: int) -> int:
        """The sample after the end of a clip's last window: more than n_samples where that one is zero-padded."""
        return self.samples + (self.count(n_samples) - 1) * self.hop_samples


def warn_in_python(message: str) -> None:
    """What `read_audio` and `decode_audio` do with what they could not read, where they are told nothing else."""
    warnings.warn(message, AudioWarning, stacklevel=4)


def read_audio(
    path: str | Path, max_seconds: float | None = None, warn: Callable[[str], None] = warn_in_python
) -> tuple[NDArray[np.float32], int]:
    """Decode a file.

    max_seconds  as `decode_audio`
    warn         as `decode_audio`
    returns      wave [n_samples, n_channels] float32, integer formats scaled to [-1, 1]; its rate in Hz
    errors       AudioError: not there, not readable, too long, no samples, NaN or infinite samples
    """
    path = Path(path)
    try:
        source = _source_of(path)
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the path
        raise _unreadable(path, error) from error
    try:
        return _decode(source, str(path), max_seconds, warn)
    except OSError as error:
        raise _unreadable(path, error) from error
    finally:
        if source.fd is not None:
            os.close(source.fd)


def _source_of(path: Path) -> Source:
    """A file, left where it is; of a pipe what comes out of it."""
    return Source(fd=os.open(path, os.O_RDONLY)) if path.is_file() else Source(path.read_bytes())


def _unreadable(path: Path, error: Exception) -> AudioError:
    reason = getattr(error, "strerror", None) or error
    return AudioError(f"{path}: cannot be read ({reason}); give the path of an audio file")


def decode_audio(
    data: bytes,
    name: str = "audio",
    max_seconds: float | None = None,
    warn: Callable[[str], None] = warn_in_python,
) -> tuple[NDArray[np.float32], int]:
    """Decode the bytes of one audio file: all of it, or what can be read of it and a warning that says what is missing.

    name         for messages
    max_seconds  decode no more than this, nor more memory than it takes at VALUES_PER_SECOND; None: no limit
    warn         called with one line, which begins with the name, for each part that is missing or cannot be read; by
                 default an AudioWarning of Python
    returns      as `read_audio`
    errors       FormatError: not readable; DurationError: longer than max_seconds; else as `check_wave`
    Streams joined to one file are read one after the other, those of several rates at the highest.
    """
    return _decode(Source(data), name, max_seconds, warn)


def header_seconds(data: bytes) -> float | None:
    """How long the headers of an audio file say that it lasts, in seconds; nothing is decoded.

    None where they do not say, or cannot be read: `decode_audio` tells why. What they say need not be true.
    """
    return source_seconds(Source(data))


def _decode(
    source: Source, name: str, max_seconds: float | None, warn: Callable[[str], None]
) -> tuple[NDArray[np.float32], int]:
    sound = decode(source, name, max_seconds, warn)
    if not sound.is_checked:
        check_wave(sound.wave, name)
    return sound.wave, sound.rate_hz


def check_wave(wave: NDArray[np.floating], name: str = "audio") -> None:
    """Raise AudioError for a waveform without samples, or with samples that are not finite or far too loud."""
    if wave.size == 0:
        raise AudioError(f"{name}: has no samples; send a recording of at least one sample")
    low, high = float(wave.min()), float(wave.max())  # NaN where any sample is
    if not (math.isfinite(low) and math.isfinite(high)):
        bad = int(np.count_nonzero(~np.isfinite(wave)))
        raise AudioError(f"{name}: {bad} of {wave.size} samples are NaN or infinite; send finite samples in [-1, 1]")
    if max(-low, high) > LOUDEST:
        raise AudioError(
            f"{name}: samples reach {max(-low, high):g}; wanted [-1, 1]: divide integers by their full scale"
        )


def to_mono(wave: NDArray[np.floating], rate_hz: float, target_hz: int) -> NDArray[np.float32]:
    """Mix the channels to one (their mean) and resample, see `serving.resample`.

    wave     [n_samples] or [n_samples, n_channels], float in [-1, 1] at rate_hz
    returns  [n_samples * target_hz / rate_hz] float32, at least one sample
    errors   AudioError: wrong shape or dtype, more channels than samples, rate out of range, and as `check_wave`
    An array with more channels than samples has its axes the wrong way round. Up to FEW_CHANNELS channels are taken
    all the same: a file may hold one sample of each, but no recording as long as that many samples is meant.
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
    if not isinstance(rate_hz, Real) or not LOWEST_RATE_HZ <= rate_hz <= HIGHEST_RATE_HZ:
        raise AudioError(f"waveform: got a rate of {rate_hz} Hz; wanted {LOWEST_RATE_HZ} to {HIGHEST_RATE_HZ}")
    check_wave(wave, "waveform")
    mono = np.ascontiguousarray(_mix(wave), dtype=np.float32)  # [n_samples]
    if rate_hz == target_hz:
        return mono
    resampled = resample(mono, rate_hz, target_hz)
    # A few samples at a high rate can round to none; one sample is the least a clip can have.
    return resampled if resampled.size else mono[:1]


def _mix(wave: NDArray[np.floating]) -> NDArray[np.floating]:
    """The channels' mean, added up channel by channel: `wave.mean(axis=1)` takes 30 times as long for two."""
    if wave.ndim == 1:
        return wave
    return wave[:, 0] if wave.shape[1] == 1 else reduce(np.add, wave.T) / wave.shape[1]


def level_dbfs(wave: NDArray[np.floating]) -> float:
    """Peak level in dB of full scale: 20 log10 of the largest absolute sample, 0 for 1.0; at least LOWEST_DBFS.

    wave     any shape, at least one sample, in [-1, 1]; as the model hears it, where the channels are mixed to mono
    The peak, not the RMS, for pauses do not lower it: the softest clip of ESC-50 by RMS (-71 dBFS) has a loud event.
    """
    peak = max(-float(wave.min()), float(wave.max()))
    return max(LOWEST_DBFS, 20 * math.log10(peak)) if peak > 0 else LOWEST_DBFS


def is_silent(level: float) -> bool:
    """Whether a sound of this level, in dBFS, is too soft to be named: its embedding is that of silence."""
    return level < SILENT_DBFS


def cut_windows(wave: NDArray[np.float32], window: Window) -> NDArray[np.float32]:
    """Cut one clip into the fixed windows a network sees.

    wave     [n_samples]            float32 in [-1, 1] at window.rate_hz
    returns  [n_windows, samples]   n_windows >= 1; the last may be zero-padded
    A rest shorter than half a window is dropped, unless it is all there is.
    """
    needed = window.reach(len(wave))
    if needed == window.samples <= len(wave):
        return wave[None, :needed]
    padded = wave[:needed] if needed <= len(wave) else np.pad(wave, (0, needed - len(wave)))  # [needed]
    views = np.lib.stride_tricks.sliding_window_view(padded, window.samples)
    return np.array(views[:: window.hop_samples])  # [n_windows, samples]
