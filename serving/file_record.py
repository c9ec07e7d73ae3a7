"""Size and SHA-256 of a file, to recognise it by."""

import hashlib
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class FileRecord:
    """Size in bytes and SHA-256 (hex) of a file."""

    size: int
    sha256: str


def record_of(path: Path) -> FileRecord:
    """Read a file and return its record. OSError: it cannot be read."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return FileRecord(path.stat().st_size, digest)
