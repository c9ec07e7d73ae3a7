"""Embed many files in order; some are decoded while others are embedded."""

import os
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from serving.audio import PreparedRecording
from serving.errors import AudioError, UsageError

FileKey = TypeVar("FileKey")

Outcome = tuple[FileKey, "FileEmbeddings | AudioError"]

RunNetwork = Callable[[NDArray[np.float32]], NDArray[np.float32]]  # inputs [n, ...] -> embeddings [n, size]

BYTES_A_WINDOW = 2**19  # estimate from the file size: 5 s of 16 bits at 44.1 kHz are 441 kB


@dataclass(frozen=True)
class FileEmbeddings:
    """The embeddings of one file.

    duration_s  of the recording
    rows        [n_windows, 128] float32, one for each window
    warnings    one line for each part of the file that could not be read
    """

    duration_s: float
    rows: NDArray[np.float32]
    warnings: tuple[str, ...] = ()


def embed_each(
    files: Iterable[FileKey],
    size: Callable[[FileKey], int],
    prepare: Callable[[FileKey], PreparedRecording],
    run: RunNetwork,
    batch: int,
    threads: int,
) -> Generator[Outcome[FileKey]]:
    """Yield each file in order, with its embeddings or with the error why there are none.

    files    names, paths or other keys of the files
    size     key -> size of the file in bytes
    prepare  key -> decoded and prepared recording; called in `threads` threads at the same time; AudioError: the file
             has no embeddings
    run      inputs [n, ...] -> embeddings [n, 128]; called with the windows of several files, by one thread at a time
    batch    number of windows that makes a call of `run` efficient
    Each thread decodes a group of files and runs the model on them, so threads rarely wait for each other. Which files
    share a call depends only on their order and sizes. Only a few files are in memory at any time.
    """
    lock = Lock()

    def run_locked(inputs: NDArray[np.float32]) -> NDArray[np.float32]:
        with lock:
            return run(inputs)

    queue: deque[Future[list[Outcome[FileKey]]]] = deque()
    with ThreadPoolExecutor(threads, "embed") as pool:
        try:
            for group in _groups(files, size, batch):
                queue.append(pool.submit(_embed_group, group, prepare, run_locked, batch))
                if len(queue) == 2 * threads:
                    yield from queue.popleft().result()
            while queue:
                yield from queue.popleft().result()
        finally:  # also if the consumer stops early
            pool.shutdown(cancel_futures=True)


def _groups(files: Iterable[FileKey], size: Callable[[FileKey], int], batch: int) -> Iterator[list[FileKey]]:
    """Yield groups of files for one thread, in order: as many as may give a batch, fewer if they are large."""
    group: list[FileKey] = []
    n_bytes = 0
    for file in files:
        group.append(file)
        n_bytes += size(file)
        if len(group) == batch or n_bytes >= batch * BYTES_A_WINDOW:
            yield group
            group, n_bytes = [], 0
    if group:
        yield group


def _embed_group(
    files: Iterable[FileKey],
    prepare: Callable[[FileKey], PreparedRecording],
    run: RunNetwork,
    batch: int,
) -> list[Outcome[FileKey]]:
    outcomes: list[Outcome[FileKey]] = []
    pending: list[tuple[FileKey, PreparedRecording | AudioError]] = []
    n_windows = 0
    for file in files:
        try:
            prepared = prepare(file)
            n_windows += len(prepared.inputs)
        except AudioError as error:
            prepared = error
        pending.append((file, prepared))
        if n_windows >= batch:
            outcomes += _embed(pending, run)
            pending, n_windows = [], 0
    return [*outcomes, *_embed(pending, run)]


def _embed(
    pending: list[tuple[FileKey, PreparedRecording | AudioError]],
    run: RunNetwork,
) -> Iterator[Outcome[FileKey]]:
    inputs = [prepared.inputs for _, prepared in pending if isinstance(prepared, PreparedRecording)]
    rows = run(np.concatenate(inputs)) if inputs else np.empty((0, 0), np.float32)
    first = 0
    for file, prepared in pending:
        if isinstance(prepared, AudioError):
            yield file, prepared
            continue
        last = first + len(prepared.inputs)
        yield file, FileEmbeddings(prepared.duration_s, rows[first:last], prepared.warnings)
        first = last


def file_size(path: Path) -> int:
    """Size of a file in bytes; 0 if it is unknown: decoding then gives the reason."""
    try:
        return path.stat().st_size
    except (OSError, ValueError):  # ValueError: a zero byte in the path
        return 0


def list_paths(paths: Iterable[str | Path]) -> list[Path]:
    """The paths as a list. UsageError: a single path instead of a list, or an item that is not a path."""
    if isinstance(paths, str | bytes | os.PathLike):
        raise UsageError(f"paths: got the single path {paths!s}; wanted a list of paths: [{str(paths)!r}]")
    try:
        given = list(paths)
    except TypeError as error:
        raise UsageError(f"paths: got {paths!r:.80}; wanted a list of paths") from error
    if strange := [path for path in given if not isinstance(path, str | os.PathLike)]:
        raise UsageError(f"paths: got {strange[0]!r:.80} among them; wanted paths as str or pathlib.Path")
    return [Path(path) for path in given]
