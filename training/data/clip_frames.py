"""The log-mel frames of clips, which of them are silent, and the windows that are cut from them."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from serving.audio import SILENT_DBFS, Window
from serving.log_mel import LogMelConfig


@dataclass(frozen=True)
class ClipFrames:
    """The log-mel frames of several clips, concatenated.

    values    [total_frames, 64] float32
    heard     [total_frames] whether a frame is not silent, see `heard_frames`
    starts    [n_clips] first frame of each clip
    counts    [n_clips] number of frames of each clip, at least window_frames
    windows   [n_clips] number of windows that serving cuts from each clip
    """

    values: NDArray[np.float32]
    heard: NDArray[np.bool_]
    starts: NDArray[np.int64]
    counts: NDArray[np.int64]
    windows: NDArray[np.int64]
    window_frames: int
    config: LogMelConfig

    def heard_windows(self, clip: int) -> NDArray[np.float32]:
        """The windows by which serving names a clip: [n_windows, window_frames, 64].

        The silent ones are left out, unless all are silent (`serving.pooling.pool_heard`).
        """
        first, count = int(self.starts[clip]), int(self.windows[clip])
        frames = slice(first, first + count * self.window_frames)
        windows = self.values[frames].reshape(count, self.window_frames, -1)
        heard = self.heard[frames].reshape(count, -1).max(axis=1)
        return windows[heard] if np.any(heard) else windows

    def crop(self, clips: NDArray[np.int64], rng: np.random.Generator, frames: int) -> NDArray[np.float32]:
        """A random crop of each clip: [len(clips), frames, 64]. frames: at most window_frames."""
        return self.values[self.draw_crops(clips, rng, frames)[:, None] + np.arange(frames)]

    def draw_crops(self, clips: NDArray[np.int64], rng: np.random.Generator, frames: int) -> NDArray[np.int64]:
        """The first frame of a random crop of each clip: [len(clips)] indices into `values`."""
        return self.starts[clips] + rng.integers(0, self.counts[clips] - frames + 1)


@dataclass(frozen=True)
class ClipSet:
    """Clips for training or scoring.

    clips   [n] indices of clips in `frames`
    labels  [n] indices into a list of classes
    """

    frames: ClipFrames
    clips: NDArray[np.int64]
    labels: NDArray[np.int64]


def padded_wave(wave: NDArray[np.float32], window: Window) -> NDArray[np.float32]:
    """A wave, zero-padded to the end of its last window: [n_samples] float32."""
    return np.pad(wave, (0, max(0, window.reach(len(wave)) - len(wave))))


def heard_frames(wave: NDArray[np.float32], config: LogMelConfig) -> NDArray[np.bool_]:
    """Whether the peak level of each frame is at least SILENT_DBFS: [n_frames].

    wave     [n_samples] at the front end's rate, at least one frame
    A window's samples are those of its frames, so a window is silent exactly if all its frames are.
    """
    frames = np.lib.stride_tricks.sliding_window_view(np.abs(wave), config.window_samples)[:: config.hop_samples]
    return frames.max(axis=1) >= 10 ** (SILENT_DBFS / 20)
