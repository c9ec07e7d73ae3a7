"""Where examples come from: a folder of class folders, a table with a row for each example, or a folder of tables."""

from collections.abc import Sequence
from pathlib import Path

from serving.audio.file_names import SUFFIXES, is_hidden, walk_recordings
from serving.command_line import say
from serving.errors import DataError, UsageError
from serving.teaching.example_tables import TABLES, WANTED, read_table
from serving.teaching.examples import Example, check_labels


def read_examples(path: Path, recordings: Path | None = None) -> list[Example]:
    """Read a folder with a folder of recordings for each class, a table, or a folder that holds tables alone.

    recordings  the folder of the recordings that tables name; None: the folder of the table, or of the tables
    errors   UsageError: there is no such thing, a class has no recording, or there is none at all; LabelError: a
             label is unfit or is spelt in two ways; DataError: a row of a table is wrong, or none of its files is
             there
    """
    if path.is_file():
        examples = _read_tables(path, [path], recordings or path.parent)
    elif not path.is_dir():
        raise UsageError(f"{path}: is not there; give a folder with a folder for each class, or a table")
    elif tables := _tables_of(path):
        examples = _read_tables(path, tables, recordings or path)
    elif recordings is not None:
        raise UsageError(f"--recordings: is for tables; got {path}, a folder of class folders")
    else:
        examples = _read_folder(path)
    check_labels(example.label for example in examples)
    return examples


def _tables_of(folder: Path) -> list[Path]:
    """The tables in a folder, at any depth; none if it holds a recording too."""
    if any(not name.endswith("/") for name in walk_recordings(folder)):
        return []
    found = (path for path in sorted(folder.rglob("*")) if path.suffix.lower() in TABLES and path.is_file())
    return [path for path in found if not any(map(is_hidden, path.relative_to(folder).parts))]


def _read_tables(path: Path, tables: Sequence[Path], recordings: Path) -> list[Example]:
    """All examples of the tables. path: what was given, for messages."""
    examples = [example for table in tables for example in read_table(table, recordings)]
    if not examples:
        raise DataError(f"{path}: no row has a label; {WANTED}")
    if not any(isinstance(example.source, Path) and example.source.exists() for example in examples):
        raise DataError(
            f"{path}: none of its files is there, such as {examples[0].source}; give --recordings FOLDER, the folder "
            "of the recordings"
        )
    return examples


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
