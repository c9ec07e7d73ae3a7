"""Where tables of labels go: all recordings into one file, or one file for each recording; whole or not at all."""

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from serving.files.atomic_write import write_atomically
from serving.files.file_record import record_of
from serving.files.new_folder import new_folder
from serving.labelling.table_formats import LabelledRecording, TableWriter

# What follows a recording's whole name, so that a.wav and a.flac get two tables.
SUFFIXES = {"csv": ".csv", "parquet": ".parquet", "raven": ".selections.txt", "audacity": ".labels.txt"}
MARK = "labels.json"  # the settings; it says what a folder of tables is
FILES = "files"  # in it: the tables as they were written, path in the folder -> SHA-256

MOST_BYTES = 255  # of a file's name

OpenTable = Callable[[Path], TableWriter]


def write_one_table(path: Path, recordings: Iterable[LabelledRecording], open_table: OpenTable) -> None:
    """Write all recordings into one file. Exceptions pass through; an old file then stays as it was."""

    def write(temporary: Path) -> None:
        with open_table(temporary) as table:
            for recording in recordings:
                table.write(recording)

    write_atomically(path, write)


def write_tables(
    folder: Path,
    settings: dict[str, Any],
    recordings: Iterable[LabelledRecording],
    open_table: OpenTable,
    suffix: str,
    may_replace: bool,
    keep: bool,
) -> int:
    """Write a file for each recording, also for those without a label, in the recordings' folders below this one.

    settings     that the tables depend on, as JSON
    suffix       of the files, after a recording's whole name
    may_replace  replace the folder, if it is one of tables
    keep         of the old folder, keep tables that were changed since they were written, and all other files
    returns      number of changed tables that were kept
    errors       UsageError: the folder exists, or is another, or a file to keep cannot be read
    """
    written: dict[str, str] = {}
    with new_folder(folder, may_replace, MARK) as new:
        for recording in recordings:
            place = PurePosixPath(recording.path)
            path = new / place.parent / _table_name(place.name, suffix)
            path.parent.mkdir(parents=True, exist_ok=True)
            with open_table(path) as table:
                table.write(recording)
            written[path.relative_to(new).as_posix()] = record_of(path).sha256
        changed = _keep_others(folder, new, written) if keep and folder.exists() else 0
        # Of a table that was kept, this is the SHA-256 of what it would be: so it is known as changed the next time.
        (new / MARK).write_text(json.dumps({**settings, FILES: written}, indent=1) + "\n")
    return changed


def _keep_others(old: Path, new: Path, written: Mapping[str, str]) -> int:
    """Copy into the new folder what the old one holds, but for tables that are as they were written.

    written   table in the new folder -> SHA-256
    returns   number of tables among them that were changed
    """
    known, changed = _listed_files(old / MARK), 0
    for path in _files(old):
        name = path.relative_to(old).as_posix()
        if name == MARK or (not path.is_symlink() and record_of(path).sha256 in (known.get(name), written.get(name))):
            continue
        target = new / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.unlink(missing_ok=True)
        shutil.copy2(path, target, follow_symlinks=False)
        changed += name in known or name in written
    return changed


def _listed_files(mark: Path) -> Mapping[str, str]:
    """The tables that the mark of a folder lists with their SHA-256; {} for one of an earlier version, or a broken one.

    What is not listed counts as the user's own.
    """
    try:
        listed = json.loads(mark.read_text()).get(FILES)
    except (OSError, ValueError, AttributeError):
        return {}
    return listed if isinstance(listed, dict) else {}


def _files(folder: Path) -> Iterator[Path]:
    """The files in a folder at any depth, and links, which are not followed. OSError: a folder cannot be listed."""

    def refuse(error: OSError) -> None:
        raise error

    for place, folders, names in os.walk(folder, onerror=refuse):
        links = [name for name in folders if Path(place, name).is_symlink()]
        yield from (Path(place, name) for name in (*names, *links))


def _table_name(name: str, suffix: str) -> str:
    """The name of a recording's table; one that no file may have is cut, and ends with a part of the name's SHA-256."""
    if len(os.fsencode(name + suffix)) <= MOST_BYTES:
        return name + suffix
    end = f"~{hashlib.sha256(os.fsencode(name)).hexdigest()[:8]}{suffix}"
    return os.fsencode(name)[: MOST_BYTES - len(end)].decode("utf-8", "ignore") + end
