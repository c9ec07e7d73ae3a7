"""Examples of sounds with their labels: a folder of class folders, or a CSV file with a row for each example."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serving.audio.file_names import SUFFIXES, is_hidden, walk_recordings
from serving.command_line import say
from serving.csv_cells import original_text
from serving.csv_rows import read_rows
from serving.errors import DataError, LabelError, UsageError
from serving.label_text import check_label_length, check_printable, join_labels, normalise_label

Wave = tuple[NDArray[np.floating], float]  # samples, rate in Hz
# Names of a column: as `serving.review` writes it, and as `serving.label` does.
COLUMNS = {"file": ("file", "path"), "start": ("start", "start_s"), "end": ("end", "end_s"), "label": ("label",)}
WANTED = "wanted the columns file, start, end, label; start and end in seconds, or both empty for the whole file"


@dataclass(frozen=True, eq=False)
class Example:
    """A sound with its label.

    source          path of a recording, or samples and their rate
    start_s, end_s  the sound in the recording; end_s None: to its end
    where           what lists it, for messages: "examples.csv, row 3"
    """

    label: str
    source: Path | Wave
    start_s: float = 0.0
    end_s: float | None = None
    where: str = ""

    @property
    def is_whole(self) -> bool:
        """Whether the example is all of its recording."""
        return self.start_s == 0 and self.end_s is None


def read_examples(path: Path, recordings: Path | None = None) -> list[Example]:
    """Read a folder with a folder of recordings for each class, or a CSV file.

    recordings  the folder to which the CSV file's paths are relative; None: its own
    errors   UsageError: there is no such thing, a class has no recording, or there is none at all; LabelError: a
             label is unfit or is spelt in two ways; DataError: a row of the CSV file is wrong, or none of its files
             is there
    """
    if path.is_dir():
        if recordings is not None:
            raise UsageError(f"--recordings: is for a CSV file; got {path}, a folder of class folders")
        examples = _read_folder(path)
    elif path.is_file():
        examples = _read_csv(path, recordings or path.parent)
    else:
        raise UsageError(f"{path}: is not there; give a folder with a folder for each class, or a CSV file")
    check_labels(example.label for example in examples)
    return examples


def listed_examples(examples: Mapping[str, Sequence[str | Path | Wave]]) -> list[Example]:
    """Examples given in Python: label -> paths, or samples with their rate in Hz. Errors as `read_examples`."""
    if not isinstance(examples, Mapping):
        raise UsageError(f"examples: got {examples!r:.80}; wanted a dict from a label to its recordings")
    listed: list[Example] = []
    for label, sources in examples.items():
        if isinstance(sources, str | Path | bytes) or not sources:
            raise UsageError(f"examples of {label!r}: got {sources!r:.80}; wanted a list of paths or (wave, rate_hz)")
        listed += [_given(label, source) for source in sources]
    check_labels(examples)
    return listed


def _given(label: str, source: Any) -> Example:
    if isinstance(source, str | Path):
        return Example(label, Path(source))
    if isinstance(source, tuple) and len(source) == 2:
        return Example(label, source)
    raise UsageError(f"examples of {label!r}: got {source!r:.80}; wanted paths or (wave, rate_hz)")


def check_labels(labels: Iterable[str]) -> None:
    """LabelError: a label is empty, too long or not printable, or two spellings mean the same label."""
    spellings: dict[str, str] = {}
    for label in dict.fromkeys(labels):
        if not isinstance(label, str):
            raise LabelError(f"labels: got {label!r:.80}; wanted a text")
        check_label_length(label)
        check_printable(label)
        if not normalise_label(label):
            raise LabelError(f"labels: got {label!r}; wanted a name")
        first = spellings.setdefault(normalise_label(label), label)
        if first != label:
            raise LabelError(f"labels: {join_labels([first, label])} are the same label; use one spelling")


def _read_folder(folder: Path) -> list[Example]:
    classes = sorted(entry for entry in folder.iterdir() if entry.is_dir() and not is_hidden(entry.name))
    if not classes:
        raise UsageError(f"{folder}: holds no folder; give a folder that has a folder of recordings for each class")
    beside = [name for name in walk_recordings(folder, deep=False) if name]
    if beside:
        say(f"warning: {len(beside)} recordings beside the class folders are left out, such as {folder / beside[0]}")
    examples: list[Example] = []
    for place in classes:
        names = [name for name in walk_recordings(place) if name and not name.endswith("/")]
        if not names:
            raise UsageError(f"{place}: holds no recording ({', '.join(SUFFIXES)}); put some in, or remove the folder")
        examples += [Example(place.name.strip(), place / name, where=str(place / name)) for name in names]
    return examples


def _read_csv(path: Path, recordings: Path) -> list[Example]:
    """The rows that have a label, and files in the folder `recordings`."""
    try:
        rows = read_rows(path.read_text(encoding="utf-8-sig"), str(path))
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read as CSV ({error}); {WANTED}") from error
    header = [name.lower() for name in rows[0][1]] if rows else []
    places = {key: next((header.index(name) for name in names if name in header), -1) for key, names in COLUMNS.items()}
    if places["file"] < 0 or places["label"] < 0:
        raise DataError(f"{path}: got the columns {', '.join(header) or 'none'}; {WANTED}")
    examples = []
    for number, row in rows[1:]:
        cells = {key: original_text(row[place]) if 0 <= place < len(row) else "" for key, place in places.items()}
        if cells["label"]:
            examples.append(_example_of(cells, recordings, f"{path}, row {number}"))
    if not examples:
        raise DataError(f"{path}: no row has a label; {WANTED}")
    if not any(isinstance(example.source, Path) and example.source.exists() for example in examples):
        raise DataError(
            f"{path}: none of its files is there, such as {examples[0].source}; give --recordings FOLDER, to which its "
            "paths are relative"
        )
    return examples


def _example_of(cells: Mapping[str, str], recordings: Path, where: str) -> Example:
    if not cells["file"]:
        raise DataError(f"{where}: has no file; {WANTED}")
    start, end = (_seconds(cells[key], key, where) for key in ("start", "end"))
    if (start is None) != (end is None):
        got = "an end without a start" if start is None else "a start without an end"
        raise DataError(f"{where}: got {got}; wanted both, or neither for the whole file")
    if start is not None and end is not None and end <= start:
        raise DataError(f"{where}: starts at {start:g} s and ends at {end:g} s; wanted an end after the start")
    return Example(cells["label"], recordings / cells["file"], start or 0.0, end, where)


def _seconds(text: str, column: str, where: str) -> float | None:
    """A time; None: the cell is empty."""
    if not text:
        return None
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 <= seconds < math.inf:
        raise DataError(f"{where}: {column} is {text!r}; wanted seconds with a decimal point, 0 or more, or nothing")
    return seconds
