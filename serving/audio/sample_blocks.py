"""Read the samples of a recording block by block while its streams are decoded, and note what is missing."""

import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from soundfile import SoundFile, SoundFileError

from serving.audio.ffmpeg import Container
from serving.audio.libsndfile import UNKNOWN_LENGTH, read_before_damage, read_block, reason_of
from serving.errors import DurationError

BLOCK_VALUES = 2**20  # samples of all channels decoded at a time
VALUES_PER_SECOND = 384_000  # all channels together, for a limit on memory: eight channels at 48 kHz

Wave = NDArray[np.float32]  # [n_samples, n_channels]


@dataclass(frozen=True, eq=False)
class SampleBlock:
    """Consecutive samples of a recording.

    wave        [n_samples, n_channels] float32
    is_checked  the samples are finite and in [-1, 1], because they were decoded from integers
    """

    wave: Wave
    rate_hz: int
    is_checked: bool

    @property
    def channels(self) -> int:
        """Number of channels."""
        return self.wave.shape[1]


class BlockReader:
    """Reads the streams of one recording, one after the other.

    name          for messages
    max_seconds   longest recording; None: no limit
    most_values   samples of all channels a second: a second with more counts as more than one, which limits memory.
                  None: every second counts as one
    notes         what could not be read
    """

    def __init__(self, name: str, max_seconds: float | None, most_values: float | None = VALUES_PER_SECOND):
        self.name = name
        self.notes: list[str] = []
        self._max_seconds = math.inf if max_seconds is None else max_seconds
        self._most_values = math.inf if most_values is None else most_values
        self._seconds = 0.0  # that count for the limit
        self._read_s = 0.0

    def told(self, note: str) -> str:
        """A line about what cannot be read, with the name and the time."""
        return f"{self.name}: {note}; the sound that was read lasts {self._read_s:.1f} s"

    def read_file(
        self, file: SoundFile, open_again: Callable[[], AbstractContextManager[SoundFile]]
    ) -> Iterator[SampleBlock]:
        """Yield all samples of a file, at least one block, which may be empty.

        open_again  opens the same file once more, used if the file is damaged
        errors      DurationError; SoundFileError: no sample can be read
        """
        rate_hz = file.samplerate
        most = self._most(rate_hz, file.channels)
        is_integer = file.subtype.startswith("PCM_")
        is_flac = file.format == "FLAC"  # whose header may claim anything
        if file.frames > most and not is_flac and file.frames != UNKNOWN_LENGTH:
            raise self._too_long(rate_hz, file.channels)
        n_samples, is_last, is_whole = 0, False, True
        block_samples = min(file.frames + 1, BLOCK_VALUES // file.channels)
        while not is_last:
            try:
                wave = read_block(file, block_samples)
            except SoundFileError as error:
                wave = self._before_damage(open_again, n_samples, block_samples, error)
                is_whole = False
            n_samples += len(wave)
            if n_samples > most:
                raise self._too_long(rate_hz, file.channels)
            is_last = len(wave) < block_samples or not is_whole
            self._count(wave, rate_hz)
            yield SampleBlock(wave, rate_hz, is_integer)
        if is_whole and file.frames != UNKNOWN_LENGTH and n_samples < file.frames:
            # An OGG file's length is stated by the last page that is there, so what is missing was before it.
            note = _hole_note if file.format == "OGG" else _cut_note
            self.notes.append(note(n_samples, file.frames, rate_hz))

    def _before_damage(
        self,
        open_again: Callable[[], AbstractContextManager[SoundFile]],
        n_samples: int,
        block_samples: int,
        error: SoundFileError,
    ) -> Wave:
        """Read the samples of the damaged block that come before the damage, and note the damage."""
        with open_again() as file:
            for _ in range(n_samples // block_samples):
                read_block(file, block_samples)
            wave = read_before_damage(file, block_samples)
            known, rate_hz = file.frames, file.samplerate
        if not n_samples + len(wave):
            raise error
        there_s = (n_samples + len(wave)) / rate_hz
        of = f" of {known / rate_hz:.1f}" if known != UNKNOWN_LENGTH else ""
        self.notes.append(f"cut off or damaged: only the first {there_s:.1f}{of} s could be read ({reason_of(error)})")
        return wave

    def read_container(self, container: Container) -> Iterator[SampleBlock]:
        """Yield all samples of a container. DurationError: it is too long."""
        for wave, rate_hz in _joined_frames(container.blocks()):
            if len(wave) > self._most(rate_hz, wave.shape[1]):
                raise self._too_long(rate_hz, wave.shape[1])
            self._count(wave, rate_hz)
            yield SampleBlock(wave, rate_hz, is_checked=False)

    def _most(self, rate_hz: int, channels: int) -> float:
        """How many more samples are within the limit."""
        return (self._max_seconds - self._seconds) * self._counted_hz(rate_hz, channels) + 1e-6 * rate_hz

    def _count(self, wave: Wave, rate_hz: int) -> None:
        self._read_s += len(wave) / rate_hz
        self._seconds += len(wave) / self._counted_hz(rate_hz, wave.shape[1])

    def _counted_hz(self, rate_hz: int, channels: int) -> float:
        """Samples of one channel that count as a second."""
        return min(rate_hz, self._most_values / channels)

    def _too_long(self, rate_hz: int, channels: int) -> DurationError:
        counted_hz = self._counted_hz(rate_hz, channels)
        sound = "" if counted_hz == rate_hz else f" for {rate_hz} Hz {channels}-channel sound"
        return DurationError(
            f"{self.name}: lasts more than {self._max_seconds * counted_hz / rate_hz:g} s, the most here{sound}; "
            "send a shorter recording"
        )


def _joined_frames(frames: Iterable[tuple[Wave, int]]) -> Iterator[tuple[Wave, int]]:
    """Join the short frames of a container, as long as rate and channels stay, to blocks of about BLOCK_VALUES."""
    waiting: list[Wave] = []
    values, kind = 0, (0, 0)
    for wave, rate_hz in frames:
        if waiting and (values >= BLOCK_VALUES or kind != (rate_hz, wave.shape[1])):
            yield np.concatenate(waiting), kind[0]
            waiting, values = [], 0
        kind = (rate_hz, wave.shape[1])
        waiting.append(wave)
        values += wave.size
    if waiting:
        yield np.concatenate(waiting), kind[0]


def _cut_note(n_samples: int, claimed: int, rate_hz: int) -> str:
    return f"cut off: {n_samples / rate_hz:.1f} of {claimed / rate_hz:.1f} s are there, and were read"


def _hole_note(n_samples: int, claimed: int, rate_hz: int) -> str:
    missing = f"{(claimed - n_samples) / rate_hz:.1f} s"
    return f"damaged: {missing} in the middle are missing; times after them are up to {missing} too early"
