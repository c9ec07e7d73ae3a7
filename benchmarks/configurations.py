"""The configurations that a latency measurement goes through: backends x precisions x threads, at each batch size."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.runtimes import front_end_of, missing, open_model
from benchmarks.stages import Clips, Key, front_end_job, model_jobs, shared_jobs
from benchmarks.timing import Job
from serving.bundle import BF16, Bundle
from serving.embedder import Embedder
from serving.errors import BackendError, UnheardError


@dataclass(frozen=True)
class Settings:
    """What the flags ask for, checked."""

    backends: list[str]
    precisions: list[str]
    batches: list[int]
    threads: list[int]


def open_all(
    settings: Settings, bundle: Bundle, gpus: list[str], cache: Path, by_name: bool
) -> tuple[list[tuple[str, Embedder]], dict[str, str]]:
    """An embedder for each (backend, precision, threads) that works, and why the others do not.

    by_name  the backends were asked for by name
    errors   BackendError: one that was asked for by name does not work here
    """
    embedders: list[tuple[str, Embedder]] = []
    refused: dict[str, str] = {}
    for backend, precision, threads in _configurations(settings):
        why = missing(backend, gpus)
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
            refused[name] = why
    return embedders, refused


def _configurations(settings: Settings) -> Iterator[tuple[str, str, int]]:
    for threads in settings.threads:
        for backend in settings.backends:
            for precision in settings.precisions:
                if precision != BF16 or backend == "openvino":
                    yield backend, precision, threads


def make_jobs(
    embedders: Sequence[tuple[str, Embedder]], clips: Clips, batches: Sequence[int], cache: Path
) -> dict[Key, Job]:
    """All that is timed."""
    jobs: dict[Key, Job] = {}
    front_ends = [front_end_of(each.bundle, each.runtime, backend, each.threads, cache) for backend, each in embedders]
    for batch in batches:
        jobs |= shared_jobs(embedders[0][1], clips, batch)
        for (backend, embedder), front_end in zip(embedders, front_ends, strict=True):
            if front_end is not None:
                key = Key("front_end", batch, backend, embedder.precision, embedder.threads)
                jobs[key] = front_end_job(front_end, embedder.max_batch, clips, batch)
            jobs |= model_jobs(embedder, backend, clips, batch)
    return jobs
