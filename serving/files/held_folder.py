"""Hold a folder or a file against other processes. The system lets go of it when the process ends, even if killed."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from serving.errors import UsageError


@contextmanager
def held_alone(folder: Path, flag: str) -> Iterator[None]:
    """Hold a folder that exists, until the context or the process ends. On a file system without locks it is not held.

    flag     what names the folder, for the message
    errors   UsageError: another process holds it
    """
    try:
        descriptor = _hold(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise UsageError(
            f"{folder}: another process is writing it; wait for its end, or give another {flag}"
        ) from error
    try:
        yield
    finally:
        os.close(descriptor)


@contextmanager
def held_in_turn(folder: Path) -> Iterator[None]:
    """As `held_alone`, but wait until no other process holds the folder."""
    descriptor = _hold(folder, fcntl.LOCK_EX)
    try:
        yield
    finally:
        os.close(descriptor)


def _hold(folder: Path, how: int) -> int:
    """Open and lock a folder. Returns the descriptor that holds it. BlockingIOError: another process does."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        lock(descriptor, how)
    except BlockingIOError:
        os.close(descriptor)
        raise
    return descriptor


def lock(descriptor: int, how: int = fcntl.LOCK_EX | fcntl.LOCK_NB) -> None:
    """Lock what is open, until it is closed. On a file system without locks nothing happens.

    errors   BlockingIOError: another process holds the lock
    """
    try:
        fcntl.flock(descriptor, how)
    except BlockingIOError:
        raise
    except OSError:
        pass  # ENOSYS, ENOLCK, EOPNOTSUPP and others: nobody can hold it there, so nobody does
