"""Size and SHA-256 of a file, to recognise it by."""

import hashlib
import io
import os
import stat
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class FileRecord:
    """Size in bytes and SHA-256 (hex) of a file."""

    size: int
    sha256: str


def record_of(path: Path) -> FileRecord:
    """Read a file and return its record. OSError: it cannot be read."""
    with open_regular(path) as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        return FileRecord(file.tell(), digest)


def record_of_bytes(content: bytes) -> FileRecord:
    """The record of a file with this content."""
    return FileRecord(len(content), hashlib.sha256(content).hexdigest())


def open_regular(path: Path) -> io.BufferedReader:
    """Open a file to read it. Errors as `regular_descriptor`."""
    return os.fdopen(regular_descriptor(path), "rb")


def regular_descriptor(path: Path) -> int:
    """Open a file and return its descriptor. OSError: it cannot be opened, or is a pipe or a device: maybe endless."""
    handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise OSError(0, "not a regular file", str(path))
    return handle
