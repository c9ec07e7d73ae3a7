"""The Parquet file of a finished job: what it was made with, what is in it, and what an update keeps of it."""

import heapq
import itertools
import json
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import astuple
from pathlib import Path
from typing import Any

import pyarrow
from pyarrow import compute, parquet

from serving.bulk.file_facts import FileStamp
from serving.bulk.job_settings import differences
from serving.bulk.parquet_rows import GROUP_ROWS
from serving.errors import UsageError, one_line

SETTINGS = b"settings"  # keys of its metadata: everything that the rows depend on, as JSON
BEGUN = b"begun_ns"  # and when the job that wrote it began, in nanoseconds since 1970
STAMPS = ("path", "file_size", "file_mtime_ns", "file_ctime_ns", "file_sha256")


class FinishedRows:
    """A file that `serving.embed` wrote.

    settings     that it must have been made with
    begin_anew   the way out, for messages
    n_rows       that it has
    errors       UsageError: it is another file, or was made with other settings
    """

    def __init__(self, path: Path, settings: dict[str, Any], begin_anew: str):
        self.path = path
        try:
            with parquet.ParquetFile(path) as file:
                metadata, schema = file.metadata.metadata or {}, file.schema_arrow
                self.n_rows: int = file.metadata.num_rows
        except (OSError, pyarrow.ArrowException) as error:
            raise UsageError(f"{path}: cannot be read ({one_line(error, 120)}); {begin_anew}") from error
        if SETTINGS not in metadata or BEGUN not in metadata or not set(STAMPS) <= set(schema.names):
            raise UsageError(f"{path}: is not from this version of serving.embed; {begin_anew}")
        made_with = json.loads(metadata[SETTINGS])
        if other := differences({key: made_with.get(key) for key in settings}, settings):
            raise UsageError(f"{path}: was made with {other}; give those again, or {begin_anew}")
        self.begun_ns = int(metadata[BEGUN])

    def stamps(self) -> dict[str, FileStamp]:
        """The stamp of each recording, by its path."""
        return {path: FileStamp(*stamp) for path, *stamp in self._recordings(STAMPS)}

    def warnings(self) -> dict[str, str]:
        """What of each recording could not be read, by its path; "" for most."""
        return dict(self._recordings(("path", "warning")))

    def _recordings(self, columns: Sequence[str]) -> Iterator[list[Any]]:
        """Yield these columns of the first row of each recording, whose path comes first."""
        found: set[str] = set()
        with parquet.ParquetFile(self.path) as file:
            for batch in file.iter_batches(GROUP_ROWS, columns=list(columns)):
                # A recording may have thousands of rows one after the other: its first one is enough.
                ends = compute.call_function("run_end_encode", [batch["path"]]).run_ends.to_pylist()
                batch = batch.take(pyarrow.array([0, *ends][:-1], pyarrow.int64()))
                for row in zip(*(batch[name].to_pylist() for name in columns), strict=True):
                    if row[0] not in found:
                        found.add(row[0])
                        yield list(row)

    def rows_except(
        self, renewed: Container[str], schema: pyarrow.Schema, stamps: Mapping[str, FileStamp]
    ) -> Iterator[tuple[str, pyarrow.RecordBatch]]:
        """Yield the path and the rows of each recording that is not among the renewed ones, a batch at a time.

        stamps   path -> new stamp of a recording that has other times, but the same content
        """
        with parquet.ParquetFile(self.path) as file:
            for path, batch in by_path(file.iter_batches(GROUP_ROWS)):
                if path not in renewed:
                    columns = batch.columns
                    if stamp := stamps.get(path):
                        for name, value in zip(STAMPS[1:], astuple(stamp), strict=True):
                            at = batch.schema.get_field_index(name)
                            columns[at] = pyarrow.array([value] * batch.num_rows, schema.field(name).type)
                    yield path, pyarrow.RecordBatch.from_arrays(columns, schema=schema)


def by_path(batches: Iterable[pyarrow.RecordBatch]) -> Iterator[tuple[str, pyarrow.RecordBatch]]:
    """Cut batches into rows of one recording each; a recording may give several in a row."""
    for batch in batches:
        first = 0
        for path, same in itertools.groupby(batch["path"].to_pylist()):
            count = sum(1 for _ in same)
            yield path, batch.slice(first, count)
            first += count


def in_path_order(
    one: Iterable[tuple[str, pyarrow.RecordBatch]], other: Iterable[tuple[str, pyarrow.RecordBatch]]
) -> Iterator[pyarrow.RecordBatch]:
    """Merge the rows of two sources that are each in the order of their paths."""
    for _, batch in heapq.merge(one, other, key=lambda item: item[0]):
        yield batch
