"""One recording of any length on its way to a network, in blocks of windows and in constant memory.

    stream = RecordingStream("night.wav", window, most=8, front_end=embedder.prepare)
    for block in stream:
        block.inputs                        # [n, ...] float32, n <= 8
    stream.duration_s, stream.warnings      # of the whole recording, known at the end

The windows are those that `Recording` gives, to the last bit.
"""

from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from serving.audio.level import SHORTEST_S
from serving.audio.mono_stream import MonoStream
from serving.audio.read_ahead import read_ahead
from serving.audio.reading import file_blocks
from serving.audio.window import Window, WindowFacts, stream_windows


@dataclass(frozen=True, eq=False, kw_only=True)
class PreparedWindows(WindowFacts):
    """Consecutive windows of a recording as a network takes them. inputs: [n, ...] float32, after the front end."""

    inputs: NDArray[np.float32]


class RecordingStream:
    """Yields the windows of a file, `most` at a time; a thread reads ahead in long recordings.

    path         of an audio file; it is opened when the iteration begins
    window       length and spacing of the windows
    front_end    windows [n, samples] float32 -> inputs [n, ...] float32
    max_seconds  longest recording; None: no limit
    errors       while iterating, as `MonoStream`
    """

    def __init__(
        self,
        path: str | Path,
        window: Window,
        most: int,
        front_end: Callable[[NDArray[np.float32]], NDArray[np.float32]],
        max_seconds: float | None = None,
    ):
        warnings: list[str] = []
        blocks = file_blocks(path, max_seconds, warnings.append, most_values=None)
        self._mono = MonoStream(blocks, str(path), window.rate_hz, warnings)
        self._window = window
        self._most = most
        self._front_end = front_end

    @property
    def duration_s(self) -> float:
        """Seconds of sound that were decoded; of the whole recording once the iteration has ended."""
        return self._mono.duration_s

    @property
    def rate_hz(self) -> int:
        """The recording's rate; of several the highest."""
        return self._mono.rate_hz

    @property
    def channels(self) -> int:
        """The recording's number of channels; of several the highest."""
        return self._mono.channels

    @property
    def warnings(self) -> tuple[str, ...]:
        """One line for each part that could not be read."""
        return tuple(self._mono.warnings)

    def __iter__(self) -> Generator[PreparedWindows]:
        with closing(self._blocks()) as blocks:
            for _ in range(2):  # most recordings end here, and need no thread
                if (block := next(blocks, None)) is None:
                    return
                yield block
            yield from read_ahead(blocks)

    def _blocks(self) -> Generator[PreparedWindows]:
        with closing(self._mono):
            for block in stream_windows(self._mono, self._window, self._most):
                yield PreparedWindows(
                    starts_s=block.starts_s,
                    # Resampling can add half a sample.
                    ends_s=np.minimum(block.ends_s, self._mono.duration_s),
                    padded=block.padded,
                    levels_dbfs=block.levels_dbfs,
                    inputs=self._front_end(block.windows),
                )
            if self.duration_s < SHORTEST_S:
                self._mono.warnings.append(
                    f"{self._mono.name}: lasts only {1000 * self.duration_s:.1f} ms, too short to hear"
                )
