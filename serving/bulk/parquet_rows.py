"""Embeddings as rows of a Parquet file: one row for each recording, or one for each window of it."""

import csv
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pyarrow
from numpy.typing import NDArray
from pyarrow import parquet

from serving.bulk.embed_files import FileEmbeddings
from serving.bulk.file_facts import FileFacts
from serving.errors import AudioError
from serving.files.csv_cells import safe_cell
from serving.pooling import pool

GROUP_ROWS = 16_384  # rows of a row group, 8 MB: the rows held in memory while writing
# Keys of Parquet metadata.
ERRORS = b"errors"  # of a part: JSON, [[path, reason], ...]
WARNED = b"warned"  # of a part: JSON, [[path, what is missing], ...] of the files that were read only in part
FOLDER = b"folder"  # of the finished file: the folder of the recordings, as os.fsencode gives it
# What older files have too.
FIRST_COLUMNS = ("path", "start_s", "duration_s", "embedding", "embedding_space")


def schema_of(embedding_size: int) -> pyarrow.Schema:
    """The columns of the Parquet file.

    path             of the file, relative to the folder that was embedded, with slashes
    start_s, end_s   where the row's sound is in the recording, in seconds; never beyond its end
    duration_s       end_s - start_s
    padded           the window is longer than its sound, and was filled with zeros; of a recording: all its windows are
    embedding        of the recording (the mean over its windows), or of the window
    embedding_space  embeddings can be compared only if this is equal
    warning          which part of the recording could not be read; "": all was read
    level_dbfs       peak level of the row's sound
    recording_s      duration of the whole recording, in seconds
    recorded_at, start_at, end_at   when the recording and the row's sound began, and when that ended: ISO 8601, ends
                     with Z if it is UTC, otherwise the recorder's own clock; null: not known
    recorded_from    what says so: guano, audiomoth, bext or name
    file_size, file_mtime_ns, file_ctime_ns, file_sha256   see `FileStamp`
    """
    text, number, whole = pyarrow.string(), pyarrow.float64(), pyarrow.int64()
    return pyarrow.schema(
        [
            ("path", text),
            ("start_s", number),
            ("end_s", number),
            ("duration_s", number),
            ("padded", pyarrow.bool_()),
            ("embedding", pyarrow.list_(pyarrow.float32(), embedding_size)),
            ("embedding_space", text),
            ("warning", text),
            ("level_dbfs", number),
            ("recording_s", number),
            *((name, text) for name in ("recorded_at", "start_at", "end_at", "recorded_from")),
            *((name, whole) for name in ("file_size", "file_mtime_ns", "file_ctime_ns")),
            ("file_sha256", text),
        ]
    )


@dataclass(frozen=True)
class FileOutcome:
    """A file of the folder, with its embeddings or with the error why there are none."""

    path: str
    outcome: FileEmbeddings | AudioError
    facts: FileFacts


class RowMaker:
    """Makes rows from the embeddings of a file.

    per     "clip" (one row for each recording) or "window"
    space   the bundle's embedding_space
    """

    def __init__(self, per: str, embedding_size: int, space: str):
        self.per = per
        self.space = space
        self.schema = schema_of(embedding_size)

    def rows_of(self, path: str, file: FileEmbeddings, facts: FileFacts) -> pyarrow.RecordBatch:
        """One row for the recording, or one for each window of it."""
        starts, ends, padded, levels, rows = file.starts_s, file.ends_s, file.padded, file.levels_dbfs, file.rows
        if self.per == "clip":
            starts, ends, rows = np.zeros(1), np.array([file.duration_s]), pool(file.rows)[None]
            padded, levels = padded.all(keepdims=True), levels.max(keepdims=True)
        n, at, stamp = len(starts), facts.recorded_at, facts.stamp
        values: dict[str, Any] = {
            "path": [path] * n,
            "start_s": starts,
            "end_s": ends,
            "duration_s": ends - starts,
            "embedding": _lists(rows),
            "embedding_space": [self.space] * n,
            "warning": ["; ".join(file.warnings)] * n,
            "padded": padded,
            "level_dbfs": levels,
            "recording_s": [file.duration_s] * n,
            "recorded_at": [at and at.after(0)] * n,
            "start_at": [at and at.after(second) for second in starts.tolist()],
            "end_at": [at and at.after(second) for second in ends.tolist()],
            "recorded_from": [at and at.source] * n,
            "file_size": [stamp.size] * n,
            "file_mtime_ns": [stamp.mtime_ns] * n,
            "file_ctime_ns": [stamp.ctime_ns] * n,
            "file_sha256": [stamp.sha256] * n,
        }
        arrays = [
            values[field.name] if field.name == "embedding" else pyarrow.array(values[field.name], field.type)
            for field in self.schema
        ]
        return pyarrow.RecordBatch.from_arrays(arrays, schema=self.schema)


def _lists(rows: NDArray[np.float32]) -> pyarrow.FixedSizeListArray:
    return pyarrow.FixedSizeListArray.from_arrays(pyarrow.array(rows.reshape(-1)), rows.shape[1])


