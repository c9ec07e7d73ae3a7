"""How many processes share a bulk job, and the embedder that each of them has."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import numpy as np

from serving.backends.backend_choice import runs_on_gpu
from serving.backends.bundle_runtime import with_front_end
from serving.bulk.network_server import NetworkServer, RemoteNetwork
from serving.bundle.bundle import Bundle, reopen_bundle
from serving.embedder import Embedder
from serving.errors import UsageError
from serving.memory import free_memory
from serving.runtime_choice import RuntimeChoice

# Measured with two threads: on up to four cores, threads are as fast as processes. Beyond, Python's lock stops them.
MOST_THREADED_CORES = 4
# A process takes 2 to 3 s of a core to start. A job of fewer windows ends sooner without.
FEWEST_WINDOWS = 4000
# A process with yamnet-compact takes 0.13 GB of its own; yamnet has 80 MB more weights, which a runtime may hold twice.
PROCESS_BYTES = 400_000_000
MOST_PROCESSES = 256
GROUP_WINDOWS = 32  # about a tenth of a second of work: what a worker gets at a time


def choose_processes(
    asked: int | None, cores: int, windows: int, free_bytes: int | None = None, process_bytes: int = PROCESS_BYTES
) -> int:
    """The number of processes for a job; 1: the job stays in this process, in `cores` threads.

    asked       by the user; None: as many as there are cores, and as free memory allows, if the job is large enough
    windows     of the job, estimated
    free_bytes  None: as `free_memory`
    process_bytes  that each takes
    errors      UsageError: asked is not in 1 to MOST_PROCESSES
    """
    if asked is not None:
        if not 1 <= asked <= MOST_PROCESSES:
            raise UsageError(f"processes: got {asked}; wanted 1 to {MOST_PROCESSES}")
        return asked
    if cores <= MOST_THREADED_CORES or windows < FEWEST_WINDOWS:
        return 1
    free = free_memory() if free_bytes is None else free_bytes
    return max(1, min(cores, MOST_PROCESSES, free // process_bytes))


def open_worker_embedder(bundle: Bundle, choice: RuntimeChoice, network: RemoteNetwork | None) -> Embedder:
    """The embedder of a worker process: with its own network in one thread, or with one that another process runs.

    errors   as `Embedder.load`
    """
    bundle = reopen_bundle(bundle)
    if network is None:
        runtime, threads = replace(choice, threads=1).open(bundle)
        return Embedder(bundle, runtime, choice.precision, threads)
    embedder = Embedder(bundle, with_front_end(bundle, network), choice.precision, 2)  # one waits, one decodes
    embedder.max_batch = network.max_batch
    return embedder


def group_names(names: Iterable[str], windows: Callable[[str], int]) -> Iterator[list[str]]:
    """Groups of files in order, each of about GROUP_WINDOWS windows. windows: name -> estimated number of them."""
    group: list[str] = []
    total = 0
    for name in names:
        group.append(name)
        total += windows(name)
        if total >= GROUP_WINDOWS:
            yield group
            group, total = [], 0
    if group:
        yield group


@contextmanager
def serve_network(embedder: Embedder) -> Iterator[NetworkServer | None]:
    """Run the embedder's network for worker processes, if it is on a GPU; None: each of them opens its own."""
    if not runs_on_gpu(embedder.runtime):
        yield None
        return
    silence = np.zeros((1, embedder.manifest.window.samples), np.float32)
    server = NetworkServer(embedder.network, embedder.prepare(silence).shape[1:])
    try:
        yield server
    finally:
        server.close()
