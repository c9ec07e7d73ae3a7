"""Locks for a folder that several processes may want to write at the same time."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from serving.command_line import say
from serving.errors import UsageError


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


@contextmanager
def held_alone(folder: Path, flag: str) -> Iterator[None]:
    """Hold a folder that exists, until the context or the process ends. On a file system without locks it is not held.

    flag     what names the folder, for the message
    errors   UsageError: another process holds it
    """
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise UsageError(
                    f"{folder}: another process is writing it; wait for its end, or give another {flag}"
                ) from error
        yield
    finally:
        os.close(descriptor)
