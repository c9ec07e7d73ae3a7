"""How loud a sound is, and whether it is too soft to be named."""

import math

import numpy as np
from numpy.typing import NDArray

LOWEST_DBFS = -120.0  # given for digital silence, whose level is minus infinity
# A sound whose peak level is lower counts as silent: the front end's log offset of 0.01 masks it. Made softer, 20 %
# of ESC-10's clips are named correctly at -50 dBFS and 11 % at -60 (chance: 10 %); at -70 dBFS their embeddings have a
# median cosine of 0.999 with that of digital silence. With a log offset of 0.001 the same holds 20 dB lower: there, -70
# dBFS is like -50 here. The softest of 1280 clips of ESC-50 reaches -38 dBFS; 16-bit dither has -88 dBFS, A-law's idle
# code -72 dBFS.
SILENT_DBFS = -70.0
SHORTEST_S = 0.025  # a frame of the front end, which a shorter sound does not fill


def level_dbfs(wave: NDArray[np.floating]) -> float:
    """Peak level in dB of full scale: 20 log10 of the largest absolute sample, 0 for 1.0; at least LOWEST_DBFS.

    wave     any shape, at least one sample, in [-1, 1]; mono, as the model gets it
    Peak, not RMS, because pauses do not lower it: the softest clip of ESC-50 by RMS (-71 dBFS) has a loud event.
    """
    peak = max(-float(wave.min()), float(wave.max()))
    return max(LOWEST_DBFS, 20 * math.log10(peak)) if peak > 0 else LOWEST_DBFS


def is_silent(level: float) -> bool:
    """Whether a sound of this level, in dBFS, is too soft to be named: its embedding is that of silence."""
    return level < SILENT_DBFS
