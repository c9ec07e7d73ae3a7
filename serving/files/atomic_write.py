"""Write files so that readers find the old file or the complete new one, also after a crash or a power cut."""

import errno
import os
import secrets
import stat
from collections.abc import Callable
from pathlib import Path

# What some file systems (CIFS, vboxsf) answer that cannot sync a folder.
NO_SYNC_OF_FOLDERS = (errno.EINVAL, errno.EBADF, errno.ENOTSUP)


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` fill a temporary file in the folder of `path`, with the same suffix, and rename it to `path`.

    Exceptions of `write` pass through; the old file then stays and the temporary file is removed.
    """
    # Of this call alone: two processes may write the same file at a time.
    temporary = path.with_name(f".tmp-{secrets.token_hex(4)}-{path.name}")
    try:
        write(temporary)
        move_atomically(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def move_atomically(source: Path, path: Path) -> None:
    """Rename a finished file to `path` on the same file system, after its content has reached the disk."""
    sync_to_disk(source)
    source.replace(path)
    sync_to_disk(path.parent)


def sync_to_disk(path: Path) -> None:
    """Wait until a file's content, or a folder's list of names where the file system can do that, is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in NO_SYNC_OF_FOLDERS or not stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise
    finally:
        os.close(descriptor)
