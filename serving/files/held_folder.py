"""Hold a folder against other processes. The system lets go of it when its process ends, even if that is killed."""

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
        fcntl.flock(descriptor, how)
    except BlockingIOError:
        os.close(descriptor)
        raise
    except OSError:
        pass  # a file system without locks
    return descriptor
