"""SHA-256 of recordings. Each file is read once in a process, as long as it stays the same."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from serving.cores import usable_cores
from serving.files.file_record import record_of

MOST_THREADS = 8  # more of them wait for the disk
FILES_A_TASK = 64  # of a thread: a task for each of a million files would take a gigabyte

_known: dict[Path, tuple[tuple[int, ...], str]] = {}  # what identified the file when it was read, and its SHA-256


def content_hash(path: Path) -> str:
    """The SHA-256 of a file's content (hex).

    A file that was hashed before is not read again, unless its size, its times or its place on the disk are others.
    errors   OSError: it cannot be read, or is a pipe or a device
    """
    status = path.stat()  # before the file is read: if it changes meanwhile, the next call reads it again
    stamp = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
    known = _known.get(path)
    if known is None or known[0] != stamp:
        known = _known[path] = stamp, record_of(path).sha256
    return known[1]


def content_hashes(paths: Sequence[Path]) -> list[str | None]:
    """`content_hash` of each file, in several threads; None: it cannot be read."""
    tasks = [paths[first : first + FILES_A_TASK] for first in range(0, len(paths), FILES_A_TASK)]
    with ThreadPoolExecutor(min(usable_cores(), MOST_THREADS)) as pool:
        return [each for part in pool.map(_hashes, tasks) for each in part]


def _hashes(paths: Sequence[Path]) -> list[str | None]:
    return [_hash_or_none(path) for path in paths]


def _hash_or_none(path: Path) -> str | None:
    try:
        return content_hash(path)
    except OSError:
        return None
