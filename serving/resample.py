"""A waveform at a recording's rate -> the model's rate, by a bank of filters for the rates that recordings have.

A sample at the new rate is a weighted sum of old ones around it: a low-pass filter, read at the fraction of a sample
where the new one falls. After a period (160 new samples for 441 old ones from 44.1 kHz) the fractions repeat, so that
many periods are one matrix product, for which BLAS takes half of soxr's time. soxr takes whole multiples of the new
rate, for which it is as fast, lower rates, and ratios of long periods.

The filter is a windowed sinc. It passes all that the front end hears, up to the end of its top mel band at 15/16 of
half the new rate (7.5 kHz of 8), and stops what would fold onto that by 100 dB, from 17/16 on (8.5 kHz). What lies
between them folds above the top band.

Source: J. F. Kaiser, "Nonrecursive digital filter design using the I0-sinh window function", 1974 (the window and its
length); P. P. Vaidyanathan, "Multirate digital filters, filter banks, polyphase networks, and applications", 1990.
"""

import math
from dataclasses import dataclass, field
from functools import lru_cache
from threading import local

import numpy as np
import soxr
from numpy.typing import NDArray

from serving.cores import ONE_THREADS_PRODUCTS

PASSBAND = 15 / 16  # of half the new rate; the stopband begins as far above it
STOPBAND_DB = 100.0  # below it lie the steps of 16 bits, 98 dB under a tone at full scale
COLUMNS = 16  # new samples that share their old neighbours: as many as a vector register holds
MOST_PERIODS = 24  # in one product: a multiple of what BLAS's kernels take at a time
LONGEST_PERIOD = 640  # new samples: 22.05, 44.1 and 88.2 kHz have 320, 160 and 80
STEEPEST = 6  # old samples for a new one; the filter is as many times longer
BLOCK = 81_920  # new samples at a time, 5 s: the longest recording takes no more scratch memory


@dataclass(frozen=True, eq=False)
class FilterBank:
    """What turns a period of samples into the next period at another rate.

    weights  [n_groups, 1, n_taps, COLUMNS] float32: a matrix for each COLUMNS new samples of the period
    half     old samples that a new one depends on, on each side
    hop      old samples in a period
    step     old samples between the first ones that two groups see
    scratch  of each thread: the old samples that it is at
    """

    weights: NDArray[np.float32]
    half: int
    hop: int
    step: int
    scratch: local = field(default_factory=local)

    def apply(self, mono: NDArray[np.floating], n_new: int) -> NDArray[np.float32]:
        """[n_samples] at the old rate -> [n_new] float32 at the new one; beyond its ends is silence."""
        n_groups, _, n_taps, _ = self.weights.shape
        periods = min(MOST_PERIODS, ONE_THREADS_PRODUCTS // (n_taps * COLUMNS))
        part = periods * n_groups * COLUMNS  # new samples
        most = max(1, BLOCK // part)  # parts at a time
        if not hasattr(self.scratch, "near"):
            self.scratch.near = np.empty(self._reach(most * periods), np.float32)
        near: NDArray[np.float32] = self.scratch.near
        strides = (4 * self.step, 4 * periods * self.hop, 4 * self.hop, 4)
        seen = np.ndarray((n_groups, most, periods, n_taps), np.float32, near, strides=strides)
        new = np.empty((-(-n_new // part), periods, n_groups, COLUMNS), np.float32)
        for first in range(0, len(new), most):
            some = new[first : first + most]
            start = first * periods * self.hop - self.half
            before = max(0, -start)
            heard = mono[start + before : start + len(near)]
            near[:before] = 0
            near[before : before + len(heard)] = heard
            near[before + len(heard) : self._reach(len(some) * periods)] = 0
            np.matmul(seen[:, : len(some)], self.weights, out=some.transpose(2, 0, 1, 3))
        return new.reshape(-1)[:n_new]

    def _reach(self, periods: int) -> int:
        """Old samples that so many periods depend on."""
        n_groups, _, n_taps, _ = self.weights.shape
        return (periods - 1) * self.hop + (n_groups - 1) * self.step + n_taps


@lru_cache(maxsize=8)
def filter_bank(rate_hz: int, target_hz: int) -> FilterBank | None:
    """From one rate to another; None where soxr takes it."""
    common = math.gcd(rate_hz, target_hz)
    ratio = rate_hz / target_hz
    period = math.lcm(target_hz // common, COLUMNS)
    if rate_hz % target_hz == 0 or not 1 < ratio <= STEEPEST or period > LONGEST_PERIOD:
        return None
    cutoff = 0.5 / ratio  # half the new rate, in cycles an old sample
    half = math.ceil((STOPBAND_DB - 7.95) / (14.36 * 2 * (1 - PASSBAND) * cutoff) / 2)
    # BLAS reads a matrix where it lies only if its rows, a period apart, do not overlap.
    period *= math.ceil((2 * half + 2 + COLUMNS * ratio) / (period * ratio))
    n_groups = period // COLUMNS
    hop = round(period * ratio)
    step = hop // n_groups
    # Where the new samples lie, in old ones after the first that their group sees.
    places = half + np.arange(period).reshape(n_groups, COLUMNS) * ratio - np.arange(n_groups)[:, None] * step
    n_taps = math.floor(places.max()) + half + 1
    away = np.arange(n_taps)[:, None] - places[:, None]  # [n_groups, n_taps, COLUMNS]
    beta = 0.1102 * (STOPBAND_DB - 8.7)
    window = np.i0(beta * np.sqrt(np.maximum(0.0, 1 - (away / half) ** 2))) * (np.abs(away) <= half)
    weights = np.sinc(2 * cutoff * away) * window
    weights /= weights.sum(axis=1, keepdims=True)  # so that a constant stays what it is
    return FilterBank(np.ascontiguousarray(weights[:, None], dtype=np.float32), half, hop, step)


def resample(mono: NDArray[np.floating], rate_hz: float, target_hz: int) -> NDArray[np.float32]:
    """Change the rate of one channel, without delay.

    mono     [n_samples] float in [-1, 1] at rate_hz
    returns  [n_samples * target_hz / rate_hz, rounded] float32
    """
    bank = filter_bank(int(rate_hz), target_hz) if rate_hz == int(rate_hz) else None
    if bank is None:
        return soxr.resample(np.ascontiguousarray(mono, dtype=np.float32), rate_hz, target_hz, quality="HQ")
    return bank.apply(mono, math.floor(len(mono) * target_hz / rate_hz + 0.5))
