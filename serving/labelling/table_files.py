"""Where tables of labels go: all recordings into one file, or one file for each recording; whole or not at all."""

import hashlib
import json
import os
from collections.abc import Callable, Iterable
from pathlib import Path, PurePosixPath
from typing import Any

from serving.files.atomic_write import write_atomically
from serving.files.new_folder import new_folder
from serving.labelling.table_formats import LabelledRecording, TableWriter

# What follows a recording's whole name, so that a.wav and a.flac get two tables.
SUFFIXES = {"csv": ".csv", "parquet": ".parquet", "raven": ".selections.txt", "audacity": ".labels.txt"}
MARK = "labels.json"  # the settings; it says what a folder of tables is

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
    overwrite: bool,
) -> None:
    """Write a file for each recording, also for those without a label, in the recordings' folders below this one.

    settings    that the tables depend on, as JSON
    suffix      of the files, after a recording's whole name
    overwrite   replace the folder, if it is one of tables
    errors      UsageError: the folder exists, or is another
    """
    with new_folder(folder, overwrite, MARK) as new:
        (new / MARK).write_text(json.dumps(settings, indent=1) + "\n")
        for recording in recordings:
            place = PurePosixPath(recording.path)
            path = new / place.parent / _table_name(place.name, suffix)
            path.parent.mkdir(parents=True, exist_ok=True)
            with open_table(path) as table:
                table.write(recording)


def _table_name(name: str, suffix: str) -> str:
    """The name of a recording's table; one that no file may have is cut, and ends with a part of the name's SHA-256."""
    if len(os.fsencode(name + suffix)) <= MOST_BYTES:
        return name + suffix
    end = f"~{hashlib.sha256(os.fsencode(name)).hexdigest()[:8]}{suffix}"
    return os.fsencode(name)[: MOST_BYTES - len(end)].decode("utf-8", "ignore") + end
