"""Unpack an untrusted zip archive: every entry is checked before the first file is written."""

import re
import shutil
import stat
import struct
import zipfile
import zlib
from pathlib import Path, PurePosixPath

from serving.progress import track

MAX_BYTES = 20_000_000_000  # unpacked size: ten times the largest data set
MAX_RATIO = 200  # unpacked to compressed size; recordings reach 2
BROKEN_ARCHIVE = (zipfile.BadZipFile, zlib.error, struct.error, EOFError, NotImplementedError, ValueError)


def unpack(archive: Path, folder: str, out: Path) -> None:
    """Unpack one folder of a zip archive into `out`. zipfile compares each file with its CRC-32.

    errors   one of BROKEN_ARCHIVE: the archive is damaged, has an unsafe entry anywhere, unpacks to too much, or has
             no such folder; OSError from the disk
    """
    with zipfile.ZipFile(archive) as opened:
        entries = opened.infolist()
        for entry in entries:
            if reason := _unsafe(entry):
                raise zipfile.BadZipFile(f"its entry {entry.orig_filename[:200]!r} {reason}")
        _check_size(sum(entry.file_size for entry in entries), archive.stat().st_size)
        paths = [(entry, PurePosixPath(entry.filename).parts) for entry in entries]
        inside = [(entry, out.joinpath(*parts[1:])) for entry, parts in paths if parts[:1] == (folder,)]
        if not inside:
            raise zipfile.BadZipFile(f"it has no folder {folder}")
        for entry, path in track(inside, "unpacking"):
            if entry.is_dir():
                path.mkdir(parents=True, exist_ok=True)
                continue
            path.parent.mkdir(parents=True, exist_ok=True)
            with opened.open(entry) as compressed, path.open("wb") as file:
                shutil.copyfileobj(compressed, file, 1 << 20)


def _check_size(unpacked: int, compressed: int) -> None:
    """BadZipFile where the archive would unpack to too many bytes (a zip bomb)."""
    if unpacked > MAX_BYTES or unpacked > MAX_RATIO * compressed:
        raise zipfile.BadZipFile(
            f"its {compressed / 1e6:.3g} MB would unpack to {unpacked / 1e6:.3g} MB; allowed are {MAX_RATIO} times its "
            f"size and at most {MAX_BYTES / 1e6:.3g} MB"
        )


def _unsafe(entry: zipfile.ZipInfo) -> str | None:
    """Why an entry must not be unpacked; None if it is safe."""
    name, mode = entry.orig_filename, entry.external_attr >> 16  # the upper half holds the Unix mode, 0 if unknown
    if name.startswith("/"):
        return "has an absolute path"
    if "\\" in name or "\0" in name:
        return "has a backslash or a null in its path"
    if ".." in name.split("/"):
        return "leads out of the archive's folder"
    if any(re.match(r"[A-Za-z]:", part) for part in name.split("/")):
        return "has a drive letter in its path"
    if stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR):
        return "is a link or a device, not a file"
    if entry.flag_bits & 1:
        return "is encrypted"
    return None
