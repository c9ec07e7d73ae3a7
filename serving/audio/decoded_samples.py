"""Collect the samples of a recording while its streams are decoded: limit, join, and note what is missing."""

import math
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from soundfile import SoundFile, SoundFileError

from serving.audio.ffmpeg import Container
from serving.audio.libsndfile import UNKNOWN_LENGTH, read_before_damage, read_block, reason_of
from serving.audio.resampling import resample
from serving.audio.waveform import check_wave, mix
from serving.errors import DurationError

BLOCK_VALUES = 2**20  # samples of all channels decoded at a time
VALUES_PER_SECOND = 384_000  # all channels together, for a limit on memory: eight channels at 48 kHz

Wave = NDArray[np.float32]  # [n_samples, n_channels]


@dataclass(frozen=True)
class DecodedSamples:
    """All samples of a recording.

    wave        [n_samples, n_channels] float32; if it was mixed, [n_samples, 1]
    channels    of the recording
    is_checked  the samples are finite and in [-1, 1]: they were decoded from integers, or checked before the mixing
    """

    wave: Wave
    rate_hz: int
    channels: int
    is_checked: bool


class SampleCollector:
    """Collects the samples of a recording; uses memory for the samples found, not for those that headers claim.

    name          for messages
    max_seconds   longest recording; None: no limit
    mixes         mix the channels of a recording that is longer than a block, each block as it is decoded: so eight
                  channels take no more memory than one
    notes         what could not be read
    """

    def __init__(self, name: str, max_seconds: float | None, mixes: bool = False):
        self.name = name
        self._mixes = mixes
        self._channels = 1
        self.notes: list[str] = []
        self._max_seconds = math.inf if max_seconds is None else max_seconds
        self._waves: list[tuple[Wave, int]] = []  # samples and rate of each stretch
        self._seconds = 0.0
        self._is_checked = True

    def add_file(self, file: SoundFile, open_again: Callable[[], AbstractContextManager[SoundFile]]) -> None:
        """Read all samples of a file. open_again: opens the same file once more, used if the file is damaged."""
        rate_hz, channels = file.samplerate, file.channels
        most = self._most(rate_hz, channels)
        is_integer = file.subtype.startswith("PCM_")
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
            n_samples += len(block)
            if n_samples > most:
                raise self._too_long(rate_hz, channels)
            is_last = len(block) < block_samples
            blocks.append(block if is_last and not blocks else self._mixed(block, is_integer))
            if is_last:
                break
        if whole and file.frames != UNKNOWN_LENGTH and n_samples < file.frames:
            self.notes.append(_cut_note(n_samples, file.frames, rate_hz))
        self._is_checked &= is_integer
        self._add(blocks[0] if len(blocks) == 1 else np.concatenate(blocks), rate_hz, channels)

    def _mixed(self, block: Wave, is_checked: bool) -> Wave:
        """A block with its channels mixed to one, if they are to be. AudioError: see `check_wave`."""
        if not self._mixes or block.shape[1] == 1:
            return block
        if not is_checked and len(block):
            check_wave(block, self.name)
        return mix(block)[:, None]

    def _before_damage(
        self,
        open_again: Callable[[], AbstractContextManager[SoundFile]],
        n_samples: int,
        block_samples: int,
        error: SoundFileError,
    ) -> Wave:
        """Read the samples of the damaged block that come before the damage, and note the damage."""
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
        """Read all samples of a container."""
        self._is_checked = False
        for wave, rate_hz in container.blocks():
            channels = wave.shape[1]
            if len(wave) > self._most(rate_hz, channels):
                raise self._too_long(rate_hz, channels)
            self._add(self._mixed(wave, is_checked=False), rate_hz, channels)

    def _most(self, rate_hz: int, channels: int) -> float:
        """How many more samples are within the limit."""
        return (self._max_seconds - self._seconds) * min(rate_hz, VALUES_PER_SECOND / channels) + 1e-6 * rate_hz

    def _add(self, wave: Wave, rate_hz: int, channels: int) -> None:
        """channels: that were decoded, before they were mixed."""
        self._waves.append((wave, rate_hz))
        self._channels = max(self._channels, channels)
        # A second of many channels at a high rate counts as more than a second, which limits memory.
        self._seconds += len(wave) / min(rate_hz, VALUES_PER_SECOND / channels)

    def _too_long(self, rate_hz: int, channels: int) -> DurationError:
        most_s = self._max_seconds * min(rate_hz, VALUES_PER_SECOND / channels) / rate_hz
        return DurationError(
            f"{self.name}: lasts more than {most_s:g} s, the most here for {rate_hz} Hz {channels}-channel sound; "
            "send a shorter recording"
        )

    def joined(self) -> DecodedSamples:
        """Join all stretches, at the highest rate and with the most channels of any."""
        if len(self._waves) < 2:
            wave, rate_hz = self._waves[0] if self._waves else (np.empty((0, 1), np.float32), 1)
            return DecodedSamples(wave, rate_hz, self._channels, self._is_checked and wave.size > 0)
        self._waves = [(self._mixed(wave, is_checked=False), rate) for wave, rate in self._waves]
        rate_hz, channels = max(rate for _, rate in self._waves), max(wave.shape[1] for wave, _ in self._waves)
        values = sum(len(wave) / rate for wave, rate in self._waves) * rate_hz * channels
        if len({(rate, wave.shape[1]) for wave, rate in self._waves}) > 1 and values > (
            self._max_seconds * VALUES_PER_SECOND
        ):
            raise self._too_long(rate_hz, channels)
        wave = np.concatenate([_fitted(wave, rate, rate_hz, channels) for wave, rate in self._runs()])
        return DecodedSamples(wave, rate_hz, self._channels, is_checked=False)

    def _runs(self) -> list[tuple[Wave, int]]:
        """Join neighbouring stretches of the same rate and channels, so that each run is resampled as a whole."""
        runs: list[tuple[list[Wave], int]] = []
        for wave, rate_hz in self._waves:
            if runs and runs[-1][1] == rate_hz and runs[-1][0][0].shape[1] == wave.shape[1]:
                runs[-1][0].append(wave)
            else:
                runs.append(([wave], rate_hz))
        return [(np.concatenate(waves), rate_hz) for waves, rate_hz in runs]


def _fitted(wave: Wave, rate_hz: int, target_hz: int, channels: int) -> Wave:
    """Convert to another rate and number of channels; if the number differs, every channel is the mean of the old."""
    if wave.shape[1] != channels:
        wave = np.broadcast_to(wave.mean(axis=1, keepdims=True), (len(wave), channels))
    if rate_hz == target_hz or not len(wave):
        return wave
    return np.stack([resample(np.ascontiguousarray(wave[:, i]), rate_hz, target_hz) for i in range(channels)], axis=1)


def _cut_note(n_samples: int, claimed: int, rate_hz: int) -> str:
    return f"cut off: {n_samples / rate_hz:.1f} of {claimed / rate_hz:.1f} s are there, and were read"
