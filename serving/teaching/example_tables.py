"""Tables of examples: CSV, Parquet, Raven's selection tables, Audacity's label tracks. What they hold tells them apart.

Sources: as serving.labelling.table_formats, which writes all four.
"""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import zip_longest
from pathlib import Path

import pyarrow
from pyarrow import parquet

from serving.csv_cells import original_text
from serving.csv_rows import read_rows
from serving.errors import DataError
from serving.teaching.examples import Example
from serving.teaching.named_recordings import NamedRecordings, name_of_its_recording

TABLES = (".csv", ".tsv", ".txt", ".parquet")
# Names of a column: as `serving.review` writes it, and as `serving.label` does.
COLUMNS = {"file": ("file", "path"), "start": ("start", "start_s"), "end": ("end", "end_s"), "label": ("label",)}
WANTED = (
    "wanted the columns file, start, end, label (start and end in seconds, or both empty for the whole file), a Raven "
    "selection table or an Audacity label track"
)
# Raven lets its users name the column of labels; BirdNET's tables have a common name.
RAVEN_LABELS = ("annotation", "label", "species", "common name", "class", "species code", "tags")
AUDACITY_LINE = re.compile(r"\s*\d+(\.\d*)?\t\d+(\.\d*)?(\t|\s*$)")
Cells = Mapping[str, str]


def read_table(path: Path, recordings: Path) -> list[Example]:
    """The rows of a table that have a label.

    recordings  the folder of the recordings: CSV and Parquet give paths in it, Raven their names, and Audacity's label
                track has the name of its recording
    errors      DataError: the table cannot be read, a row is wrong, or it is not clear which recording is meant
    """
    try:
        if path.suffix.lower() == ".parquet":
            return _listed(path, _parquet_rows(path), recordings)
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, ValueError, pyarrow.ArrowException) as error:
        raise DataError(f"{path}: cannot be read as a table ({error}); {WANTED}") from error
    first = next((line for line in text.splitlines() if line.strip()), "")
    if AUDACITY_LINE.match(first):
        return _audacity(path, text.splitlines(), recordings)
    rows = read_rows(text, str(path))
    names = [name.lower() for name in rows[0][1]] if rows else []
    cells = [(number, dict(zip_longest(names, row, fillvalue=""))) for number, row in rows[1:]]
    if "begin time (s)" in names:
        return _raven(path, names, cells, recordings)
    return _listed(path, [(0, dict.fromkeys(names, "")), *cells], recordings)


def _parquet_rows(path: Path) -> list[tuple[int, Cells]]:
    """As the rows of a CSV file: texts by the names of their columns. The first one, number 0, is empty."""
    table = parquet.read_table(path)
    rows = [{name: "" if cell is None else str(cell) for name, cell in row.items()} for row in table.to_pylist()]
    return list(enumerate([dict.fromkeys(table.column_names, ""), *rows]))


def _listed(path: Path, rows: Sequence[tuple[int, Cells]], recordings: Path) -> list[Example]:
    """Rows with the columns of COLUMNS. The first row only says which columns there are."""
    names = list(rows[0][1])
    columns = {key: next((name for name in wanted if name in names), "") for key, wanted in COLUMNS.items()}
    if not columns["file"] or not columns["label"]:
        raise DataError(f"{path}: got the columns {', '.join(names) or 'none'}; {WANTED}")
    examples = []
    for number, row in rows[1:]:
        file, start, end, label = (original_text(row.get(columns[key], "")) for key in COLUMNS)
        where = f"{path}, row {number}"
        if label and not file:
            raise DataError(f"{where}: has no file; {WANTED}")
        if label:
            examples.append(Example(label, recordings / file, *_stretch(start, end, where), where))
    return examples


def _raven(path: Path, names: Sequence[str], rows: Iterable[tuple[int, Cells]], recordings: Path) -> list[Example]:
    """A selection table of one recording, or of several with the column File Offset (s).

    Raven writes a selection once for each view, waveform and spectrogram; it is one example.
    """
    label_column = next((name for name in RAVEN_LABELS if name in names), None)
    if label_column is None or "end time (s)" not in names:
        raise DataError(
            f"{path}: a selection table with the columns {', '.join(names)}; wanted End Time (s), and labels in a "
            "column named Annotation, Label or Species"
        )
    folder, files = NamedRecordings(recordings), set()
    examples: dict[tuple[str, Path, float, float], Example] = {}
    for number, row in rows:
        where, label = f"{path}, row {number}", row[label_column]
        if not label:
            continue
        begin, end = _stretch(row["begin time (s)"], row["end time (s)"], where)
        if end is None:
            raise DataError(f"{where}: has no time; wanted Begin Time (s) and End Time (s)")
        file = row.get("begin path") or row.get("begin file") or name_of_its_recording(path)
        files.add(file)
        if offset := row.get("file offset (s)"):
            start = _seconds(offset, "File Offset (s)", where) or 0.0
            begin, end = start, start + end - begin
        elif len(files) > 1:
            raise DataError(
                f"{where}: is of another recording than the rows before and says no File Offset (s); show that "
                "measurement in Raven and save the table again"
            )
        source = folder.find(file, where)
        examples.setdefault((label, source, begin, end), Example(label, source, begin, end, where))
    return list(examples.values())


def _audacity(path: Path, lines: Sequence[str], recordings: Path) -> list[Example]:
    """Lines of start, end and label. Lines that begin with a backslash are the frequencies of the line before."""
    folder, examples = NamedRecordings(recordings), []
    for number, line in enumerate(lines, start=1):
        if not line.strip() or line.startswith("\\"):
            continue
        where = f"{path}, line {number}"
        start, end, label = [*line.split("\t", 2), "", ""][:3]
        if label.strip():
            source = folder.find(name_of_its_recording(path), where)
            examples.append(Example(label.strip(), source, *_stretch(start, end, where), where))
    return examples


def _stretch(start_text: str, end_text: str, where: str) -> tuple[float, float | None]:
    """Start and end in seconds; the end is None where both cells are empty: the whole file."""
    start, end = _seconds(start_text, "start", where), _seconds(end_text, "end", where)
    if (start is None) != (end is None):
        got = "an end without a start" if start is None else "a start without an end"
        raise DataError(f"{where}: got {got}; wanted both, or neither for the whole file")
    if start is not None and end is not None and end <= start:
        raise DataError(f"{where}: starts at {start:g} s and ends at {end:g} s; wanted an end after the start")
    return start or 0.0, end


def _seconds(text: str, column: str, where: str) -> float | None:
    """A time; None: the cell is empty."""
    if not text.strip():
        return None
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 <= seconds < math.inf:
        raise DataError(f"{where}: {column} is {text!r}; wanted seconds with a decimal point, 0 or more, or nothing")
    return seconds
