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
from serving.files.csv_rows import read_rows

SUFFIXES = (".csv", ".tsv", ".txt", ".parquet")
NOTHING = ("NA", "NaN", "nan", "<NA>")  # what R and pandas write where nothing is
WANTED = (
    "wanted the columns file, start, end, label (start and end in seconds, or both empty for the whole file), a Raven "
    "selection table or an Audacity label track"
)
_RAVEN = "begin time (s)"
_AUDACITY = re.compile(r"\s*\d+(\.\d*)?\t\d+(\.\d*)?(\t|\s*$)")
_IS_PLAIN = (types.is_string, types.is_large_string, types.is_dictionary, types.is_integer, types.is_floating)


@dataclass(frozen=True)
class TableRows:
    """A table with texts in its cells.

    form     list: its rows name files; raven: selections; audacity: stretches of the recording of its name, with the
             columns start, end and label
    columns  their names in lower case
    rows     (number in the file from 1, column -> text without outer spaces, "" where nothing is)
    """

    form: Literal["list", "raven", "audacity"]
    columns: Sequence[str]
    rows: Sequence[tuple[int, Mapping[str, str]]]


def read_table_rows(path: Path) -> TableRows:
    """Read a table. An empty text file is a label track without a label.

    errors   DataError: it is damaged, or not in UTF-8; OSError passes through
    """
    if path.suffix.lower() == ".parquet":
        return _of_parquet(path)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: is not in UTF-8; save it in that encoding; {WANTED}") from error
    lines = text.splitlines()
    first = next(filter(str.strip, lines), "")
    if not first or _AUDACITY.match(first):
        columns = ("start", "end", "label")
        # A line that begins with a backslash has the frequencies of the line before.
        stretches = ((number, line.split("\t", 2)) for number, line in enumerate(lines, 1) if line[:1] != "\\")
        return TableRows("audacity", columns, _cells(columns, stretches))
    if _RAVEN in (names := first.lower().split("\t")):  # Raven puts no quotes around a text
        header = [name.strip() for name in names]
        selections = ((number, line.split("\t")) for number, line in enumerate(lines, 1))
        return TableRows("raven", header, _cells(header, selections)[1:])
    numbered = read_rows(text, str(path))
    header = [name.lower() for name in numbered[0][1]]
    rows = ((number, [original_text(cell) for cell in row]) for number, row in numbered[1:])
    return TableRows("list", header, _cells(header, rows))


def _of_parquet(path: Path) -> TableRows:
    """Columns that are neither texts nor numbers are not read: a library of embeddings has large ones."""
    try:
        kept = [field.name for field in parquet.read_schema(path) if any(is_kind(field.type) for is_kind in _IS_PLAIN)]
        table = parquet.read_table(path, columns=kept)
    except pyarrow.ArrowException as error:
        raise DataError(f"{path}: cannot be read as Parquet ({one_line(error, 200)}); {WANTED}") from error
    columns = [name.strip().lower() for name in table.column_names]
    cells = [["" if cell is None else str(cell) for cell in column.to_pylist()] for column in table.columns]
    rows = _cells(columns, enumerate(zip(*cells, strict=True), start=1))
    return TableRows("raven" if _RAVEN in columns else "list", columns, rows)


def _cells(columns: Sequence[str], rows: Iterable[tuple[int, Sequence[str]]]) -> list[tuple[int, dict[str, str]]]:
    """The rows that are not empty. A row may have fewer cells than there are columns."""
    named = [
        (number, {name: _text(cell) for name, cell in zip_longest(columns, row[: len(columns)], fillvalue="")})
        for number, row in rows
    ]
    return [(number, row) for number, row in named if any(row.values())]


def _text(cell: str) -> str:
    text = cell.strip()
    return "" if text in NOTHING else text
