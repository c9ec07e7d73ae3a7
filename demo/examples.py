"""Choose the example recordings of the page, and the labels that fit each of them."""

import csv
from pathlib import Path
from typing import NamedTuple, TypeVar

from serving.audio.file_names import SUFFIXES, is_hidden, sound_files
from serving.errors import UsageError
from serving.zeroshot.example_labels import read_example_labels

MAX_EXAMPLES = 12
EXAMPLE_SOUNDS = Path(__file__).parent / "example_sounds"  # synthesised, see its README

Item = TypeVar("Item")


class Example(NamedTuple):
    """A recording that the page offers.

    name     to show
    labels   among which the page ranks after a click on it: what is heard, and plausible others; (): keep the labels
    """

    path: Path
    name: str
    labels: tuple[str, ...] = ()


def pick_examples(folder: Path) -> list[Example]:
    """Choose up to MAX_EXAMPLES recordings.

    From a folder of class folders or a data set in ESC-50's layout: one recording of each class, named after the class,
    with the chosen classes as labels. From any other folder: files spread evenly over the folder, named after the file,
    with the labels of its labels.json.
    errors   UsageError: the folder does not exist or contains no recordings, or its labels.json cannot be used
    """
    if not folder.is_dir():
        raise UsageError(f"--examples: {folder}: no such folder; give a folder with recordings")
    try:
        return _pick(folder)
    except (OSError, csv.Error) as error:
        raise UsageError(f"--examples: {folder}: cannot be read ({error}); give another folder") from error


def _pick(folder: Path) -> list[Example]:
    classes = _class_folders(folder) or _esc50(folder)
    if len(classes) > 1:
        chosen = [(path, name.replace("_", " ")) for name, path in _spread(sorted(classes.items()))]
        labels = tuple(name for _, name in chosen)
        return [Example(path, name, labels) for path, name in chosen]
    files = list(classes.values()) or sound_files(folder, deep=False)
    if not files:
        raise UsageError(f"--examples: {folder}: has no {', '.join(SUFFIXES)} file; give a folder with recordings")
    fitting = read_example_labels(folder)
    return [Example(path, path.stem.replace("_", " "), fitting.get(path.stem, ())) for path in _spread(files)]


def _class_folders(folder: Path) -> dict[str, Path]:
    """The first recording of each subfolder: class -> file."""
    places = sorted(
        place for place in folder.iterdir() if place.is_dir() and place.name != "audio" and not is_hidden(place.name)
    )
    return {place.name: files[0] for place in places if (files := sound_files(place, deep=False))}


def _esc50(folder: Path) -> dict[str, Path]:
    """The first recording of each category in meta/esc50.csv; {} if there is no such file."""
    table = folder / "meta" / "esc50.csv"
    if not table.is_file():
        return {}
    first: dict[str, Path] = {}
    with table.open(newline="", encoding="utf-8-sig", errors="replace") as file:
        for row in csv.DictReader(file):
            path = folder / "audio" / (row.get("filename") or "")
            if path.is_file():
                first.setdefault(row.get("category") or path.stem, path)
    return first


def _spread(items: list[Item]) -> list[Item]:
    count = min(MAX_EXAMPLES, len(items))
    return [items[i * len(items) // count] for i in range(count)]
