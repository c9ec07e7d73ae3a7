"""The rows of a table of sounds: CSV, Parquet, a selection table of Raven or a label track of Audacity.

Parquet is told by its suffix, the others by what they hold. Sources: as serving.labelling.table_formats, which writes
all four.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Literal

import pyarrow
from pyarrow import parquet, types

from serving.errors import DataError, one_line
from serving.files.csv_cells import original_text
from serving.files.csv_rows import header_of, lines_of, read_rows

SUFFIXES = (".csv", ".tsv", ".txt", ".parquet")
NOTHING = ("NA", "NaN", "nan", "<NA>")  # what R and pandas write where nothing is
WANTED = (
    "wanted the columns file, start, end, label (start and end in seconds, or both empty for the whole file), a Raven "
    "selection table or an Audacity label track"
)
# Names of a column of a list: as `serving.review` writes it, as `serving.label` does, as BirdNET does.
COLUMNS = {
    "file": ("file", "path"),
    "start": ("start", "start_s", "start (s)"),
    "end": ("end", "end_s", "end (s)"),
    "label": ("label", "common name"),
}
# Raven lets its users name the column of labels. The first of these that is there counts.
RAVEN_LABELS = ("annotation", "label", "species", "common name", "class", "species code", "tags")
_RAVEN = "begin time (s)"
_AUDACITY = re.compile(r"\s*\d+(\.\d*)?\t\d+(\.\d*)?(\t|\s*$)")
_AUDACITY_COLUMNS = ("start", "end", "label")
_USED = {
    *(name for names in COLUMNS.values() for name in names),
    *(_RAVEN, "end time (s)", "file offset (s)", "begin file", "begin path", *RAVEN_LABELS),
}
_IS_PLAIN = (types.is_string, types.is_large_string, types.is_dictionary, types.is_integer, types.is_floating)
_MOST_CHARACTERS = 2**16  # of a first line


@dataclass(frozen=True)
class TableHeader:
    """What a table is.

    form     list: its rows name files; raven: selections; audacity: stretches of the recording of its name, with the
             columns start, end and label
    columns  their names in lower case
    """

    form: Literal["list", "raven", "audacity"]
    columns: Sequence[str]


@dataclass(frozen=True)
class TableRows(TableHeader):
    """A table with texts in its cells.

    rows     (number in the file from 1, column -> text without outer spaces, "" where nothing is), with the columns
             that examples are made of
    """

    rows: Sequence[tuple[int, Mapping[str, str]]]


def read_table_header(path: Path) -> TableHeader:
    """What a table is, by its schema or its first line that is not blank: the rest, which may be large, is not read.

    errors   as `read_table_rows`
    """
    if path.suffix.lower() == ".parquet":
        return _parquet_header(_plain_columns(path))
    try:
        with path.open(encoding="utf-8-sig") as file:
            while (first := file.readline(_MOST_CHARACTERS)) and not first.strip():
                pass
    except UnicodeDecodeError as error:
        raise _not_text(path) from error
    return _text_header(first)


def read_table_rows(path: Path) -> TableRows:
    """Read a table. An empty text file is a label track without a label.

    errors   DataError: it is damaged, has only empty cells, or is not in UTF-8; OSError passes through
    """
    if path.suffix.lower() == ".parquet":
        return _of_parquet(path)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise _not_text(path) from error
    lines = lines_of(text)
    header = _text_header(next(filter(str.strip, lines), ""))
    if header.form == "audacity":
        # A line that begins with a backslash has the frequencies of the line before.
        stretches = ((number, line.split("\t", 2)) for number, line in enumerate(lines, 1) if line[:1] != "\\")
        return TableRows(header.form, header.columns, _cells(header.columns, stretches))
    if header.form == "raven":
        selections = ((number, line.split("\t")) for number, line in enumerate(lines, 1))
        return TableRows(header.form, header.columns, _cells(header.columns, selections)[1:])
    numbered = read_rows(text, str(path))
    if not numbered:
        raise DataError(f"{path}: all of its cells are empty; {WANTED}")
    columns = [name.lower() for name in numbered[0][1]]
    rows = ((number, [original_text(cell) for cell in row]) for number, row in numbered[1:])
    return TableRows("list", columns, _cells(columns, rows))


def _text_header(first: str) -> TableHeader:
    """What a text is, by its first line that is not blank; "": it has none."""
    if not first or _AUDACITY.match(first):
        return TableHeader("audacity", _AUDACITY_COLUMNS)
    selections = [name.strip() for name in first.lower().split("\t")]
    if _RAVEN in selections:  # Raven puts no quotes around a text
        return TableHeader("raven", selections)
    return TableHeader("list", [name.lower() for name in header_of(first)])


def _not_text(path: Path) -> DataError:
    return DataError(f"{path}: is not in UTF-8; save it in that encoding; {WANTED}")


def _of_parquet(path: Path) -> TableRows:
    """Only the columns that are used are read: a library of embeddings has large ones."""
    plain = _plain_columns(path)
    header = _parquet_header(plain)
    try:
        table = parquet.read_table(path, columns=[name for name in plain if _column(name) in _USED])
    except pyarrow.ArrowException as error:
        raise _no_parquet(path, error) from error
    cells = [["" if cell is None else str(cell) for cell in column.to_pylist()] for column in table.columns]
    rows = _cells([_column(name) for name in table.column_names], enumerate(zip(*cells, strict=True), start=1))
    return TableRows(header.form, header.columns, rows)


def _plain_columns(path: Path) -> list[str]:
    """The names of the columns of a Parquet file that have texts or numbers in them."""
    try:
        schema = parquet.read_schema(path)
    except pyarrow.ArrowException as error:
        raise _no_parquet(path, error) from error
    return [field.name for field in schema if any(is_kind(field.type) for is_kind in _IS_PLAIN)]


def _parquet_header(names: Sequence[str]) -> TableHeader:
    columns = [_column(name) for name in names]
    return TableHeader("raven" if _RAVEN in columns else "list", columns)


def _no_parquet(path: Path, error: pyarrow.ArrowException) -> DataError:
    return DataError(f"{path}: cannot be read as Parquet ({one_line(error, 200)}); {WANTED}")


def _column(name: str) -> str:
    return name.strip().lower()


def _cells(columns: Sequence[str], rows: Iterable[tuple[int, Sequence[str]]]) -> list[tuple[int, dict[str, str]]]:
    """The rows that are not empty, with the columns that are used. A row may have fewer cells than columns."""
    named = [
        (
            number,
            {
                name: _text(cell)
                for name, cell in zip_longest(columns, row[: len(columns)], fillvalue="")
                if name in _USED
            },
        )
        for number, row in rows
    ]
    return [(number, row) for number, row in named if any(row.values())]


def _text(cell: str) -> str:
    text = cell.strip()
    return "" if text in NOTHING else text
