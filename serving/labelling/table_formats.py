"""Labels of recordings as tables that other programs open: CSV, Parquet, Raven's selection tables, Audacity's labels.

Sources: Raven Pro 1.6 User's Manual, "Selection tables"; Audacity Manual, "Importing and Exporting Labels".
"""

import csv
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self, TextIO

import pyarrow
from pyarrow import parquet

from serving.audio.recorded_at import RecordedAt
from serving.files.csv_cells import table_row
from serving.labelling.detections import Detection

SEQUENCED = ("raven", "audacity")  # their times count over all recordings of a table, one after the other
SCHEMA = pyarrow.schema(
    [
        ("path", pyarrow.string()),
        ("start_s", pyarrow.float64()),
        ("end_s", pyarrow.float64()),
        ("label", pyarrow.string()),
        ("probability", pyarrow.float64()),
        ("similarity", pyarrow.float64()),
        ("windows", pyarrow.int64()),
        ("start_at", pyarrow.string()),
        ("end_at", pyarrow.string()),
        ("recorded_at", pyarrow.string()),
        ("recorded_from", pyarrow.string()),
        ("warning", pyarrow.string()),
    ]
)
RAVEN_COLUMNS = (
    *("Selection", "View", "Channel", "Begin Time (s)", "End Time (s)", "Low Freq (Hz)", "High Freq (Hz)"),
    *("Begin File", "Begin Path", "File Offset (s)", "Annotation", "Score", "Similarity"),
    # Not Raven's own "Begin Date Time": it computes that measurement itself from what it knows of the sound.
    *("Recorded Begin", "Recorded End", "Recorded From"),
)
MOST_ROWS = 16_384  # of Parquet that wait in memory


@dataclass(frozen=True)
class LabelledRecording:
    """A recording and what is heard in it.

    path         relative to the folder, with slashes
    file         where it is
    duration_s   of its sound
    recorded_at  when it began; None: not known
    warning      what of it could not be read; "" for most
    """

    path: str
    file: Path
    duration_s: float
    recorded_at: RecordedAt | None
    warning: str
    detections: Sequence[Detection]


class TableWriter(Protocol):
    """Writes recordings into one file. Used with `with`; closed, the file is complete."""

    def write(self, recording: LabelledRecording) -> None:
        """Append the labels of a recording."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


def open_table(form: str, path: Path, low_hz: float, high_hz: float, several: bool) -> TableWriter:
    """Begin a table.

    form             csv, parquet, raven or audacity
    low_hz, high_hz  the frequencies that the network hears
    several          it gets several recordings: Audacity's labels then name the recording
    """
    writers: dict[str, Callable[[], TableWriter]] = {
        "csv": lambda: CsvTable(path),
        "parquet": lambda: ParquetTable(path),
        "raven": lambda: RavenTable(path, low_hz, high_hz),
        "audacity": lambda: AudacityLabels(path, several),
    }
    return writers[form]()


class _TextTable:
    """A text file in UTF-8."""

    def __init__(self, path: Path):
        self._file: TextIO = path.open("w", newline="", encoding="utf-8", errors="backslashreplace")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()


class CsvTable(_TextTable):
    """A CSV file with the columns of SCHEMA."""

    def __init__(self, path: Path):
        super().__init__(path)
        self._rows = csv.writer(self._file, lineterminator="\n")
        self._rows.writerow(SCHEMA.names)

    def write(self, recording: LabelledRecording) -> None:
        """Append the labels of a recording."""
        for row in rows_of(recording):
            self._rows.writerow(table_row(row))


class ParquetTable:
    """A Parquet file with the columns of SCHEMA."""

    def __init__(self, path: Path):
        self._writer = parquet.ParquetWriter(path, SCHEMA)
        self._rows: list[tuple[object, ...]] = []

    def write(self, recording: LabelledRecording) -> None:
        """Append the labels of a recording."""
        self._rows += rows_of(recording)
        if len(self._rows) >= MOST_ROWS:
            self._flush()

    def _flush(self) -> None:
        columns = zip(*self._rows, strict=True) if self._rows else [()] * len(SCHEMA)
        arrays = [pyarrow.array(column, field.type) for column, field in zip(columns, SCHEMA, strict=True)]
        self._writer.write_table(pyarrow.Table.from_arrays(arrays, schema=SCHEMA))
        self._rows = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self._flush()
        self._writer.close()


class RavenTable(_TextTable):
    """A Raven selection table of one recording or of several.

    For several, Begin Time counts from the beginning of the first one, as Raven does when it opens the recordings as a
    sequence in the order of their paths; File Offset counts from the beginning of the selection's own recording. A
    recording that could not be used has no known duration, so it must not be in the sequence.
    """

    def __init__(self, path: Path, low_hz: float, high_hz: float):
        super().__init__(path)
        self._range = (f"{low_hz:.1f}", f"{high_hz:.1f}")
        self._number = 0
        self._begins_s = 0.0
        self._line(RAVEN_COLUMNS)

    def write(self, recording: LabelledRecording) -> None:
        """Append the labels of a recording."""
        known = recording.recorded_at
        for found in recording.detections:
            self._number += 1
            begin, end = self._begins_s + found.start_s, self._begins_s + found.end_s
            self._line(
                (
                    *(self._number, "Spectrogram 1", 1, f"{begin:.6f}", f"{end:.6f}", *self._range),
                    *(recording.file.name, recording.file, f"{found.start_s:.6f}", found.label),
                    *(f"{found.probability:.6f}", f"{found.similarity:.6f}"),
                    known.after(found.start_s) if known else "",
                    known.after(found.end_s) if known else "",
                    known.source if known else "",
                )
            )
        self._begins_s += recording.duration_s

    def _line(self, cells: Sequence[object]) -> None:
        self._file.write("\t".join(map(one_field, cells)) + "\n")


class AudacityLabels(_TextTable):
    """An Audacity label track: start, end and text on a line, with tabs between.

    For several recordings the times count from the beginning of the first one: import the recordings in the order of
    their paths, without those that could not be used, and choose Tracks > Align Tracks > Align End to End.
    """

    def __init__(self, path: Path, several: bool):
        super().__init__(path)
        self._several = several
        self._begins_s = 0.0

    def write(self, recording: LabelledRecording) -> None:
        """Append the labels of a recording."""
        for found in recording.detections:
            text = f"{found.label} {recording.path}" if self._several else found.label
            begin, end = self._begins_s + found.start_s, self._begins_s + found.end_s
            self._file.write(f"{begin:.6f}\t{end:.6f}\t{one_field(text)}\n")
        self._begins_s += recording.duration_s


def rows_of(recording: LabelledRecording) -> list[tuple[object, ...]]:
    """A row of SCHEMA for each label of a recording; absolute times are empty (None) where they are not known."""
    known = recording.recorded_at
    return [
        (
            recording.path,
            *(found.start_s, found.end_s, found.label, found.probability, found.similarity, found.windows),
            known and known.after(found.start_s),
            known and known.after(found.end_s),
            known and known.after(0),
            known and known.source,
            recording.warning,
        )
        for found in recording.detections
    ]


def one_field(value: object) -> str:
    """A field of a tab-separated line: tabs and line breaks, which would begin another, become spaces."""
    return " ".join(str(value).replace("\t", " ").splitlines())
