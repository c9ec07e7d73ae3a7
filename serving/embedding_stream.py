"""The embeddings of one recording of any length, in blocks of windows and in constant memory."""

from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from serving.audio.recording_stream import RecordingStream
from serving.audio.window import WindowFacts


@dataclass(frozen=True, eq=False, kw_only=True)
class StreamedWindows(WindowFacts):
    """Consecutive windows of a recording. rows: [n, 128] float32, their embeddings."""

    rows: NDArray[np.float32]


class EmbeddingStream(Iterator[StreamedWindows]):
    """Yields the windows of a recording in order, a block at a time. See `Embedder.stream`.

    duration_s, rate_hz, channels, warnings   of what has been read so far; of the whole recording at the end
    Leave it as a context manager, or `close` it, if it is not read to its end.
    """

    def __init__(self, recording: RecordingStream, run: Callable[[NDArray[np.float32]], NDArray[np.float32]]):
        self._recording = recording
        self._run = run
        self._blocks = self._embed()

    def __next__(self) -> StreamedWindows:
        return next(self._blocks)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._blocks.close()

    @property
    def duration_s(self) -> float:
        """Seconds of sound."""
        return self._recording.duration_s

    @property
    def rate_hz(self) -> int:
        """Rate of the recording before it was resampled; of several the highest."""
        return self._recording.rate_hz

    @property
    def channels(self) -> int:
        """Number of channels before they were mixed; of several the highest."""
        return self._recording.channels

    @property
    def warnings(self) -> tuple[str, ...]:
        """One line for each part of the recording that could not be read, with its time."""
        return self._recording.warnings

    def _embed(self) -> Generator[StreamedWindows]:
        with closing(iter(self._recording)) as blocks:
            for block in blocks:
                yield StreamedWindows(
                    starts_s=block.starts_s,
                    ends_s=block.ends_s,
                    padded=block.padded,
                    levels_dbfs=block.levels_dbfs,
                    rows=self._run(block.inputs),
                )
