"""The jobs of a latency measurement: each stage between a sound file and its embedding, for each configuration."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from benchmarks.bundle_parts import front_end_of, open_model, why_missing
from benchmarks.turns import TimedJob
from serving.audio import Recording, decode_audio
from serving.backends.runtime import Stage
from serving.bundle.bundle import Bundle
from serving.bundle.bundle_files import BF16
from serving.embedder import Embedder
from serving.errors import BackendError, UnheardError
from serving.pooling import pool

COMMON_STAGES = ("decode", "resample", "pooling")  # they do not depend on backend, precision or threads

Item = TypeVar("Item")


class StageKey(NamedTuple):
    """What was timed: a stage at a batch size; for other than the common stages also the configuration."""

    stage: str
    batch: int
    backend: str | None = None
    precision: str | None = None
    threads: int | None = None


@dataclass(frozen=True)
class Settings:
    """The configurations to measure: all combinations of these."""

    backends: list[str]
    precisions: list[str]
    batches: list[int]
    threads: list[int]


@dataclass(frozen=True)
class StagedClips:
    """The same clips in the form that each stage takes.

    encoded   file bytes
    decoded   (wave [n_samples, n_channels] float32, rate in Hz)
    windows   [n_windows, samples] float32
    """

    encoded: list[bytes]
    decoded: list[tuple[NDArray[np.float32], int]]
    windows: list[NDArray[np.float32]]

    @property
    def seconds(self) -> list[float]:
        """The length of each clip."""
        return [len(wave) / rate_hz for wave, rate_hz in self.decoded]

    def pick(self, items: Sequence[Item], batch: int) -> Callable[[int], list[Item]]:
        """Turn -> the items of the next `batch` clips. In one turn every stage gets the same clips."""
        return lambda turn: [items[(turn * batch + i) % len(items)] for i in range(batch)]

    def pick_windows(self, batch: int) -> Callable[[int], NDArray[np.float32]]:
        """Turn -> the windows of the next `batch` clips, joined: [n, samples]."""
        pick = self.pick(self.windows, batch)
        return lambda turn: np.concatenate(pick(turn))


def open_embedders(
    settings: Settings, bundle: Bundle, gpus: list[str], cache: Path, by_name: bool
) -> tuple[list[tuple[str, Embedder]], dict[str, str]]:
    """Open (backend, embedder) for each configuration that works here; for the others, say why not.

    by_name  the user named the backends
    errors   BackendError: a named backend does not work here
    """
    embedders: list[tuple[str, Embedder]] = []
    not_measured: dict[str, str] = {}
    for backend, precision, threads in _configurations(settings):
        why = why_missing(backend, gpus)
        name = backend if why else f"{backend}, {precision}"
        if why is None:
            try:
                runtime = open_model(bundle, backend, precision, threads, cache)
            except UnheardError as error:
                why = str(error)
            else:
                embedders.append((backend, Embedder(bundle, runtime, precision, threads)))
        if why and by_name:
            raise BackendError(f"--backends: {name} does not work here ({why}); leave it out")
        if why:
            not_measured[name] = why
    return embedders, not_measured


def _configurations(settings: Settings) -> Iterator[tuple[str, str, int]]:
    for threads in settings.threads:
        for backend in settings.backends:
            for precision in settings.precisions:
                if precision != BF16 or backend == "openvino":
                    yield backend, precision, threads


def stage_jobs(
    embedders: Sequence[tuple[str, Embedder]], clips: StagedClips, batches: Sequence[int], cache: Path
) -> dict[StageKey, TimedJob]:
    """Every stage of every configuration at every batch size."""
    jobs: dict[StageKey, TimedJob] = {}
    front_ends = [front_end_of(each.bundle, each.runtime, backend, each.threads, cache) for backend, each in embedders]
    for batch in batches:
        jobs |= _common_jobs(embedders[0][1], clips, batch)
        for (backend, embedder), front_end in zip(embedders, front_ends, strict=True):
            of = (batch, backend, embedder.precision, embedder.threads)
            windows = clips.pick_windows(batch)
            if front_end is not None:
                jobs[StageKey("front_end", *of)] = _front_end_job(front_end, embedder.max_batch, windows)
            jobs[StageKey("model", *of)] = TimedJob(windows, embedder.run)
            jobs[StageKey("whole", *of)] = _whole_job(embedder, clips, batch)
    return jobs


def _common_jobs(embedder: Embedder, clips: StagedClips, batch: int) -> dict[StageKey, TimedJob]:
    # One clip's samples are freed before the next clip is decoded, as in `embed_encoded`.
    def decode(files: list[bytes]) -> None:
        for data in files:
            decode_audio(data)

    def resample(waves: list[tuple[NDArray[np.float32], int]]) -> None:
        for wave, rate_hz in waves:
            embedder.windows(wave, rate_hz)

    def prepare_rows(turn: int) -> tuple[NDArray[np.float32], list[int]]:
        counts = [len(part) for part in clips.pick(clips.windows, batch)(turn)]
        rng = np.random.default_rng(turn)
        return rng.standard_normal((sum(counts), embedder.manifest.embedding_size), np.float32), counts

    return {
        StageKey("decode", batch): TimedJob(clips.pick(clips.encoded, batch), decode),
        StageKey("resample", batch): TimedJob(clips.pick(clips.decoded, batch), resample),
        StageKey("pooling", batch): TimedJob(prepare_rows, lambda given: _pool_clips(*given)),
    }


def _front_end_job(front_end: Stage, most: int, windows: Callable[[int], NDArray[np.float32]]) -> TimedJob:
    """Log-mel of a batch, at most `most` windows in one call, as the model gets them."""

    def log_mel(batch: NDArray[np.float32]) -> None:
        for part in np.array_split(batch, -(-len(batch) // most)):
            front_end(part)

    return TimedJob(windows, log_mel)


def _whole_job(embedder: Embedder, clips: StagedClips, batch: int) -> TimedJob:
    return TimedJob(clips.pick(clips.encoded, batch), lambda files: embed_encoded(embedder, files))


def embed_encoded(embedder: Embedder, encoded: Sequence[bytes]) -> NDArray[np.float32]:
    """Bytes of n files -> embeddings [n, 128] float32; the windows of all files go through the model together."""
    window = embedder.manifest.window
    windows = [Recording.from_bytes(data, "clip", window.rate_hz).windows(window) for data in encoded]
    rows = embedder.run(np.concatenate(windows))  # [n_windows of all files, 128]
    return _pool_clips(rows, [len(part) for part in windows])


def _pool_clips(rows: NDArray[np.float32], counts: Sequence[int]) -> NDArray[np.float32]:
    """Each clip's mean [n_clips, 128] of the rows of its windows, `counts` of each, clip after clip."""
    return np.stack([pool(clip) for clip in np.split(rows, np.cumsum(counts)[:-1])])
