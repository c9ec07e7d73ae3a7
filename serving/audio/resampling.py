"""Resample a waveform from a recording's rate to the model's rate, with a filter bank for the usual rates.

Each new sample is a weighted sum of the old samples around it: a low-pass filter, evaluated at the fraction of a sample
at which the new sample lies. The fractions repeat after a period (160 new samples for 441 old ones from 44.1 kHz), so
many periods are one matrix product. BLAS needs half of soxr's time for it. soxr is used for whole multiples of the new
rate, where it is as fast, for lower rates, and for ratios with long periods.

The filter is a windowed sinc. Its passband reaches to the upper end of the front end's top mel band, at 15/16 of half
the new rate (7.5 kHz of 8). Frequencies that would alias into the passband, from 17/16 on (8.5 kHz), are attenuated by
100 dB. The frequencies between them alias to above the top band.

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

PASSBAND = 15 / 16  # of half the new rate; the stopband begins at 17/16
STOPBAND_DB = 100.0  # more than the signal-to-noise ratio of 16 bits, 98 dB
COLUMNS = 16  # new samples computed from the same old samples: as many as a vector register holds
MOST_PERIODS = 24  # in one product: a multiple of the block size of BLAS's kernels
LONGEST_PERIOD = 640  # new samples; 22.05, 44.1 and 88.2 kHz have 320, 160 and 80
STEEPEST = 6  # largest ratio of the rates; the length of the filter grows with it
BLOCK = 81_920  # new samples computed at a time, 5 s: limits the scratch memory


@dataclass(frozen=True, eq=False)
class FilterBank:
    """The filters for one pair of rates.

    weights  [n_groups, 1, n_taps, COLUMNS] float32: a matrix for each group of COLUMNS new samples of a period
    half     number of old samples on each side of a new sample that it depends on
    hop      old samples in a period
    step     old samples from the first one of a group to the first one of the next group
    scratch  a buffer of each thread for the old samples of the current block
    """

    weights: NDArray[np.float32]
    half: int
    hop: int
    step: int
    scratch: local = field(default_factory=local)

    def apply(self, mono: NDArray[np.floating], n_new: int, lead: int = 0) -> NDArray[np.float32]:
        """Resample [n_samples] to [n_new] float32; the waveform is taken as silent beyond its ends.

        lead  number of samples of `mono` before the place of the first new sample
        """
        n_groups, _, n_taps, _ = self.weights.shape
        periods, part = self.part_periods, self.part
        most = max(1, BLOCK // part)  # parts at a time
        if not hasattr(self.scratch, "old"):
            self.scratch.old = np.empty(self._reach(most * periods), np.float32)
        old: NDArray[np.float32] = self.scratch.old
        strides = (4 * self.step, 4 * periods * self.hop, 4 * self.hop, 4)
        frames = np.ndarray((n_groups, most, periods, n_taps), np.float32, old, strides=strides)
        new = np.empty((-(-n_new // part), periods, n_groups, COLUMNS), np.float32)
        for first in range(0, len(new), most):
            block = new[first : first + most]
            start = first * periods * self.hop - self.half + lead
            before = max(0, -start)
            part_of_wave = mono[start + before : start + len(old)]
            old[:before] = 0
            old[before : before + len(part_of_wave)] = part_of_wave
            old[before + len(part_of_wave) : self._reach(len(block) * periods)] = 0
            np.matmul(frames[:, : len(block)], self.weights, out=block.transpose(2, 0, 1, 3))
        return new.reshape(-1)[:n_new]

    @property
    def part_periods(self) -> int:
        """Periods in one matrix product."""
        _, _, n_taps, _ = self.weights.shape
        return min(MOST_PERIODS, ONE_THREADS_PRODUCTS // (n_taps * COLUMNS))

    @property
    def part(self) -> int:
        """New samples of one matrix product. In parts of this size a waveform gives the same bits as in one."""
        return self.part_periods * len(self.weights) * COLUMNS

    def whole_parts(self, n_old: int, lead: int) -> int:
        """Number of parts that depend on none but these old samples, `lead` of them before the first new sample."""
        later = n_old + self.half - lead - self._reach(self.part_periods)
        return 0 if later < 0 else 1 + later // (self.part_periods * self.hop)

    def _reach(self, periods: int) -> int:
        """Number of old samples that this many periods depend on."""
        n_groups, _, n_taps, _ = self.weights.shape
        return (periods - 1) * self.hop + (n_groups - 1) * self.step + n_taps


@lru_cache(maxsize=8)
def filter_bank(rate_hz: int, target_hz: int) -> FilterBank | None:
    """Design the filters from one rate to another; None: soxr resamples this pair."""
    common = math.gcd(rate_hz, target_hz)
    ratio = rate_hz / target_hz
    period = math.lcm(target_hz // common, COLUMNS)
    if rate_hz % target_hz == 0 or not 1 < ratio <= STEEPEST or period > LONGEST_PERIOD:
        return None
    cutoff = 0.5 / ratio  # half the new rate, in cycles an old sample
    half = math.ceil((STOPBAND_DB - 7.95) / (14.36 * 2 * (1 - PASSBAND) * cutoff) / 2)
    # BLAS reads a matrix without a copy only if its rows, a period apart, do not overlap.
    period *= math.ceil((2 * half + 2 + COLUMNS * ratio) / (period * ratio))
    n_groups = period // COLUMNS
    hop = round(period * ratio)
    step = hop // n_groups
    # Positions of the new samples, in old samples after the first one of their group.
    places = half + np.arange(period).reshape(n_groups, COLUMNS) * ratio - np.arange(n_groups)[:, None] * step
    n_taps = math.floor(places.max()) + half + 1
    away = np.arange(n_taps)[:, None] - places[:, None]  # [n_groups, n_taps, COLUMNS]
    beta = 0.1102 * (STOPBAND_DB - 8.7)
    window = np.i0(beta * np.sqrt(np.maximum(0.0, 1 - (away / half) ** 2))) * (np.abs(away) <= half)
    weights = np.sinc(2 * cutoff * away) * window
    weights /= weights.sum(axis=1, keepdims=True)  # a constant keeps its value
    return FilterBank(np.ascontiguousarray(weights[:, None], dtype=np.float32), half, hop, step)


def resample(mono: NDArray[np.floating], rate_hz: float, target_hz: int) -> NDArray[np.float32]:
    """Change the rate of one channel, without delay.

    mono     [n_samples] float in [-1, 1] at rate_hz
    returns  [n_samples * target_hz / rate_hz, rounded] float32
    """
    bank = filter_bank(int(rate_hz), target_hz) if rate_hz == int(rate_hz) else None
    if bank is None:
        return soxr.resample(np.ascontiguousarray(mono, dtype=np.float32), rate_hz, target_hz, quality="HQ")
    return bank.apply(mono, resampled_length(len(mono), rate_hz, target_hz))


class StreamResampler:
    """Resamples one channel that comes block by block, to the same bits as `resample` gives for all of it at once."""

    def __init__(self, rate_hz: int, target_hz: int):
        self._rates = (rate_hz, target_hz)
        self._bank = filter_bank(rate_hz, target_hz)
        self._soxr: soxr.ResampleStream | None = None
        self._rest = np.empty(0, np.float32)  # old samples that the next new ones depend on
        self._lead = 0  # number of them before the place of the next new sample
        self._n_old = self._n_new = 0

    def push(self, mono: NDArray[np.float32], is_last: bool) -> NDArray[np.float32]:
        """The new samples [n] float32 that the old ones so far allow; all, if these are the last ones."""
        if self._rates[0] == self._rates[1]:
            return mono
        if is_last and not self._n_old:
            return resample(mono, *self._rates)
        self._n_old += len(mono)
        if self._bank is None:
            if self._soxr is None:
                self._soxr = soxr.ResampleStream(*self._rates, 1, dtype="float32", quality="HQ")
            return self._soxr.resample_chunk(np.ascontiguousarray(mono), last=is_last)
        return self._push_to_bank(self._bank, mono, is_last)

    def _push_to_bank(self, bank: FilterBank, mono: NDArray[np.float32], is_last: bool) -> NDArray[np.float32]:
        old = np.concatenate([self._rest, mono])
        n_parts = bank.whole_parts(len(old), self._lead)
        n_new = resampled_length(self._n_old, *self._rates) - self._n_new if is_last else n_parts * bank.part
        new = bank.apply(old, n_new, self._lead)
        self._n_new += n_new
        if n_parts:
            done = n_parts * bank.part_periods * bank.hop + self._lead  # place of the next new sample
            self._lead = min(bank.half, done)
            old = old[done - self._lead :].copy()
        self._rest = old
        return new


def resampled_length(n_samples: int, rate_hz: float, target_hz: int) -> int:
    """Number of new samples."""
    return math.floor(n_samples * target_hz / rate_hz + 0.5)
