"""The stages between a sound file and its embedding, as jobs that can be timed one by one."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from benchmarks.timing import Job
from serving.audio import decode_audio
from serving.backends.runtime import FrontEnd
from serving.embedder import Embedder, pool_clips

SHARED = ("decode", "resample", "pooling")  # the same whatever runs the model

Thing = TypeVar("Thing")


class Key(NamedTuple):
    """What was timed: a stage at a batch size, of a backend, precision and thread count where it has one."""

    stage: str
    batch: int
    backend: str | None = None
    precision: str | None = None
    threads: int | None = None


@dataclass(frozen=True)
class Clips:
    """The same clips as each stage takes them.

    encoded   file bytes
    decoded   (wave [n_samples, n_channels] float32, rate in Hz)
    windows   [n_windows, samples] float32
    """

    encoded: list[bytes]
    decoded: list[tuple[NDArray[np.float32], int]]
    windows: list[NDArray[np.float32]]

    @property
    def seconds(self) -> list[float]:
        """The length of each."""
        return [len(wave) / rate_hz for wave, rate_hz in self.decoded]

    def turn(self, things: Sequence[Thing], batch: int) -> Callable[[int], list[Thing]]:
        """Turn -> the next things of as many clips. Every stage of a turn gets the same clips."""
        return lambda turn: [things[(turn * batch + i) % len(things)] for i in range(batch)]

    def batch_windows(self, batch: int) -> Callable[[int], NDArray[np.float32]]:
        """Turn -> the next clips' windows [n, samples], end to end."""
        clips = self.turn(self.windows, batch)
        return lambda turn: np.concatenate(clips(turn))


def embed_clips(embedder: Embedder, encoded: Sequence[bytes]) -> NDArray[np.float32]:
    """The timed whole: bytes of n files -> embeddings [n, 128] float32, their windows joined in one batch."""
    windows = [embedder.windows(*decode_audio(data)) for data in encoded]
    rows = embedder.run(np.concatenate(windows))  # [n_windows of all, 128]
    return pool_clips(rows, [len(part) for part in windows])


def shared_jobs(embedder: Embedder, clips: Clips, batch: int) -> dict[Key, Job]:
    """Decoding, resampling and pooling: one thread's work, whatever runs the model."""

    # As in the whole, a clip's samples are let go before the next one's are made.
    def decode(files: list[bytes]) -> None:
        for data in files:
            decode_audio(data)

    def resample(waves: list[tuple[NDArray[np.float32], int]]) -> None:
        for wave, rate_hz in waves:
            embedder.windows(wave, rate_hz)

    def prepare_rows(turn: int) -> tuple[NDArray[np.float32], list[int]]:
        counts = [len(part) for part in clips.turn(clips.windows, batch)(turn)]
        rng = np.random.default_rng(turn)
        return rng.standard_normal((sum(counts), embedder.manifest.embedding_size), np.float32), counts

    return {
        Key("decode", batch): Job(clips.turn(clips.encoded, batch), decode),
        Key("resample", batch): Job(clips.turn(clips.decoded, batch), resample),
        Key("pooling", batch): Job(prepare_rows, lambda given: pool_clips(*given)),
    }


def front_end_job(front_end: FrontEnd, most: int, clips: Clips, batch: int) -> Job:
    """Log-mel of a batch's windows, at most `most` of them at a time, as the model takes them."""

    def log_mel(windows: NDArray[np.float32]) -> None:
        for part in np.array_split(windows, -(-len(windows) // most)):
            front_end(part)

    return Job(clips.batch_windows(batch), log_mel)


def model_jobs(embedder: Embedder, backend: str, clips: Clips, batch: int) -> dict[Key, Job]:
    """The model alone on a batch's windows, and the whole from file bytes to embeddings."""
    of = (batch, backend, embedder.precision, embedder.threads)
    return {
        Key("model", *of): Job(clips.batch_windows(batch), embedder.run),
        Key("whole", *of): Job(clips.turn(clips.encoded, batch), lambda files: embed_clips(embedder, files)),
    }
