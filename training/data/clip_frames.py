"""The log-mel frames of clips, which of them are silent, and the windows that are cut from them."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from serving.audio import SILENT_DBFS, Window
from serving.log_mel import LogMelConfig

CROPS = 2  # raised when the same generator draws other crops


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
    _crops: dict[tuple[int, int], range | NDArray[np.int32]] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    def heard_windows(self, clip: int) -> NDArray[np.float32]:
        """The windows by which serving names a clip: [n_windows, window_frames, 64].

        The silent ones are left out, unless all are silent (`serving.pooling.pool_heard`).
        """
        first, heard = int(self.starts[clip]), self._heard(clip)
        windows = self.values[first : first + len(heard) * self.window_frames]
        return windows.reshape(len(heard), self.window_frames, -1)[heard]

    def count_heard(self, clips: NDArray[np.int64]) -> NDArray[np.int64]:
        """The number of `heard_windows` of each clip: [len(clips)]."""
        return np.array([self._heard(int(clip)).sum() for clip in clips])

    def _heard(self, clip: int) -> NDArray[np.bool_]:
        """Which of a clip's windows are not silent: [n_windows]; all of them if all are silent."""
        first, count = int(self.starts[clip]), int(self.windows[clip])
        frames = self.heard[first : first + count * self.window_frames]
        heard = frames.reshape(count, -1).max(axis=1)
        return heard if np.any(heard) else np.ones(count, np.bool_)

    def crop(self, clips: NDArray[np.int64], rng: np.random.Generator, frames: int) -> NDArray[np.float32]:
        """A random crop of each clip: [len(clips), frames, 64]. frames: at most window_frames."""
        return self.values[self.draw_crops(clips, rng, frames)[:, None] + np.arange(frames)]

    def draw_crops(self, clips: NDArray[np.int64], rng: np.random.Generator, frames: int) -> NDArray[np.int64]:
        """The first frame of a random crop of each clip: [len(clips)] indices into `values`.

        No crop is silent, unless the whole clip is: a pause does not sound like its clip's class. (One that is then
        slowed down loses its end, and with it, in at most 0.4 % of the crops of ESC-50 and ESC-10, all sound.)
        """
        choices = [self._heard_crops(int(clip), frames) for clip in clips]
        drawn = rng.integers(0, [len(each) for each in choices])
        return self.starts[clips] + [each[i] for each, i in zip(choices, drawn, strict=True)]

    def _heard_crops(self, clip: int, frames: int) -> range | NDArray[np.int32]:
        """The first frames, counted from the clip's start, of all crops that are not silent; of all if all are."""
        if (clip, frames) not in self._crops:  # an hour of frames is searched once, not for each of its crops
            first, count = int(self.starts[clip]), int(self.counts[clip])
            heard = np.concatenate(([0], np.cumsum(self.heard[first : first + count])))  # frames heard before each one
            chosen = np.flatnonzero(heard[frames:] > heard[: count - frames + 1]).astype(np.int32)
            every = range(count - frames + 1)
            self._crops[clip, frames] = every if len(chosen) in (0, len(every)) else chosen
        return self._crops[clip, frames]


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
