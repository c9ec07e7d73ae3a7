"""Fetch a data set from its authors' archive: ESC-50, ESC-10 (a part of ESC-50) or FSC22.

    python -m training.data.download --dataset ESC-50 --data-dir data/ESC-50

    data/.ESC-50.download       the archive and the files unpacked from it; removed when the data set is complete
    data/ESC-50.archive.json    URL, SHA-256 and size of the archive that the recordings came from

Each archive is of one pinned commit. Where its SHA-256 is known, it must match. Where it is not known, the first
download is trusted: its SHA-256 is recorded in archive.json, and a later download to the same place must match it.
"""

import json
import shutil
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from rich.table import Table

from serving.command_line import run_command, say, show
from serving.errors import DataError, UsageError, one_line
from serving.files.atomic_write import sync_to_disk, write_atomically
from serving.files.file_record import record_of
from serving.files.new_folder import flush_tree
from training.data.archives import ARCHIVES, Archive, fetch_archive
from training.data.clips import load_clips
from training.data.file_lock import folder_lock
from training.data.unpack import BROKEN_ARCHIVE, unpack


def download(dataset: str, data_dir: Path, archive: Archive | None = None) -> Path:
    """Download a data set's recordings into `data_dir`, unless they are there. Progress goes to stderr.

    archive  None takes the data set's own from ARCHIVES
    returns  data_dir, which load_clips reads; it appears complete or not at all
    errors   UsageError: the data set has no archive to fetch
             DataError: no network, a refusal by the server, a wrong SHA-256, a broken or unsafe archive, no space or
             no permission on the disk, or a `data_dir` that holds something else
    """
    if archive is None and dataset not in ARCHIVES:
        raise UsageError(f"dataset: got {dataset}, which has no archive to fetch; wanted one of {', '.join(ARCHIVES)}")
    archive = archive or ARCHIVES[dataset]
    place = data_dir.resolve()
    try:
        if not _is_complete(dataset, data_dir):
            place.parent.mkdir(parents=True, exist_ok=True)
            with folder_lock(place):
                if not _is_complete(dataset, data_dir):  # checked again: another process may have fetched it
                    say(f"{dataset}: {archive.holds}; license {archive.license}; from {archive.url}")
                    _fetch_and_unpack(dataset, archive, data_dir)
                    return data_dir
    except OSError as error:
        raise DataError(
            f"{error.filename or data_dir.parent}: cannot be written ({error.strerror or error}); free some space, "
            "change the folder's permissions, or give another --data-dir"
        ) from error
    say(f"{data_dir}: {dataset} is there already; nothing to fetch")
    return data_dir


def _is_complete(dataset: str, data_dir: Path) -> bool:
    if not data_dir.exists() or (data_dir.is_dir() and not any(data_dir.iterdir())):
        return False
    try:
        load_clips(dataset, data_dir)
    except DataError as error:
        raise DataError(
            f"{data_dir}: exists, but is not a complete {dataset} ({_without_advice(error)}); "
            f"move it away so that {dataset} can be fetched, or give another --data-dir"
        ) from error
    return True


def _without_advice(error: DataError) -> str:
    return str(error).rpartition("; ")[0] or str(error)


def _by_hand(archive: Archive, data_dir: Path) -> str:
    wanted = " and ".join(str(data_dir / name) for name in archive.layout)
    return f"fetch it by hand and unpack its folder {archive.folder} as {data_dir}, so that {wanted} are there"


def _fetch_and_unpack(dataset: str, archive: Archive, data_dir: Path) -> None:
    """Work in a hidden folder beside data_dir. A complete archive is kept there if unpacking is interrupted."""
    place = data_dir.resolve()
    work = place.with_name(f".{place.name}.download")
    work.mkdir(exist_ok=True)
    zipped, unpacked = work / "archive.zip", work / "unpacked"
    try:
        for left_over in work.iterdir():  # from a call that was killed
            if left_over.is_dir():
                shutil.rmtree(left_over)
            elif left_over != zipped:
                left_over.unlink()
        fetch_archive(dataset, archive, _expected_sha256(archive, place), zipped, _by_hand(archive, data_dir))
        _unpack(dataset, archive, zipped, unpacked, data_dir)
        record = {"url": archive.url, "sha256": record_of(zipped).sha256, "bytes": zipped.stat().st_size}
        write_atomically(_record_path(place), lambda path: path.write_text(json.dumps(record) + "\n"))
        flush_tree(unpacked)
        if place.exists():
            place.rmdir()  # it is empty: _is_complete refuses anything else
        unpacked.rename(place)
        sync_to_disk(place.parent)
        zipped.unlink()
    finally:
        shutil.rmtree(unpacked, ignore_errors=True)
        if not zipped.exists():
            shutil.rmtree(work, ignore_errors=True)


def _record_path(place: Path) -> Path:
    return place.with_name(f"{place.name}.archive.json")


def _expected_sha256(archive: Archive, place: Path) -> str | None:
    """The known SHA-256, or the one recorded by the first download from the same URL."""
    if archive.sha256:
        return archive.sha256
    try:
        record = json.loads(_record_path(place).read_text())
        return str(record["sha256"]) if record["url"] == archive.url else None
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None


def _unpack(dataset: str, archive: Archive, zipped: Path, unpacked: Path, data_dir: Path) -> None:
    """Unpack the archive and load its table of clips. An archive that cannot be used is removed."""
    try:
        unpacked.mkdir()
        unpack(zipped, archive.folder, unpacked)
        table = load_clips(dataset, unpacked)
    except (*BROKEN_ARCHIVE, DataError) as error:
        zipped.unlink()
        reason = _without_advice(error) if isinstance(error, DataError) else one_line(error)
        raise DataError(
            f"{archive.url}: is not a usable archive of {dataset} ({reason.replace(str(unpacked), archive.folder)}); "
            f"it has been removed: try again, or {_by_hand(archive, data_dir)}"
        ) from error
    if len(table.clips) != archive.clips:
        say(f"{data_dir}: has {len(table.clips)} clips, where {archive.clips} were expected")


@dataclass(frozen=True)
class DownloadOptions:
    """Download a data set's recordings from its authors' archive, unless the folder has them."""

    dataset: str = "ESC-50"
    """ESC-50, ESC-10 or FSC22: archives of about 600 MB each"""
    data_dir: Path | None = None
    """folder for the recordings; default: data/DATASET"""


def _work(options: DownloadOptions) -> dict[str, Any]:
    started = time.perf_counter()
    folder = download(options.dataset, options.data_dir or Path("data") / options.dataset)
    table = load_clips(options.dataset, folder)
    result = {
        "dataset": options.dataset,
        "data_dir": str(folder),
        "clips": len(table.clips),
        "classes": len(table.classes),
        "license": ARCHIVES[options.dataset].license,
        "url": ARCHIVES[options.dataset].url,
        "seconds": round(time.perf_counter() - started, 1),
    }
    grid = Table("what", "value")
    for name in ("clips", "classes", "license", "url"):
        grid.add_row(name, str(result[name]))
    show(grid, f"{options.dataset} in {folder}")
    return result


main = partial(run_command, DownloadOptions, _work, "python -m training.data.download")

if __name__ == "__main__":
    raise SystemExit(main())
