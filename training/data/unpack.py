"""Unpack a zip archive that nobody has vouched for."""

import re
import shutil
import stat
import struct
import zipfile
import zlib
from pathlib import Path, PurePosixPath

from training.data.fetch import progress_bar

MAX_BYTES = 20_000_000_000  # unpacked: ten times the largest data set
MAX_RATIO = 200  # unpacked to packed; recordings reach 2
BROKEN_ARCHIVE = (zipfile.BadZipFile, zlib.error, struct.error, EOFError, NotImplementedError, ValueError)


def extract(path: Path, folder: str, out: Path) -> None:
    """Unpack one folder of an archive into `out`. Every file is compared with its check sum as it is unpacked.

    errors   one of BROKEN_ARCHIVE: damaged, unsafe to unpack, or too much to unpack; OSError from the disk
    """
    with zipfile.ZipFile(path) as archive, progress_bar() as bar:
        entries = _entries_of(archive, folder, path.stat().st_size)
        task = bar.add_task("unpacking", total=sum(info.file_size for info, _ in entries))
        for info, path in entries:
            if info.is_dir():
                (out / path).mkdir(parents=True, exist_ok=True)
                continue
            (out / path).parent.mkdir(parents=True, exist_ok=True)
            with archive.open(info) as packed, (out / path).open("wb") as file:
                shutil.copyfileobj(packed, file, 1 << 20)
            bar.advance(task, info.file_size)


def _entries_of(archive: zipfile.ZipFile, folder: str, archive_bytes: int) -> list[tuple[zipfile.ZipInfo, Path]]:
    """The entries inside a folder of the archive, each with its path from there.

    errors   BadZipFile: any entry, inside or outside that folder, is unsafe to unpack; too much to unpack; no folder
    """
    entries = archive.infolist()
    for info in entries:
        if reason := _danger(info):
            raise zipfile.BadZipFile(f"its entry {info.orig_filename[:200]!r} {reason}")
    unpacked = sum(info.file_size for info in entries)
    if unpacked > MAX_BYTES or unpacked > MAX_RATIO * archive_bytes:
        raise zipfile.BadZipFile(
            f"its {archive_bytes / 1e6:.3g} MB would unpack to {unpacked / 1e6:.3g} MB; allowed are {MAX_RATIO} times "
            f"its size and at most {MAX_BYTES / 1e6:.3g} MB"
        )
    paths = [(info, PurePosixPath(info.filename)) for info in entries]
    inside = [(info, Path(*path.parts[1:])) for info, path in paths if path.parts[:1] == (folder,)]
    if not inside:
        raise zipfile.BadZipFile(f"it has no folder {folder}")
    return inside


def _danger(info: zipfile.ZipInfo) -> str | None:
    """Why an entry must not be unpacked; None where it may."""
    name, mode = info.orig_filename, info.external_attr >> 16  # the upper half is Unix's, 0 where there is none
    if name.startswith("/"):
        return "has an absolute path"
    if "\\" in name or "\0" in name:
        return "has a backslash or a null in its path"
    if ".." in name.split("/"):
        return "leads out of the archive's folder"
    if any(re.match(r"[A-Za-z]:", step) for step in name.split("/")):
        return "has a drive letter in its path"
    if stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR):
        return "is a link or a device, not a file"
    if info.flag_bits & 1:
        return "is encrypted"
    return None
