"""Many files -> the embeddings of their windows, in order: some are decoded while others are embedded."""

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from serving.errors import AudioError

Key = TypeVar("Key")

AHEAD_BYTES = 2**26  # of files decoded ahead of the runtime, so that a few long ones do not fill the memory


@dataclass(frozen=True)
class DecodedFile:
    """duration_s: of the recording; windows: [n_windows, ...] float32, as the model takes them."""

    duration_s: float
    windows: NDArray[np.float32]


@dataclass(frozen=True)
class EmbeddedFile:
    """duration_s: of the recording; rows: [n_windows, 128] float32, the embeddings of its windows."""

    duration_s: float
    rows: NDArray[np.float32]


def embed_each(
    files: Iterable[Key],
    size: Callable[[Key], int],
    decode: Callable[[Key], DecodedFile],
    run: Callable[[NDArray[np.float32]], NDArray[np.float32]],
    batch: int,
    threads: int,
) -> Generator[tuple[Key, EmbeddedFile | AudioError]]:
    """Each file in order, with its embeddings or with the reason why there are none.

    files    whatever names them
    size     of a file, in bytes
    decode   called in `threads` threads at the same time; AudioError: this file has no embeddings
    run      windows [n, ...] -> rows [n, 128]; called in the caller's thread, with windows of several files
    batch    how many windows make a call of `run` worth it
    However many files there are, only a few of them are in memory.
    """
    pending: list[tuple[Key, DecodedFile | AudioError]] = []
    n_windows = 0
    for file, decoded in _decode_ahead(files, size, decode, 2 * batch + threads, threads):
        pending.append((file, decoded))
        n_windows += len(decoded.windows) if isinstance(decoded, DecodedFile) else 0
        if n_windows >= batch or n_windows == 0:
            yield from _embed(pending, run)
            pending, n_windows = [], 0
    yield from _embed(pending, run)


def _embed(
    pending: list[tuple[Key, DecodedFile | AudioError]], run: Callable[[NDArray[np.float32]], NDArray[np.float32]]
) -> Iterator[tuple[Key, EmbeddedFile | AudioError]]:
    clips = [decoded.windows for _, decoded in pending if isinstance(decoded, DecodedFile)]
    rows = iter(np.split(run(np.concatenate(clips)), np.cumsum([len(clip) for clip in clips])[:-1]) if clips else [])
    for file, decoded in pending:
        yield file, EmbeddedFile(decoded.duration_s, next(rows)) if isinstance(decoded, DecodedFile) else decoded


def _decode_ahead(
    files: Iterable[Key],
    size: Callable[[Key], int],
    decode: Callable[[Key], DecodedFile],
    most: int,
    threads: int,
) -> Iterator[tuple[Key, DecodedFile | AudioError]]:
    """Decoded files in order, at most so many of them, and AHEAD_BYTES, ahead of the consumer."""

    def outcome(file: Key) -> DecodedFile | AudioError:
        try:
            return decode(file)
        except AudioError as error:
            return error

    queue: deque[tuple[Key, int, Future[DecodedFile | AudioError]]] = deque()
    held = 0
    with ThreadPoolExecutor(threads, "decode") as pool:
        try:
            for file in files:
                bytes_of_file = size(file)
                while queue and (len(queue) >= most or held + bytes_of_file > AHEAD_BYTES):
                    first, bytes_of_first, future = queue.popleft()
                    held -= bytes_of_first
                    yield first, future.result()
                queue.append((file, bytes_of_file, pool.submit(outcome, file)))
                held += bytes_of_file
            while queue:
                first, _, future = queue.popleft()
                yield first, future.result()
        finally:  # also where the consumer wants no more
            pool.shutdown(cancel_futures=True)


def file_size(path: Path) -> int:
    """Bytes of a file; 0 where it cannot be asked, for then it cannot be decoded either."""
    try:
        return path.stat().st_size
    except (OSError, ValueError):  # ValueError: a zero byte in the path
        return 0
