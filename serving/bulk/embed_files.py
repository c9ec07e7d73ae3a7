"""Embed many files in order; some are decoded while others are embedded."""

import os
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from threading import Event, Lock
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from serving.audio import PreparedWindows, WindowFacts
from serving.errors import AudioError, UsageError

FileKey = TypeVar("FileKey")

Outcome = tuple[FileKey, "FileEmbeddings | AudioError"]

RunNetwork = Callable[[NDArray[np.float32]], NDArray[np.float32]]  # inputs [n, ...] -> embeddings [n, size]

WINDOW_FACTS = tuple(each.name for each in fields(WindowFacts))
BYTES_A_WINDOW = 2**19  # estimate from the file size: 5 s of 16 bits at 44.1 kHz are 441 kB


@dataclass(frozen=True, eq=False, kw_only=True)
class FileEmbeddings(WindowFacts):
    """The embeddings of all windows of one file.

    duration_s  of the recording
    rows        [n_windows, 128] float32, one for each window
    warnings    one line for each part of the file that could not be read
    """

    duration_s: float
    rows: NDArray[np.float32]
    warnings: tuple[str, ...] = ()


class PreparedFile(Protocol):
    """A file whose prepared windows are read block by block, such as a `RecordingStream`.

    duration_s, warnings   known at the end
    """

    def __iter__(self) -> Iterator[PreparedWindows]: ...

    @property
    def duration_s(self) -> float: ...

    @property
    def warnings(self) -> tuple[str, ...]: ...


def embed_each(
    files: Iterable[FileKey],
    size: Callable[[FileKey], int],
    prepare: Callable[[FileKey], PreparedFile],
    run: RunNetwork,
    batch: int,
    threads: int,
    stop: Event | None = None,
) -> Generator[Outcome[FileKey]]:
    """Yield each file in order, with its embeddings or with the error why there are none.

    files    names, paths or other keys of the files
    size     key -> size of the file in bytes
    prepare  key -> the file's prepared windows; called and read in `threads` threads at the same time; AudioError: the
             file has no embeddings
    run      inputs [n, ...] -> embeddings [n, 128]; called with the windows of several files, by one thread at a time
    batch    number of windows that makes a call of `run` efficient
    stop     is set when no more outcomes are wanted. No file is read on after its current block then; a file that takes
             long for a block may look at it
    Each thread decodes a group of files and runs the model on them, so threads rarely wait for each other. Which files
    share a call depends only on their order and sizes. Only a few files are in memory at any time, and of a long one
    only a batch of windows, besides its embeddings.
    """
    lock, stop = Lock(), stop or Event()

    def run_locked(inputs: NDArray[np.float32]) -> NDArray[np.float32]:
        with lock:
            return run(inputs)

    queue: deque[Future[list[Outcome[FileKey]]]] = deque()
    with ThreadPoolExecutor(threads, "embed") as pool:
        try:
            for group in _groups(files, size, batch):
                queue.append(pool.submit(_embed_group, group, prepare, run_locked, batch, stop))
                if len(queue) == 2 * threads:
                    yield from queue.popleft().result()
            while queue:
                yield from queue.popleft().result()
        finally:  # also if the consumer stops early
            stop.set()
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


@dataclass
class _OpenFile(Generic[FileKey]):
    """A file of a group while its windows are embedded. error: why it has no embeddings."""

    key: FileKey
    prepared: PreparedFile | None = None
    blocks: list[PreparedWindows] = field(default_factory=list)  # without inputs, once they are embedded
    rows: list[NDArray[np.float32]] = field(default_factory=list)
    error: AudioError | None = None

    def outcome(self) -> Outcome[FileKey]:
        if self.error or not self.prepared:
            return self.key, self.error or AudioError(f"{self.key}: was not read")
        facts = {name: _joined([getattr(block, name) for block in self.blocks]) for name in WINDOW_FACTS}
        rows, prepared = _joined(self.rows), self.prepared
        return self.key, FileEmbeddings(duration_s=prepared.duration_s, rows=rows, warnings=prepared.warnings, **facts)


def _embed_group(
    keys: Iterable[FileKey], prepare: Callable[[FileKey], PreparedFile], run: RunNetwork, batch: int, stop: Event
) -> list[Outcome[FileKey]]:
    """The outcomes of a group; none after the stop, when nobody takes them."""
    files: list[_OpenFile[FileKey]] = []
    waiting: list[tuple[_OpenFile[FileKey], PreparedWindows]] = []
    n_windows = 0
    for key in keys:
        if stop.is_set():
            return []
        file = _OpenFile(key)
        files.append(file)
        try:
            file.prepared = prepare(key)
            for block in file.prepared:
                if stop.is_set():  # the rest of a night may take minutes
                    return []
                waiting.append((file, block))
                n_windows += len(block)
                if n_windows >= batch:
                    _embed(waiting, run)
                    waiting, n_windows = [], 0
        except AudioError as error:
            file.error = error
    _embed(waiting, run)
    return [file.outcome() for file in files]


def _embed(waiting: list[tuple[_OpenFile[FileKey], PreparedWindows]], run: RunNetwork) -> None:
    if not waiting:
        return
    rows = run(_joined([block.inputs for _, block in waiting]))
    first = 0
    for file, block in waiting:
        file.rows.append(rows[first : first + len(block)])
        file.blocks.append(replace(block, inputs=block.inputs[:0].copy()))
        first += len(block)


def _joined(arrays: list[NDArray[Any]]) -> NDArray[Any]:
    return arrays[0] if len(arrays) == 1 else np.concatenate(arrays)


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
