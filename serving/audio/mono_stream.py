"""The sound of a recording, mixed to one channel and resampled, block by block: any length in constant memory."""

import math
import time
from collections import deque
from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from serving.audio.cancelling_channels import CancellingChannels
from serving.audio.resampling import StreamResampler
from serving.audio.sample_blocks import SampleBlock
from serving.audio.waveform import check_rate, check_wave, mix
from serving.errors import AudioError, DurationError


@dataclass
class MonoStream:
    """Yields the waveform of a recording as blocks [n_samples] float32 in [-1, 1] at `target_hz`, at least one sample.

    blocks     the decoded samples
    name       for messages
    target_hz  rate of the waveform; None: that of the first block, which it is after the start
    warnings   gets one line for each part that cannot be read, and one if the channels cancel each other; `blocks` may
               add to the same list

    Where the rate changes inside the recording, each stretch is resampled on its own. These are known so far, and for
    the whole recording once it is exhausted:

    duration_s, rate_hz, channels   as they were decoded; of several rates and numbers of channels the highest
    milliseconds                    time of each step: decode; resample (mix to mono and resample)

    errors   AudioError naming the file: nothing can be read, no samples, or the first block has samples that are not
             finite or far too loud. If a later block has such samples, the recording ends before it, with a warning.
             DurationError: longer than allowed, perhaps after some blocks
    """

    blocks: Generator[SampleBlock]
    name: str
    target_hz: int | None
    warnings: list[str] = field(default_factory=list)
    duration_s: float = 0.0
    rate_hz: int = 0
    channels: int = 0
    milliseconds: dict[str, float] = field(default_factory=lambda: {"decode": 0.0, "resample": 0.0})

    def __iter__(self) -> Generator[NDArray[np.float32]]:
        resampler, given, cancelling = None, False, CancellingChannels()
        block = self._next()
        if block is None:
            check_wave(np.empty(0, np.float32), self.name)  # raises
        target_hz = self.target_hz = self.target_hz or (block.rate_hz if block else 1)
        while block is not None:
            after = self._after()
            is_last = after is None or after.rate_hz != block.rate_hz
            start = time.perf_counter()
            if resampler is None:
                resampler = StreamResampler(block.rate_hz, target_hz)
            mono = np.ascontiguousarray(mix(block.wave), np.float32)
            cancelling.add(block.wave, mono)
            wave = resampler.push(mono, is_last)
            self._spend("resample", start)
            if is_last:
                resampler = None
            if not wave.size and after is None and not given:
                wave = mono[:1]  # a few samples at a high rate can give none at a low one
            if wave.size:
                given = True
                yield wave
            block = after
        if warning := cancelling.warning():
            self.warnings.append(f"{self.name}: {warning}")

    def stretches(self, places_s: Sequence[tuple[float, float | None]]) -> list[NDArray[np.float32]]:
        """Read stretches of the recording, no further than the end of the last one, and close the file.

        places_s   start and end of each in seconds; None: the end of the recording
        returns    for each [n_samples] float32 at `target_hz`; fewer samples where the recording ends earlier
        """
        parts: list[list[NDArray[np.float32]]] = [[] for _ in places_s]
        at, last = 0, 0.0
        waiting: deque[tuple[int, float, int]] = deque()  # start and end in samples, and the number, in order
        open_now: list[tuple[int, float, int]] = []  # have begun and not ended
        with closing(self):
            for wave in self:
                if at == 0:
                    assert self.target_hz is not None  # known after the first block
                    waiting.extend(_in_samples(places_s, self.target_hz))
                    last = max((end for _, end, _ in waiting), default=0)
                stop = at + len(wave)
                while waiting and waiting[0][0] < stop:
                    open_now.append(waiting.popleft())
                for start, end, number in open_now:
                    own = wave[max(0, start - at) : max(0, int(min(end, stop)) - at)]
                    if len(own):
                        parts[number].append(own.copy())  # without the rest of the block
                open_now = [place for place in open_now if place[1] > stop]
                at = stop
                if last <= at:
                    break
        return [np.concatenate(part) if part else np.empty(0, np.float32) for part in parts]

    def close(self) -> None:
        """Close the file."""
        self.blocks.close()

    def _after(self) -> SampleBlock | None:
        """The next block; None at the end, or where nothing more can be read."""
        try:
            return self._next()
        except DurationError:
            raise
        except AudioError as error:
            reason = str(error).removeprefix(f"{self.name}: ")
            self.warnings.append(
                f"{self.name}: damaged: could be read only as far as {self.duration_s:.1f} s ({reason})"
            )
            self.blocks.close()
            return None

    def _next(self) -> SampleBlock | None:
        """The next block that has samples, checked and counted; None at the end."""
        start = time.perf_counter()
        block = next((block for block in self.blocks if len(block.wave)), None)
        self._spend("decode", start)
        if block is None:
            return None
        if not block.is_checked:
            check_wave(block.wave, self.name)
        check_rate(block.rate_hz, f"{self.name}: waveform")
        self._count(block)
        return block

    def _count(self, block: SampleBlock) -> None:
        self._stretches[block.rate_hz] = self._stretches.get(block.rate_hz, 0) + len(block.wave)
        self.duration_s = sum(n_samples / rate_hz for rate_hz, n_samples in self._stretches.items())
        self.rate_hz = max(self.rate_hz, block.rate_hz)
        self.channels = max(self.channels, block.channels)

    def _spend(self, step: str, start: float) -> None:
        self.milliseconds[step] += 1000 * (time.perf_counter() - start)

    def __post_init__(self) -> None:
        self._stretches: dict[int, int] = {}  # number of samples at each rate


def _in_samples(places_s: Sequence[tuple[float, float | None]], rate_hz: int) -> list[tuple[int, float, int]]:
    """Start and end of stretches in samples, and their numbers, in the order of the starts; infinity: the end."""
    return sorted(
        (round(start_s * rate_hz), math.inf if end_s is None else round(end_s * rate_hz), number)
        for number, (start_s, end_s) in enumerate(places_s)
    )
