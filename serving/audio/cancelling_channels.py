"""Notice channels that cancel each other in the mix, as those of a microphone that is wired in reverse do."""

import math

import numpy as np
from numpy.typing import NDArray

from serving.audio.level import is_silent, level_dbfs

# Channels without anything in common lose 3 dB in a mix of two; an echo or a distance between microphones leaves more
# than a thousandth of the power.
CANCELLED_DB = 30.0
MOST_DB = 120.0  # reported


class CancellingChannels:
    """Compares the power of a recording's channels with that of their mix, block by block."""

    def __init__(self) -> None:
        self._channels = self._mix = 0.0  # sums of squares; of the channels their mean
        self._level_dbfs = -math.inf

    def add(self, wave: NDArray[np.floating], mono: NDArray[np.float32]) -> None:
        """Add a block [n_samples, n_channels] and its mix [n_samples]."""
        if wave.ndim == 1 or wave.shape[1] == 1:
            return
        self._channels += sum(float(np.vdot(channel, channel)) for channel in wave.T) / wave.shape[1]
        self._mix += float(np.vdot(mono, mono))
        self._level_dbfs = max(self._level_dbfs, level_dbfs(wave))

    def warning(self) -> str:
        """One line if the mix is CANCELLED_DB quieter than the channels, and these are not silent; otherwise ""."""
        if is_silent(self._level_dbfs) or self._mix >= self._channels * 10 ** (-CANCELLED_DB / 10):
            return ""
        quieter_db = min(MOST_DB, 10 * math.log10(self._channels / self._mix)) if self._mix else MOST_DB
        return (
            f"the channels cancel each other: the mix is {quieter_db:.0f} dB quieter than the channels; check the "
            "microphone's wiring, or give one channel alone"
        )
