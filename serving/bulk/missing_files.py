"""Recordings whose rows an update keeps although they are no longer in the folder."""

import csv
from collections.abc import Iterable
from pathlib import Path

from serving.csv_cells import safe_cell


def note_missing(folder: Path, kept: Iterable[str], errors: Path) -> int:
    """Append the recordings that are no longer there to the CSV file of errors. Returns their number."""
    missing = [name for name in kept if not (folder / name).exists()]
    if missing:
        with errors.open("a", newline="", encoding="utf-8", errors="backslashreplace") as file:
            lines = csv.writer(file)
            lines.writerows((safe_cell(name), "no longer in the folder; its rows were kept") for name in missing)
    return len(missing)
