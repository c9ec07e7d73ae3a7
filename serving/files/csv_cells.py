"""Cells of CSV files that are safe to open in a spreadsheet."""

from collections.abc import Iterable

FORMULA = ("=", "+", "-", "@", "\t", "\r")  # spreadsheets run a text that begins so
QUOTE = "'"  # in front of it


def safe_cell(value: object) -> object:
    """The value for a CSV writer; a text that a spreadsheet would run as a formula gets an apostrophe in front.

    So does one that begins with apostrophes before a formula, so that no two texts have the same cell.
    Source: OWASP, "CSV Injection". Numbers stay as they are.
    """
    return QUOTE + value if isinstance(value, str) and value.lstrip(QUOTE).startswith(FORMULA) else value


def original_text(cell: str) -> str:
    """The text of a cell that `safe_cell` may have written."""
    return cell[1:] if cell.startswith(QUOTE) and cell.lstrip(QUOTE).startswith(FORMULA) else cell


def table_row(values: Iterable[object]) -> list[object]:
    """The cells of a row of results: numbers with six fixed decimals, never an exponent, and safe texts."""
    return [f"{value:.6f}" if isinstance(value, float) else safe_cell(value) for value in values]