@dataclass(frozen=True)
class MadeRows:
    """The rows of some files, as a process made them.

    files, seconds   number of the files; seconds of sound in those that have rows
    batches          their rows, in order
    errors, warned   (path, reason) of each file without rows, and of each that was read only in part
    """

    files: int
    seconds: float
    batches: list[pyarrow.RecordBatch]
    errors: list[tuple[str, str]]
    warned: list[tuple[str, str]]


def make_rows(row_maker: RowMaker, outcomes: Iterable[FileOutcome]) -> MadeRows:
    """The rows of some files, joined."""
    files = list(outcomes)
    errors: list[tuple[str, str]] = []
    warned: list[tuple[str, str]] = []
    batches: list[pyarrow.RecordBatch] = []
    seconds = 0.0
    for file in files:
        if isinstance(file.outcome, AudioError):
            errors.append((file.path, str(file.outcome)))
        else:
            if file.outcome.warnings:
                warned.append((file.path, "; ".join(file.outcome.warnings)))
            seconds += file.outcome.duration_s
            batches.append(row_maker.rows_of(file.path, file.outcome, file.facts))
    if len(batches) > 1:
        batches = pyarrow.Table.from_batches(batches).combine_chunks().to_batches()
    return MadeRows(len(files), seconds, batches, errors, warned)


def write_part(sink: Path | BinaryIO, row_maker: RowMaker, outcomes: Iterable[FileOutcome]) -> float:
    """Write the rows of these files to a Parquet file, see `write_made_rows`. Returns the seconds of sound."""
    return write_made_rows(sink, row_maker.schema, (make_rows(row_maker, [file]) for file in outcomes))


def write_made_rows(sink: Path | BinaryIO, schema: pyarrow.Schema, parts: Iterable[MadeRows]) -> float:
    """Write rows to a Parquet file; its metadata gets the files that were not read or not whole.

    returns   seconds of sound in the recordings
    """
    errors: list[tuple[str, str]] = []
    warned: list[tuple[str, str]] = []
    seconds = 0.0

    def batches() -> Iterator[pyarrow.RecordBatch]:
        nonlocal seconds
        for part in parts:
            errors.extend(part.errors)
            warned.extend(part.warned)
            seconds += part.seconds
            yield from part.batches

    with _writer(sink, schema) as writer:
        _write_groups(writer, batches(), schema)
        writer.add_key_value_metadata({ERRORS: json.dumps(errors).encode(), WARNED: json.dumps(warned).encode()})
    return seconds


def have_rows(parts: Iterable[Path]) -> bool:
    """Whether any part of a job has rows."""
    return any(parquet.read_metadata(part).num_rows for part in parts)


class PartReader:
    """Reads the parts of a job, in order, and writes the files that were not read or not whole into a CSV file.

    The CSV has the columns path, error, embedded: "no", or "in part" for a file that was read only in part.
    errors, warned   files without rows, and files that were read only in part; of the parts that were read so far
    """

    def __init__(self, parts: Iterable[Path], errors: Path):
        self._parts = parts
        self._sink = errors
        self.errors = self.warned = 0

    def batches(self) -> Iterator[pyarrow.RecordBatch]:
        """Yield the rows of all parts; at most about GROUP_ROWS of them are in memory."""
        with self._sink.open("w", newline="", encoding="utf-8", errors="backslashreplace") as file:
            lines = csv.writer(file)
            lines.writerow(("path", "error", "embedded"))
            for part in self._parts:
                with parquet.ParquetFile(part) as source:
                    reasons = json.loads(source.metadata.metadata[ERRORS])
                    partial = json.loads(source.metadata.metadata[WARNED])
                    lines.writerows((*map(safe_cell, reason), "no") for reason in reasons)
                    lines.writerows((*map(safe_cell, missing), "in part") for missing in partial)
                    self.errors += len(reasons)
                    self.warned += len(partial)
                    yield from source.iter_batches(GROUP_ROWS)


def write_rows(sink: Path, batches: Iterable[pyarrow.RecordBatch], schema: pyarrow.Schema) -> int:
    """Write rows into one Parquet file, at most about GROUP_ROWS of them in memory. Returns their number."""
    with _writer(sink, schema) as writer:
        return _write_groups(writer, batches, schema)


def _writer(sink: Path | BinaryIO, schema: pyarrow.Schema) -> parquet.ParquetWriter:
    columns: Any = [field.name for field in schema if field.type == pyarrow.string()]  # embeddings do not repeat
    return parquet.ParquetWriter(sink, schema, use_dictionary=columns)


def _write_groups(writer: parquet.ParquetWriter, batches: Iterable[pyarrow.RecordBatch], schema: pyarrow.Schema) -> int:
    """Write batches as row groups of about GROUP_ROWS rows. Returns the number of rows."""
    group: list[pyarrow.RecordBatch] = []
    waiting = total = 0
    for batch in batches:
        group.append(batch)
        waiting += batch.num_rows
        if waiting >= GROUP_ROWS:
            writer.write_table(pyarrow.Table.from_batches(group, schema))
            total += waiting
            group, waiting = [], 0
    writer.write_table(pyarrow.Table.from_batches(group, schema))
    return total + waiting
