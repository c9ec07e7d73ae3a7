"""CSV files that people and spreadsheets write: commas, semicolons or tabs between the cells."""

import csv

from serving.errors import DataError

DELIMITERS = (",", ";", "\t")  # spreadsheets write semicolons where the comma is the decimal mark


def read_rows(text: str, name: str) -> list[tuple[int, list[str]]]:
    """The rows of a CSV text that are not empty, each with its number in the file from 1, cells without outer spaces.

    The delimiter is the one that splits the first row into the most cells; a comma if none does.
    name     of the file, for messages
    errors   DataError: a quote is not closed, or a row has more cells than the first one
    """
    lines = text.splitlines(keepends=True)
    first = next((line for line in lines if line.strip()), "")
    delimiter = max(DELIMITERS, key=lambda each: len(next(csv.reader([first], delimiter=each), [])))
    rows = []
    try:
        for number, cells in enumerate(csv.reader(lines, delimiter=delimiter, strict=True), start=1):
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
