"""The samples of a recording while its streams are decoded: limited, joined, and with what is missing of them."""

import math
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from soundfile import SoundFile, SoundFileError

from serving.errors import DurationError
from serving.formats.containers import Container
from serving.formats.libsndfile import UNKNOWN_LENGTH, read_before_damage, read_block, reason_of
from serving.resample import resample

BLOCK_VALUES = 2**20  # samples of all channels decoded at a time
VALUES_PER_SECOND = 384_000  # all channels together, for a limit on memory: eight channels at 48 kHz

Wave = NDArray[np.float32]  # [n_samples, n_channels]


@dataclass(frozen=True)
class Decoded:
    """wave: [n_samples, n_channels] float32; is_checked: it is of integers, and so finite and in [-1, 1]."""

    wave: Wave
    rate_hz: int
    is_checked: bool


class Sound:
    """The samples of a recording while they are decoded, in memory for what is there, not for what headers claim.

    waves   [n_samples, n_channels] float32 and rate of each stretch
    notes   what could not be read
    """

    def __init__(self, name: str, max_seconds: float | None):
        self.name = name
        self.notes: list[str] = []
        self._max_seconds = math.inf if max_seconds is None else max_seconds
        self._waves: list[tuple[Wave, int]] = []
        self._seconds = 0.0
        self._is_checked = True

    def add(self, file: SoundFile, open_again: Callable[[], AbstractContextManager[SoundFile]]) -> None:
        """All samples of a file; open_again: gives a context with the same file, for when it is damaged."""
        rate_hz, channels = file.samplerate, file.channels
        most = self._most(rate_hz, channels)
        is_flac = file.format == "FLAC"  # whose header may claim anything
        if file.frames > most and not is_flac and file.frames != UNKNOWN_LENGTH:
            raise self._too_long(rate_hz, channels)
        blocks: list[Wave] = []
        n_samples, whole = 0, True
        block_samples = min(file.frames + 1, BLOCK_VALUES // channels)
        while whole:
            try:
                block = read_block(file, block_samples)
            except SoundFileError as error:
                block = self._before_damage(open_again, n_samples, block_samples, error)
                whole = False
            blocks.append(block)
            n_samples += len(block)
            if n_samples > most:
                raise self._too_long(rate_hz, channels)
            if len(block) < block_samples:
                break
        if whole and file.frames != UNKNOWN_LENGTH and n_samples < file.frames:
            self.notes.append(_cut_note(n_samples, file.frames, rate_hz))
        self._is_checked &= file.subtype.startswith("PCM_")
        self._take(blocks[0] if len(blocks) == 1 else np.concatenate(blocks), rate_hz)

    def _before_damage(
        self,
        open_again: Callable[[], AbstractContextManager[SoundFile]],
        n_samples: int,
        block_samples: int,
        error: SoundFileError,
    ) -> Wave:
        with open_again() as file:
            wave = read_before_damage(file, n_samples + block_samples)[n_samples:]
            known, rate_hz = file.frames, file.samplerate
        if not n_samples + len(wave):
            raise error
        there_s = (n_samples + len(wave)) / rate_hz
        of = f" of {known / rate_hz:.1f}" if known != UNKNOWN_LENGTH else ""
        self.notes.append(f"cut off or damaged: only the first {there_s:.1f}{of} s could be read ({reason_of(error)})")
        return wave

    def add_container(self, container: Container) -> None:
        """All samples of a container."""
        self._is_checked = False
        for wave, rate_hz in container.blocks():
            if len(wave) > self._most(rate_hz, wave.shape[1]):
                raise self._too_long(rate_hz, wave.shape[1])
            self._take(wave, rate_hz)

    def _most(self, rate_hz: int, channels: int) -> float:
        """How many samples may still come."""
        return (self._max_seconds - self._seconds) * min(rate_hz, VALUES_PER_SECOND / channels) + 1e-6 * rate_hz

    def _take(self, wave: Wave, rate_hz: int) -> None:
        self._waves.append((wave, rate_hz))
        # Of many channels at a high rate a second counts as more, so that memory is bounded.
        self._seconds += len(wave) / min(rate_hz, VALUES_PER_SECOND / wave.shape[1])

    def _too_long(self, rate_hz: int, channels: int) -> DurationError:
        most_s = self._max_seconds * min(rate_hz, VALUES_PER_SECOND / channels) / rate_hz
        return DurationError(
            f"{self.name}: lasts more than {most_s:g} s, the most here for {rate_hz} Hz {channels}-channel sound; "
            "send a shorter recording"
        )

    def joined(self) -> Decoded:
        """All stretches, at the highest rate and with the most channels of any."""
        if len(self._waves) < 2:
            wave, rate_hz = self._waves[0] if self._waves else (np.empty((0, 1), np.float32), 1)
            return Decoded(wave, rate_hz, self._is_checked and wave.size > 0)
        rate_hz, channels = max(rate for _, rate in self._waves), max(wave.shape[1] for wave, _ in self._waves)
        values = sum(len(wave) / rate for wave, rate in self._waves) * rate_hz * channels
        if len({(rate, wave.shape[1]) for wave, rate in self._waves}) > 1 and values > (
            self._max_seconds * VALUES_PER_SECOND
        ):
            raise self._too_long(rate_hz, channels)
        wave = np.concatenate([_fitted(wave, rate, rate_hz, channels) for wave, rate in self._runs()])
        return Decoded(wave, rate_hz, is_checked=False)

    def _runs(self) -> list[tuple[Wave, int]]:
        """Stretches of the same rate and channels joined, so that none is resampled in pieces."""
        runs: list[tuple[list[Wave], int]] = []
        for wave, rate_hz in self._waves:
            if runs and runs[-1][1] == rate_hz and runs[-1][0][0].shape[1] == wave.shape[1]:
                runs[-1][0].append(wave)
            else:
                runs.append(([wave], rate_hz))
        return [(np.concatenate(waves), rate_hz) for waves, rate_hz in runs]


def _fitted(wave: Wave, rate_hz: int, target_hz: int, channels: int) -> Wave:
    """At another rate, and with as many channels: its own, or its mean in each."""
    if wave.shape[1] != channels:
        wave = np.broadcast_to(wave.mean(axis=1, keepdims=True), (len(wave), channels))
    if rate_hz == target_hz or not len(wave):
        return wave
    return np.stack([resample(np.ascontiguousarray(wave[:, i]), rate_hz, target_hz) for i in range(channels)], axis=1)


def _cut_note(n_samples: int, claimed: int, rate_hz: int) -> str:
    return f"cut off: {n_samples / rate_hz:.1f} of {claimed / rate_hz:.1f} s are there, and were read"
