"""CSV files that people and spreadsheets write: commas, semicolons or tabs between the cells."""

import csv
import io
import re

from serving.errors import DataError

DELIMITERS = (",", ";", "\t")  # spreadsheets write semicolons where the comma is the decimal mark
LINE_END = re.compile(r"\r\n|\r|\n")


def lines_of(text: str) -> list[str]:
    """The lines of a text without their ends.

    Only line feeds and carriage returns end a line. str.splitlines would end it at a form feed, U+0085 or U+2028 too,
    which texts from web pages and word processors have within a cell.
    """
    lines = LINE_END.split(text)
    return lines if lines[-1] else lines[:-1]


def header_of(text: str) -> list[str]:
    """The cells of the first line of a CSV text that is not blank, without outer spaces; [] if there is none."""
    first = _first_line(text)
    return [cell.strip() for cell in _cells(first, _delimiter(first))]


def read_rows(text: str, name: str) -> list[tuple[int, list[str]]]:
    """The rows of a CSV text that are not empty, each with its number in the file from 1, cells without outer spaces.

    The delimiter is the one that splits the first row into the most cells; a comma if none does.
    name     of the file, for messages
    errors   DataError: a quote is not closed, or a row has more cells than the first one
    """
    delimiter = _delimiter(_first_line(text))
    rows = []
    try:
        table = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
        for number, cells in enumerate(table, start=1):
            row = [cell.strip() for cell in cells]
            while len(row) > 1 and not row[-1] and rows and len(row) > len(rows[0][1]):
                row.pop()
            if any(row):
                rows.append((number, row))
            if rows and len(row) > len(rows[0][1]):
                raise DataError(
                    f"{name}, row {number}: got {len(row)} cells, but the first row has {len(rows[0][1])}; put a text "
                    f"that contains {delimiter!r} in double quotes, and write decimals with a point"
                )
    except csv.Error as error:
        raise DataError(f"{name}: cannot be read as CSV ({error}); put a text with quotes in double quotes") from error
    return rows


def _first_line(text: str) -> str:
    return next((line for line in lines_of(text) if line.strip()), "")


def _delimiter(line: str) -> str:
    return max(DELIMITERS, key=lambda each: len(_cells(line, each)))


def _cells(line: str, delimiter: str) -> list[str]:
    """The cells of a line; [] if one is longer than the module csv reads."""
    try:
        return next(csv.reader([line], delimiter=delimiter), [])
    except csv.Error:
        return []
