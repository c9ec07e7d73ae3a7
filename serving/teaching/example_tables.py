"""Tables of examples: which row is which stretch of which recording."""

import math
import re
from collections.abc import Mapping
from pathlib import Path, PurePath, PureWindowsPath

from serving.errors import DataError
from serving.teaching.examples import Example
from serving.teaching.named_recordings import NamedRecordings, name_of_its_recording
from serving.teaching.table_rows import COLUMNS, RAVEN_LABELS, WANTED, TableHeader, TableRows

LIKE_A_TIME = re.compile(r"start|begin|onset|\bend|offset")
SHIFT_S = 0.01  # by how much Begin Time less File Offset may differ within a recording


def lists_examples(table: TableHeader) -> bool:
    """Whether the table can be one of examples: it has the columns of files and of labels, or needs none."""
    return table.form != "list" or all(_columns(table)[key] for key in ("file", "label"))


def examples_of(table: TableRows, path: Path, place: PurePath, recordings: NamedRecordings) -> list[Example]:
    """The rows of a table that have a label.

    path    of the table, for messages
    place   the table in the folder of the tables: a table that names no file belongs to the recording at that place
    errors  DataError: a row is wrong, or it is not clear which recording or column is meant
    """
    read = {"list": _listed, "raven": _raven, "audacity": _audacity}[table.form]
    return read(table, path, place, recordings)


def _columns(table: TableHeader) -> dict[str, str]:
    """The table's names of COLUMNS; "" where it has none."""
    return {key: next((name for name in names if name in table.columns), "") for key, names in COLUMNS.items()}


def _listed(table: TableRows, path: Path, place: PurePath, recordings: NamedRecordings) -> list[Example]:
    columns = _columns(table)
    got = f"{path}: got the columns {', '.join(table.columns) or 'none'}"
    if not lists_examples(table):
        raise DataError(f"{got}; {WANTED}")
    times = [name for name in table.columns if LIKE_A_TIME.search(name)]
    if not columns["start"] and not columns["end"] and times:
        raise DataError(f"{got}; name the times start and end, in seconds, or remove {times[0]}")
    if twice := [name for name in columns.values() if table.columns.count(name) > 1]:
        raise DataError(f"{path}: has two columns named {twice[0]}; remove one")
    examples = []
    for number, row in table.rows:
        file, start, end, label = (row.get(columns[key], "") for key in COLUMNS)
        where = f"{path}, row {number}"
        if label and not file:
            raise DataError(f"{where}: has no file; {WANTED}")
        if label:
            examples.append(Example(label, recordings.at(file, where), *_stretch(start, end, where), where))
    return examples


def _raven(table: TableRows, path: Path, place: PurePath, recordings: NamedRecordings) -> list[Example]:
    """Selections of one recording, or of several with the column File Offset (s).

    Raven writes a selection once for each view, waveform and spectrogram; it is one example.
    """
    label_column = next((name for name in RAVEN_LABELS if name in table.columns), None)
    if label_column is None:
        raise DataError(
            f"{path}: got the columns {', '.join(table.columns)}; name the column of labels Annotation, or one of "
            f"{', '.join(RAVEN_LABELS[1:])}"
        )
    examples: dict[tuple[str, Path, float, float], Example] = {}
    sources: set[Path] = set()
    shifts: dict[Path, float] = {}  # Begin Time less File Offset: where a recording begins in a sequence
    for number, row in table.rows:
        where, label = f"{path}, row {number}", row[label_column]
        file = _begin_file(row)
        source = recordings.find(file, where) if file else recordings.like(name_of_its_recording(place), where)
        sources.add(source)
        if not label:
            continue
        begin, end = _stretch(row["begin time (s)"], row.get("end time (s)", ""), where)
        if end is None:
            raise DataError(f"{where}: has no time; wanted Begin Time (s) and End Time (s)")
        offset = _seconds(row.get("file offset (s)", ""), "File Offset (s)", where)
        start = begin if offset is None else offset
        shift = begin - start
        if offset is None and len(sources) > 1:
            raise DataError(
                f"{where}: is of another recording than the rows before and says no File Offset (s); show that "
                "measurement in Raven and save the table again"
            )
        if shift < -SHIFT_S or abs(shift - shifts.setdefault(source, shift)) > SHIFT_S:
            raise DataError(
                f"{where}: Begin Time (s) and File Offset (s) disagree; change both, or empty File Offset (s) in a "
                "table of one recording"
            )
        at = label, source, start, round(start + end - begin, 6)
        examples.setdefault(at, Example(*at, where))
    return list(examples.values())


def _begin_file(row: Mapping[str, str]) -> str:
    """The recording's path or name in a row of Raven; "": it has neither. A Begin Path can be that of the folder."""
    file, path = row.get("begin file", ""), row.get("begin path", "")
    if path and file and PureWindowsPath(path).name != file:
        return f"{path}/{file}"
    return path or file


def _audacity(table: TableRows, path: Path, place: PurePath, recordings: NamedRecordings) -> list[Example]:
    examples = []
    for number, row in table.rows:
        where, label = f"{path}, line {number}", row["label"]
        if label:
            if recordings.has(label.rsplit(" ", 1)[-1]):
                raise DataError(
                    f"{where}: the label ends with the name of a recording, so the track is for several, and does not "
                    "say where one ends; give tracks that --per-recording wrote"
                )
            source = recordings.like(name_of_its_recording(place), where)
            examples.append(Example(label, source, *_stretch(row["start"], row["end"], where), where))
    return examples


def _stretch(start_text: str, end_text: str, where: str) -> tuple[float, float | None]:
    """Start and end in seconds; the end is None where both cells are empty: the whole file."""
    start, end = _seconds(start_text, "start", where), _seconds(end_text, "end", where)
    if (start is None) != (end is None):
        got = "an end without a start" if start is None else "a start without an end"
        raise DataError(f"{where}: got {got}; wanted both, or neither for the whole file")
    if start is not None and end is not None and end <= start:
        way_out = "; remove it, or give it a length" if start == end else ""
        raise DataError(f"{where}: starts at {start:g} s and ends at {end:g} s; wanted an end after the start{way_out}")
    return start or 0.0, end


def _seconds(text: str, column: str, where: str) -> float | None:
    """A time; None: the cell is empty."""
    if not text:
        return None
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 <= seconds < math.inf:
        raise DataError(f"{where}: {column} is {text!r}; wanted seconds with a decimal point, 0 or more, or nothing")
    return seconds
