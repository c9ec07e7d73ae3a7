"""Embeddings as rows of a Parquet file: one row for each recording, or one for each window of it."""

import csv
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pyarrow
from numpy.typing import NDArray
from pyarrow import parquet

from serving.bulk.embed_files import FileEmbeddings
from serving.errors import AudioError
from serving.pooling import pool

GROUP_ROWS = 16_384  # rows of a row group, 8 MB: the rows held in memory while writing
# Keys of Parquet metadata.
ERRORS = b"errors"  # of a part: JSON, [[path, reason], ...]
WARNED = b"warned"  # of a part: JSON, [[path, what is missing], ...] of the files that were read only in part
FOLDER = b"folder"  # of the finished file: the folder of the recordings, as os.fsencode gives it


def schema_of(embedding_size: int) -> pyarrow.Schema:
    """The columns of the Parquet file.

    path             of the file, relative to the folder that was embedded, with slashes
    start_s          start of the row's sound in the recording, in seconds
    end_s            end of the row's sound in the recording, in seconds
    duration_s       duration of the row's sound, in seconds
    padded           the window is longer than its sound, and was filled with zeros; of a recording: all its windows are
    embedding        of the recording (the mean over its windows), or of the window
    embedding_space  embeddings can be compared only if this is equal
    warning          which part of the recording could not be read; "": all was read
    """
    return pyarrow.schema(
        [
            ("path", pyarrow.string()),
            ("start_s", pyarrow.float64()),
            ("end_s", pyarrow.float64()),
            ("duration_s", pyarrow.float64()),
            ("padded", pyarrow.bool_()),
            ("embedding", pyarrow.list_(pyarrow.float32(), embedding_size)),
            ("embedding_space", pyarrow.string()),
            ("warning", pyarrow.string()),
        ]
    )


class RowMaker:
    """Makes rows from the embeddings of a file.

    per     "clip" (one row for each recording) or "window"
    space   the bundle's embedding_space
    """

    def __init__(self, per: str, embedding_size: int, space: str):
        self.per = per
        self.space = space
        self.schema = schema_of(embedding_size)

    def rows_of(self, path: str, file: FileEmbeddings) -> pyarrow.RecordBatch:
        """One row for the recording, or one for each window of it."""
        if self.per == "clip":
            whole, end, padded = np.zeros(1), np.array([file.duration_s]), np.array([bool(file.padded.all())])
            return self._batch(path, whole, end, padded, pool(file.rows)[None], file.warnings)
        return self._batch(path, file.starts_s, file.ends_s, file.padded, file.rows, file.warnings)

    def _batch(
        self,
        path: str,
        starts: NDArray[np.floating],
        ends: NDArray[np.floating],
        padded: NDArray[np.bool_],
        embeddings: NDArray[np.float32],
        warnings: tuple[str, ...],
    ) -> pyarrow.RecordBatch:
        count, size = embeddings.shape
        columns = [
            pyarrow.array([path] * count, pyarrow.string()),
            pyarrow.array(starts),
            pyarrow.array(ends),
            pyarrow.array(ends - starts),
            pyarrow.array(padded),
            pyarrow.FixedSizeListArray.from_arrays(pyarrow.array(embeddings.reshape(-1)), size),
            pyarrow.array([self.space] * count, pyarrow.string()),
            pyarrow.array(["; ".join(warnings)] * count, pyarrow.string()),
        ]
        return pyarrow.RecordBatch.from_arrays(columns, schema=self.schema)


def write_part(
    sink: Path | BinaryIO, row_maker: RowMaker, outcomes: Iterable[tuple[str, FileEmbeddings | AudioError]]
) -> None:
    """Write the rows of these files to a Parquet file; its metadata gets the files that were not read or not whole."""
    errors: list[tuple[str, str]] = []
    warned: list[tuple[str, str]] = []

    def batches() -> Iterator[pyarrow.RecordBatch]:
        for path, outcome in outcomes:
            if isinstance(outcome, AudioError):
                errors.append((path, str(outcome)))
            else:
                if outcome.warnings:
                    warned.append((path, "; ".join(outcome.warnings)))
                yield row_maker.rows_of(path, outcome)

    with _writer(sink, row_maker.schema) as writer:
        _write_groups(writer, batches(), row_maker.schema)
        writer.add_key_value_metadata({ERRORS: json.dumps(errors).encode(), WARNED: json.dumps(warned).encode()})


def merge_parts(parts: Iterable[Path], sink: Path, errors: Path, schema: pyarrow.Schema) -> tuple[int, int, int]:
    """Write the rows of all parts, in order, into one Parquet file, and their errors into a CSV file.

    The CSV has the columns path, error, embedded: "no", or "in part" for a file that was read only in part.
    returns  the number of rows, of errors, and of files that were read only in part
    At most about GROUP_ROWS rows are in memory.
    """
    n_errors = n_warned = 0
    with errors.open("w", newline="", encoding="utf-8", errors="backslashreplace") as file:
        lines = csv.writer(file)
        lines.writerow(("path", "error", "embedded"))

        def batches() -> Iterator[pyarrow.RecordBatch]:
            nonlocal n_errors, n_warned
            for part in parts:
                with parquet.ParquetFile(part) as source:
                    reasons = json.loads(source.metadata.metadata[ERRORS])
                    partial = json.loads(source.metadata.metadata[WARNED])
                    lines.writerows((*reason, "no") for reason in reasons)
                    lines.writerows((*missing, "in part") for missing in partial)
                    n_errors += len(reasons)
                    n_warned += len(partial)
                    yield from source.iter_batches(GROUP_ROWS)

        with _writer(sink, schema) as writer:
            n_rows = _write_groups(writer, batches(), schema)
    return n_rows, n_errors, n_warned


def _writer(sink: Path | BinaryIO, schema: pyarrow.Schema) -> parquet.ParquetWriter:
    columns: Any = ["path", "embedding_space", "warning"]  # embeddings have no repeated values
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
