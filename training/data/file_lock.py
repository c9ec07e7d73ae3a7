"""One training at a time, where several on a machine share a cache folder."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from serving.command import say


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Let one process at a time make what lies in `folder`; the others wait, and say so.

    The lock is a file beside it, and falls with the process that holds it. A cache that cannot be written has none:
    whoever comes to write into it will tell.
    """
    lock = FileLock(folder.with_name(f".{folder.name}.lock"))
    with suppress(OSError):
        folder.parent.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            say(f"{folder}: another training is making it; waiting for that")
            lock.acquire()
    try:
        yield
    finally:
        lock.release()
