"""Many files -> the embeddings of their windows, in order: some are decoded while others are embedded."""

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

from serving.errors import AudioError, UsageError

Key = TypeVar("Key")

Outcome = tuple[Key, "EmbeddedFile | AudioError"]

BYTES_A_WINDOW = 2**19  # of files: 5 s of 16 bits at 44.1 kHz are 441 kB


@dataclass(frozen=True)
class DecodedFile:
    """duration_s: of the recording; windows: [n_windows, ...] float32, as the model takes them.

    warnings  what of the file could not be read, a line each
    """

    duration_s: float
    windows: NDArray[np.float32]
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class EmbeddedFile:
    """duration_s: of the recording; rows: [n_windows, 128] float32, the embeddings of its windows.

    warnings  what of the file could not be read, a line each
    """

    duration_s: float
    rows: NDArray[np.float32]
    warnings: tuple[str, ...] = ()


def embed_each(
    files: Iterable[Key],
    size: Callable[[Key], int],
    decode: Callable[[Key], DecodedFile],
    run: Callable[[NDArray[np.float32]], NDArray[np.float32]],
    batch: int,
    threads: int,
) -> Generator[Outcome[Key]]:
    """Each file in order, with its embeddings or with the reason why there are none.

    files    whatever names them
    size     of a file, in bytes
    decode   called in `threads` threads at the same time; AudioError: this file has no embeddings
    run      windows [n, ...] -> rows [n, 128]; called with windows of several files, by one thread at a time
    batch    how many windows make a call of `run` worth it
    Each thread decodes some files and runs the model on them, so that hardly any waits for another. Which files share a
    call depends on their order and sizes alone. However many there are, only a few of them are in memory.
    """
    turn = Lock()

    def run_alone(windows: NDArray[np.float32]) -> NDArray[np.float32]:
        with turn:
            return run(windows)

    queue: deque[Future[list[Outcome[Key]]]] = deque()
    with ThreadPoolExecutor(threads, "embed") as pool:
        try:
            for some in _groups(files, size, batch):
                queue.append(pool.submit(_embed_group, some, decode, run_alone, batch))
                if len(queue) == 2 * threads:
                    yield from queue.popleft().result()
            while queue:
                yield from queue.popleft().result()
        finally:  # also where the consumer wants no more
            pool.shutdown(cancel_futures=True)


def _groups(files: Iterable[Key], size: Callable[[Key], int], batch: int) -> Iterator[list[Key]]:
    """Files for one thread, in order: as many as may give a batch, and few where they are large."""
    some: list[Key] = []
    n_bytes = 0
    for file in files:
        some.append(file)
        n_bytes += size(file)
        if len(some) == batch or n_bytes >= batch * BYTES_A_WINDOW:
            yield some
            some, n_bytes = [], 0
    if some:
        yield some


def _embed_group(
    files: Iterable[Key],
    decode: Callable[[Key], DecodedFile],
    run: Callable[[NDArray[np.float32]], NDArray[np.float32]],
    batch: int,
) -> list[Outcome[Key]]:
    outcomes: list[Outcome[Key]] = []
    pending: list[tuple[Key, DecodedFile | AudioError]] = []
    n_windows = 0
    for file in files:
        try:
            decoded = decode(file)
            n_windows += len(decoded.windows)
        except AudioError as error:
            decoded = error
        pending.append((file, decoded))
        if n_windows >= batch:
            outcomes += _embed(pending, run)
            pending, n_windows = [], 0
    return [*outcomes, *_embed(pending, run)]


def _embed(
    pending: list[tuple[Key, DecodedFile | AudioError]], run: Callable[[NDArray[np.float32]], NDArray[np.float32]]
) -> Iterator[Outcome[Key]]:
    clips = [decoded.windows for _, decoded in pending if isinstance(decoded, DecodedFile)]
    rows = run(np.concatenate(clips)) if clips else np.empty((0, 0), np.float32)
    first = 0
    for file, decoded in pending:
        if isinstance(decoded, AudioError):
            yield file, decoded
            continue
        last = first + len(decoded.windows)
        yield file, EmbeddedFile(decoded.duration_s, rows[first:last], decoded.warnings)
        first = last


def file_size(path: Path) -> int:
    """Bytes of a file; 0 where it cannot be asked, for then it cannot be decoded either."""
    try:
        return path.stat().st_size
    except (OSError, ValueError):  # ValueError: a zero byte in the path
        return 0


def list_paths(paths: Iterable[str | Path]) -> list[Path]:
    """The paths as a list; UsageError for a single path, and for what is no path."""
    if isinstance(paths, str | bytes | os.PathLike):
        raise UsageError(f"paths: got the single path {paths!s}; wanted a list of paths: [{str(paths)!r}]")
    try:
        given = list(paths)
    except TypeError as error:
        raise UsageError(f"paths: got {paths!r:.80}; wanted a list of paths") from error
    if strange := [path for path in given if not isinstance(path, str | os.PathLike)]:
        raise UsageError(f"paths: got {strange[0]!r:.80} among them; wanted paths as str or pathlib.Path")
    return [Path(path) for path in given]
