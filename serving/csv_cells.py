"""Cells of CSV files that are safe to open in a spreadsheet."""

FORMULA = ("=", "+", "-", "@", "\t", "\r")  # spreadsheets run a text that begins so


def safe_cell(value: object) -> object:
    """The value for a CSV writer; a text that a spreadsheet would run as a formula gets an apostrophe in front.

    Source: OWASP, "CSV Injection". Numbers stay as they are.
    """
    return f"'{value}" if isinstance(value, str) and value.startswith(FORMULA) else value
