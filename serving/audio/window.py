"""The fixed windows that a network sees, cut from a mono waveform."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Window:
    """Length and spacing of the windows of a network.

    samples       length of a window at rate_hz (480 frames = 77 040 samples = 4.8 s for yamnet)
    hop_samples   from the start of a window to the start of the next one (window frames x 160)
    """

    rate_hz: int
    samples: int
    hop_samples: int

    def count(self, n_samples: int) -> int:
        """Number of windows of a clip of n_samples: at least 1; a rest of half a window or more adds one."""
        if n_samples <= self.samples:
            return 1
        full = 1 + (n_samples - self.samples) // self.hop_samples
        rest = n_samples - full * self.hop_samples
        return full + (2 * rest >= self.samples)

    def reach(self, n_samples: int) -> int:
        """The end of the last window of a clip, in samples: more than n_samples if that window is zero-padded."""
        return self.samples + (self.count(n_samples) - 1) * self.hop_samples


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
