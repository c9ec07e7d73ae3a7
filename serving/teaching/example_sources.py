"""Where examples come from: a folder of class folders, a table with a row for each example, or a folder of tables."""

import os
from collections.abc import Mapping
from pathlib import Path

from serving.audio.file_names import SUFFIXES, is_hidden, walk_recordings
from serving.command_line import say
from serving.errors import DataError, UsageError
from serving.teaching import table_rows
from serving.teaching.example_tables import examples_of, lists_examples
from serving.teaching.examples import Example, check_labels
from serving.teaching.named_recordings import NamedRecordings
from serving.teaching.table_rows import TableRows, read_table_header, read_table_rows


def read_examples(path: Path, recordings: Path | None = None) -> list[Example]:
    """Read a folder with a folder of recordings for each class, a table of examples, or a folder with such tables.

    recordings  the folder of the recordings that tables name; None: the folder of the table, or of the tables
    errors   UsageError: there is no such thing, a class has no recording, or there is none at all; LabelError: a
             label is unfit or is spelt in two ways; DataError: a table or a row is wrong, none of the recordings is
             there, or a folder cannot be listed
    """
    try:
        examples = _read(path, recordings)
    except OSError as error:
        raise DataError(f"{error.filename or path}: cannot be read ({error.strerror or error})") from error
    check_labels(example.label for example in examples)
    return examples


def _read(path: Path, recordings: Path | None) -> list[Example]:
    if recordings is not None and not recordings.is_dir():
        raise UsageError(f"--recordings: got {recordings}; wanted a folder that is there")
    if path.is_file():
        return _of_tables(path, {path: read_table_rows(path)}, path.parent, recordings)
    if not path.is_dir():
        raise UsageError(f"{path}: is not there; give a folder with a folder for each class, or a table")
    if tables := _tables_in(path):
        return _of_tables(path, tables, path, recordings)
    if recordings is not None:
        raise UsageError(
            f"--recordings: goes with tables of examples; {path} holds none ({', '.join(table_rows.SUFFIXES)})"
        )
    return _of_class_folders(path)


def _tables_in(folder: Path) -> dict[Path, TableRows]:
    """The tables of examples in a folder, at any depth; other files with a table's suffix are told."""
    tables, others = {}, []
    for path in _files(folder):
        try:
            table = read_table_rows(path) if lists_examples(read_table_header(path)) else None
        except DataError:
            table = None
        if table is not None:
            tables[path] = table
        else:
            others.append(path)
    if not any(table.rows for table in tables.values()):
        return {}
    if others:
        say(f"warning: files that are no tables of examples are left out: {len(others)}, such as {others[0]}")
    if any(not name.endswith("/") for name in walk_recordings(folder)):
        first = next(iter(tables))
        say(f"{folder}: {len(tables)} tables of examples are read, such as {first}; its folders are no classes")
    return tables


def _files(folder: Path) -> list[Path]:
    """The files with a table's suffix, in the order of their paths. OSError: a folder cannot be listed."""
    found: list[Path] = []
    for place, folders, names in os.walk(folder, onerror=_raise):
        folders[:] = [name for name in folders if not is_hidden(name)]
        found += [Path(place, name) for name in names if Path(name).suffix.lower() in table_rows.SUFFIXES]
    return sorted(path for path in found if not is_hidden(path.name))


def _raise(error: OSError) -> None:
    raise error


def _of_tables(path: Path, tables: Mapping[Path, TableRows], folder: Path, recordings: Path | None) -> list[Example]:
    """All examples of the tables. path: what was given, for messages; folder: that of the tables."""
    named = NamedRecordings(recordings or folder, recordings is not None)
    examples = [
        example
        for table_path, table in tables.items()
        for example in examples_of(table, table_path, table_path.relative_to(folder), named)
    ]
    if not examples:
        raise DataError(f"{path}: no row has a label; give the rows that are examples one")
    if not any(isinstance(example.source, Path) and example.source.is_file() for example in examples):
        raise DataError(
            f"{path}: none of its recordings is there, such as {examples[0].source}; give --recordings FOLDER, the "
            "folder that has them"
        )
    return examples


def _of_class_folders(folder: Path) -> list[Example]:
    classes = sorted(entry for entry in folder.iterdir() if entry.is_dir() and not is_hidden(entry.name))
    if not classes:
        raise UsageError(
            f"{folder}: holds no folder and no table of examples; give a folder that has a folder of recordings for "
            "each class, or a table"
        )
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
