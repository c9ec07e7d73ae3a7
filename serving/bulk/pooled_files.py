"""The pooled embeddings of files, in threads of this process or in worker processes."""

from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from serving.bulk.embed_files import BYTES_A_WINDOW, embed_each, file_size
from serving.bulk.network_server import RemoteNetwork
from serving.bulk.processes import FEWEST_WINDOWS, choose_processes, group_names, open_worker_embedder, serve_network
from serving.bulk.worker_pool import work_in_processes
from serving.bundle.bundle import Bundle
from serving.embedder import Embedder
from serving.errors import AudioError
from serving.pooling import pool
from serving.runtime_choice import RuntimeChoice


@dataclass(frozen=True, eq=False)
class PooledFile:
    """The embedding of a file [size] float32, its duration, and one line for each part of it that could not be read."""

    embedding: NDArray[np.float32]
    duration_s: float
    warnings: tuple[str, ...]


Pooled = PooledFile | AudioError


@dataclass(frozen=True)
class PoolJob:
    """Paths of files -> their pooled embeddings, see `worker_pool.Job`."""

    bundle: Bundle
    choice: RuntimeChoice

    def open(self, network: RemoteNetwork | None) -> Callable[[list[str]], list[Pooled]]:
        """Open the embedder."""
        embedder = open_worker_embedder(self.bundle, self.choice, network)
        return lambda paths: list(_pool_here(embedder, [Path(path) for path in paths], embedder.max_batch))

    def lost(self, name: str, reason: str) -> list[Pooled]:
        """An error that names the file."""
        return [AudioError(f"{name}: cannot be read ({reason})")]


def pool_files(embedder: Embedder, files: Sequence[Path], processes: int | None) -> Generator[Pooled]:
    """Yield the embedding of each file in order, or the error why there is none.

    processes   1: threads of this process; None: as `choose_processes`
    """
    windows = len(files)
    if windows >= FEWEST_WINDOWS:
        windows += sum(map(file_size, files)) // BYTES_A_WINDOW
    if embedder.choice is None:
        processes = 1
    processes = choose_processes(processes, embedder.threads, windows)
    if processes == 1:
        # A few files use all threads.
        batch = max(1, min(embedder.max_batch, -(-len(files) // embedder.threads)))
        yield from _pool_here(embedder, files, batch)
        return
    assert embedder.choice is not None
    # The backend that `auto` has found here.
    job = PoolJob(embedder.bundle.at_absolute_path(), replace(embedder.choice, backend=embedder.backend, strict=True))
    groups = group_names(map(str, files), lambda path: 1 + file_size(Path(path)) // BYTES_A_WINDOW)
    with (
        serve_network(embedder) as server,
        closing(work_in_processes(job, groups, processes, server)) as results,
    ):
        for pooled in results:
            yield from pooled


def _pool_here(embedder: Embedder, files: Sequence[Path], batch: int) -> Generator[Pooled]:
    outcomes = embed_each(files, file_size, embedder.open_recording, embedder.run_prepared, batch, embedder.threads)
    with closing(outcomes):
        for _, outcome in outcomes:
            if isinstance(outcome, AudioError):
                yield outcome
            else:
                yield PooledFile(pool(outcome.rows), outcome.duration_s, outcome.warnings)
