"""What the list of errors says of recordings whose rows an update keeps."""

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from serving.files.csv_cells import safe_cell


@dataclass(frozen=True)
class KeptFiles:
    """Numbers of kept recordings that are no longer there, and that were read only in part."""

    missing: int
    warned: int


def note_kept(folder: Path, kept: Mapping[str, str], errors: Path) -> KeptFiles:
    """Append the kept recordings that are gone, or were read only in part, to the CSV file of errors.

    kept   path -> what of it could not be read, "" for most
    """
    missing = [name for name in kept if not (folder / name).exists()]
    warned = [(name, warning) for name, warning in kept.items() if warning]
    with errors.open("a", newline="", encoding="utf-8", errors="backslashreplace") as file:
        lines = csv.writer(file)
        lines.writerows((safe_cell(name), safe_cell(warning), "in part") for name, warning in warned)
        lines.writerows((safe_cell(name), "no longer in the folder; its rows were kept", "yes") for name in missing)
    return KeptFiles(len(missing), len(warned))
