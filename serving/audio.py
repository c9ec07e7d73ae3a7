"""Bytes or a path -> mono float32 at the model's rate -> the fixed windows a network sees."""

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from serving.errors import AudioError

FORMATS = "WAV, FLAC, OGG or MP3"


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


def read_audio(path: str | Path) -> tuple[NDArray[np.float32], int]:
    """Decode a file.

    returns  wave [n_samples, n_channels] float32, integer formats scaled to [-1, 1]; its rate in Hz
    errors   AudioError: not there, not readable, no samples, NaN or infinite samples
    """
    path = Path(path)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise AudioError(f"{path}: cannot be read ({error.strerror}); give the path of an audio file") from error
    return decode_audio(data, name=str(path))


def decode_audio(data: bytes, name: str = "audio") -> tuple[NDArray[np.float32], int]:
    """Decode the bytes of one audio file. Shapes and errors as in `read_audio`; `name` is for messages."""
    try:
        wave, rate_hz = soundfile.read(io.BytesIO(data), dtype="float32", always_2d=True)
    except (soundfile.SoundFileError, RuntimeError) as error:
        reason = str(error).split(": ", 1)[-1].strip().rstrip(".")
        raise AudioError(f"{name}: not a readable audio file (soundfile: {reason}); send {FORMATS}") from error
    check_wave(wave, name)
    return wave, rate_hz


def check_wave(wave: NDArray[np.floating], name: str = "audio") -> None:
    """Raise AudioError for a waveform without samples or with samples that are not finite numbers."""
    if wave.size == 0:
        raise AudioError(f"{name}: has no samples; send a recording of at least one sample")
    bad = int(np.count_nonzero(~np.isfinite(wave)))
    if bad:
        raise AudioError(f"{name}: {bad} of {wave.size} samples are NaN or infinite; send finite samples in [-1, 1]")


def to_mono(wave: NDArray[np.floating], rate_hz: float, target_hz: int) -> NDArray[np.float32]:
    """Mix the channels to one (their mean) and resample with soxr HQ.

    wave     [n_samples] or [n_samples, n_channels], float in [-1, 1] at rate_hz
    returns  [n_samples * target_hz / rate_hz] float32, at least one sample
    errors   AudioError: wrong shape or dtype, rate not positive, no samples, samples not finite
    """
    wave = np.asarray(wave)
    if wave.ndim not in (1, 2) or not np.issubdtype(wave.dtype, np.floating):
        raise AudioError(
            f"waveform: got {wave.dtype} {list(wave.shape)}; wanted floats [n_samples] or [n_samples, n_channels]"
        )
    if not rate_hz > 0:
        raise AudioError(f"waveform: got a rate of {rate_hz} Hz; wanted a positive one")
    check_wave(wave, "waveform")
    mono = wave if wave.ndim == 1 else wave.mean(axis=1)  # [n_samples]
    mono = np.ascontiguousarray(mono, dtype=np.float32)
    if rate_hz == target_hz:
        return mono
    resampled = soxr.resample(mono, rate_hz, target_hz, quality="HQ")
    # A few samples at a high rate can round to none; one sample is the least a clip can have.
    return resampled if resampled.size else mono[:1]


def cut_windows(wave: NDArray[np.float32], window: Window) -> NDArray[np.float32]:
    """Cut one clip into the fixed windows a network sees.

    wave     [n_samples]            float32 in [-1, 1] at window.rate_hz
    returns  [n_windows, samples]   n_windows >= 1; the last may be zero-padded
    A rest shorter than half a window is dropped, unless it is all there is.
    """
    n_windows = window.count(len(wave))
    needed = window.samples + (n_windows - 1) * window.hop_samples
    padded = np.pad(wave[:needed], (0, max(0, needed - len(wave))))  # [needed]
    views = np.lib.stride_tricks.sliding_window_view(padded, window.samples)
    return np.ascontiguousarray(views[:: window.hop_samples])  # [n_windows, samples]
