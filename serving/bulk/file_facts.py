"""What a row says of the file that it comes from: when it was recorded, and how to see that it has changed."""

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

from serving.audio.recorded_at import RecordedAt, recorded_at
from serving.files.file_record import open_regular

SURE_NS = 2_000_000_000  # FAT counts a file's times in steps of 2 s


@dataclass(frozen=True)
class FileStamp:
    """By which a file is known again.

    size      in bytes
    mtime_ns  time of its last change, in nanoseconds since 1970
    ctime_ns  time of the last change of the file or of what the file system keeps of it; no program can set it
    sha256    of its content, hex; "": unknown, because it changed while it was read
    """

    size: int
    mtime_ns: int
    ctime_ns: int
    sha256: str


NO_STAMP = FileStamp(0, 0, 0, "")


@dataclass(frozen=True)
class FileFacts:
    """See the module. recorded_at: None if nothing says it."""

    recorded_at: RecordedAt | None = None
    stamp: FileStamp = NO_STAMP


def facts_of(path: Path) -> FileFacts:
    """Read what a row says of its file. Of a file that cannot be read: nothing."""
    return FileFacts(recorded_at(path), stamp_of(path))


def stamp_of(path: Path) -> FileStamp:
    """The stamp of a file; NO_STAMP if it cannot be read."""
    try:
        with open_regular(path) as file:
            before = os.fstat(file.fileno())
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
            after = os.fstat(file.fileno())
    except (OSError, ValueError):  # ValueError: a zero byte in the path
        return NO_STAMP
    is_still = (before.st_mtime_ns, before.st_size) == (after.st_mtime_ns, after.st_size)
    return FileStamp(before.st_size, before.st_mtime_ns, before.st_ctime_ns, sha256 if is_still else "")


def confirmed(path: Path, known: FileStamp, known_ns: int) -> FileStamp | None:
    """The stamp of a file that still has the content of a known stamp: that one, or one with the times of a copied or
    touched file. None: it has another content, or cannot be read.

    known_ns   before this time all stamps were taken or confirmed, in nanoseconds since 1970
    The times alone decide only if they are the stamp's and lie well before `known_ns`: a change in the same tick of the
    clock does not move them. Otherwise the content is read and its SHA-256 compared: a file that was copied or touched
    is not embedded again, and one whose time was set back is.
    """
    if not known.sha256:
        return None
    try:
        now = path.stat()
    except (OSError, ValueError):
        return None
    if now.st_size != known.size:
        return None
    times = (now.st_mtime_ns, now.st_ctime_ns)
    if times == (known.mtime_ns, known.ctime_ns) and max(times) < known_ns - SURE_NS:
        return known
    stamp = stamp_of(path)
    return stamp if stamp.sha256 == known.sha256 else None


def is_unchanged(path: Path, known: FileStamp, known_ns: int) -> bool:
    """Whether a file still has the content of its stamp, see `confirmed`."""
    return confirmed(path, known, known_ns) is not None
