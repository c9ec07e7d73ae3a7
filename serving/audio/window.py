"""The fixed windows that a network sees, cut from a mono waveform."""

import math
from collections.abc import Generator, Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from serving.audio.level import level_dbfs
from serving.errors import UsageError


@dataclass(frozen=True)
class Window:
    """Length and spacing of the windows of a network.

    samples       length of a window at rate_hz (480 frames = 77 040 samples = 4.8 s for yamnet)
    hop_samples   from the start of a window to the start of the next one (window frames x 160)
    """

    rate_hz: int
    samples: int
    hop_samples: int

    @property
    def seconds(self) -> float:
        """Length of a window in seconds."""
        return self.samples / self.rate_hz

    @property
    def least_rest(self) -> float:
        """Samples from the start of a padded last window to the end of the clip, at least: half a window."""
        return self.samples / 2

    def with_hop(self, hop_seconds: float | None) -> "Window":
        """The same windows at another spacing; None, or the network's own hop: this window itself.

        errors   UsageError: not above 0, or longer than a window
        """
        if hop_seconds is None:
            return self
        if not 0 < hop_seconds <= self.seconds or math.isnan(hop_seconds):
            raise UsageError(
                f"hop_seconds: got {hop_seconds:g}; wanted more than 0 and at most a window, {self.seconds:g} s"
            )
        hop = max(1, round(hop_seconds * self.rate_hz))
        if hop == self.hop_samples:
            return self
        return OverlappingWindow(self.rate_hz, self.samples, hop)

    def count(self, n_samples: int) -> int:
        """Number of windows of a clip of n_samples: at least 1; a rest of `least_rest` or more adds one."""
        if n_samples <= self.samples:
            return 1
        full = 1 + (n_samples - self.samples) // self.hop_samples
        rest = n_samples - full * self.hop_samples
        return full + (rest >= self.least_rest)

    def reach(self, n_samples: int) -> int:
        """The end of the last window of a clip, in samples: more than n_samples if that window is zero-padded."""
        return self.samples + (self.count(n_samples) - 1) * self.hop_samples


@dataclass(frozen=True)
class OverlappingWindow(Window):
    """Windows at another spacing than a network's own.

    Where they overlap, the end of a clip is in full windows already: a padded one is added only for half a hop of sound
    or more that no full window has.
    """

    @property
    def least_rest(self) -> float:
        """Samples from the start of a padded last window to the end of the clip, at least."""
        return self.samples - self.hop_samples / 2


def cut_windows(wave: NDArray[np.float32], window: Window) -> NDArray[np.float32]:
    """Cut one clip into the fixed windows that a network sees.

    wave     [n_samples]            float32 in [-1, 1] at window.rate_hz
    returns  [n_windows, samples]   n_windows >= 1; the last may be zero-padded
    A rest shorter than half a window is dropped, unless the clip has no other window.
    """
    needed = window.reach(len(wave))
    if needed == window.samples <= len(wave):
        return wave[None, :needed]
    padded = wave[:needed] if needed <= len(wave) else np.pad(wave, (0, needed - len(wave)))  # [needed]
    views = np.lib.stride_tricks.sliding_window_view(padded, window.samples)
    return np.array(views[:: window.hop_samples])  # [n_windows, samples]


@dataclass(frozen=True, eq=False, kw_only=True)
class WindowFacts:
    """Where consecutive windows of a recording are, and how loud.

    starts_s     [n] float64: their starts in the recording, in seconds
    ends_s       [n] float64: their ends, never beyond the end of the sound
    padded       [n] bool: the sound ended before the window did; the rest of the window is zeros
    levels_dbfs  [n] float64: peak level of the sound, see `level_dbfs`; the padding does not count
    """

    starts_s: NDArray[np.float64]
    ends_s: NDArray[np.float64]
    padded: NDArray[np.bool_]
    levels_dbfs: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.starts_s)


@dataclass(frozen=True, eq=False, kw_only=True)
class WindowBlock(WindowFacts):
    """Consecutive windows of a recording. windows: [n, samples] float32."""

    windows: NDArray[np.float32]


def stream_windows(waves: Iterable[NDArray[np.float32]], window: Window, most: int) -> Generator[WindowBlock]:
    """Cut a waveform that comes in blocks into the windows that `cut_windows` gives, up to `most` at a time.

    waves    blocks [n_samples] float32 at window.rate_hz, at least one sample in all
    A block of windows is given when sound beyond them has come, so that only the last block may have a padded one.
    """
    wave, first = np.empty(0, np.float32), 0  # sound from the start of window number `first` on
    n_samples, skip = 0, most * window.hop_samples
    for block in waves:
        n_samples += len(block)
        wave = np.concatenate([wave, block]) if len(wave) else block
        while len(wave) > window.samples + skip - window.hop_samples:
            views = np.lib.stride_tricks.sliding_window_view(wave, window.samples)
            yield _block(np.array(views[: skip : window.hop_samples]), first, window, n_samples)
            first += most
            wave = wave[skip:].copy()
    count = window.count(n_samples) - first
    if count <= 0:
        return
    needed = window.samples + (count - 1) * window.hop_samples
    padded = wave[:needed] if needed <= len(wave) else np.pad(wave, (0, needed - len(wave)))
    views = np.lib.stride_tricks.sliding_window_view(padded, window.samples)[:: window.hop_samples]
    for part in range(0, count, most):
        yield _block(np.array(views[part : part + most]), first + part, window, n_samples)


def _block(windows: NDArray[np.float32], first: int, window: Window, n_samples: int) -> WindowBlock:
    starts = (first + np.arange(len(windows))) * window.hop_samples
    ends = starts + window.samples
    return WindowBlock(
        starts_s=starts / window.rate_hz,
        ends_s=np.minimum(ends, n_samples) / window.rate_hz,
        padded=ends > n_samples,
        # Zeros do not change the peak, so the level is that of the sound.
        levels_dbfs=np.array([level_dbfs(each) for each in windows]),
        windows=windows,
    )
