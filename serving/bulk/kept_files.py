"""What the list of errors says of recordings whose rows an update keeps."""

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from serving.command_line import say
from serving.files.csv_cells import safe_cell

GONE = "no longer in the folder"


@dataclass(frozen=True)
class KeptFiles:
    """Numbers of kept recordings that are no longer there, and that were read only in part."""

    missing: int
    warned: int


def note_kept(folder: Path, kept: Mapping[str, str], errors: Path) -> KeptFiles:
    """Append the kept recordings that are gone, cannot be reached, or were read only in part, to the CSV of errors.

    kept   path -> what of it could not be read, "" for most
    Says how many cannot be reached: they may be there still, so they are not missing.
    """
    reasons = {name: _why_absent(folder / name) for name in kept}
    missing = [name for name, reason in reasons.items() if reason == GONE]
    unreached = [(name, reason) for name, reason in reasons.items() if reason not in ("", GONE)]
    if unreached:
        name, reason = unreached[0]
        say(
            f"warning: recordings that {reason}, so their rows were kept as they are: {len(unreached)}, such as "
            f"{folder / name}"
        )
    warned = [(name, warning) for name, warning in kept.items() if warning]
    with errors.open("a", newline="", encoding="utf-8", errors="backslashreplace") as file:
        lines = csv.writer(file)
        lines.writerows((safe_cell(name), safe_cell(warning), "in part") for name, warning in warned)
        lines.writerows(
            (safe_cell(name), f"{reason}; its rows were kept", "yes") for name, reason in reasons.items() if reason
        )
    return KeptFiles(len(missing), len(warned))


def _why_absent(path: Path) -> str:
    """Why a recording is not found; "": it is there."""
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError, ValueError):  # ValueError: a zero byte in the path
        return GONE
    except OSError as error:  # no permission for a folder, or a disk that does not answer
        return f"cannot be reached ({error.strerror or error})"
    return ""
