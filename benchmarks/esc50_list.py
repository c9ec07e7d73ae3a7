"""The list of ESC-50's clips: for benchmarks, which must not import training's data sets."""

import csv
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

from serving.errors import DataError

Clip = TypeVar("Clip")


def read_esc50_list(
    data_dir: Path, make: Callable[[Path, Mapping[str, str]], Clip], fold: int | None = None
) -> list[Clip]:
    """Make something of each clip, in the order of the list.

    data_dir  ESC-50's folder, or one that has the same list of a part of it
    make      gets the clip's path and its row of meta/esc50.csv; KeyError: the list lacks a column
    fold      only the clips of this recording fold, 1 to 5; None: all
    errors    DataError: the list cannot be read
    """
    path = data_dir / "meta" / "esc50.csv"
    try:
        with path.open(newline="") as file:
            rows = [row for row in csv.DictReader(file) if fold is None or int(row["fold"]) == fold]
        return [make(data_dir / "audio" / row["filename"], row) for row in rows]
    except (OSError, KeyError, ValueError) as error:
        raise DataError(
            f"{path}: is no list of ESC-50's clips ({error}); give ESC-50's folder as --data-dir"
        ) from error
