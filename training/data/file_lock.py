"""Locks for a folder that several processes may want to write at the same time."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from serving.command_line import say


@contextmanager
def folder_lock(folder: Path) -> Iterator[None]:
    """Let one process at a time create `folder`. The others wait, and print one line that says so.

    The lock is a file beside the folder. It is released when its process ends, even if that is killed. If the lock
    file cannot be written there is no lock: writing into the folder will then fail with the same cause.
    """
    lock = FileLock(folder.with_name(f".{folder.name}.lock"))
    with suppress(OSError):
        folder.parent.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            say(f"{folder}: another process is writing it; waiting until it has finished")
            lock.acquire()
    try:
        yield
    finally:
        lock.release()
