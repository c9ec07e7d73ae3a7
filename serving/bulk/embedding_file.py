"""Read a Parquet file that `serving.embed` wrote, a batch of rows at a time."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow
from numpy.typing import NDArray
from pyarrow import parquet

from serving.audio.level import SILENT_DBFS
from serving.bulk.parquet_rows import FIRST_COLUMNS, FOLDER, GROUP_ROWS, schema_of
from serving.errors import UsageError, one_line

MAKE_IT = "make it with: python -m serving.embed BUNDLE RECORDINGS --out FILE.parquet"


class EmbeddingFile:
    """The embeddings of one model, one row for each recording or for each window of one.

    n_rows   1 or more
    size     numbers of an embedding
    space    embedding_space of all rows
    folder   of the recordings when they were embedded; None: the file does not say it
    columns  names of the columns that it has; older files lack some
    errors   UsageError: the file is missing, is no Parquet, has no embeddings, no rows, or rows of several models
    """

    def __init__(self, path: Path):
        self.path = path
        if not path.is_file():
            raise UsageError(f"{path}: no such file; {MAKE_IT}")
        try:
            with parquet.ParquetFile(path) as file:
                schema, self.n_rows = file.schema_arrow, file.metadata.num_rows
                has_all = set(FIRST_COLUMNS) <= set(schema.names)
                if not has_all or not _is_embedding(schema.field("embedding").type):
                    raise UsageError(f"{path}: is no Parquet of embeddings; {MAKE_IT}")
            spaces = parquet.read_table(path, columns=["embedding_space"], read_dictionary=["embedding_space"])
        except (OSError, pyarrow.ArrowException) as error:
            raise UsageError(f"{path}: cannot be read ({one_line(error, 120)}); {MAKE_IT}") from error
        found = spaces["embedding_space"].unique().to_pylist()
        if len(found) != 1 or found[0] is None:
            got = f"rows of {len(found)} models" if len(found) > 1 else "no rows" if not found else "rows of no model"
            raise UsageError(f"{path}: has {got}; {MAKE_IT}")
        self.space: str = found[0]
        self.size: int = schema.field("embedding").type.list_size
        self.columns = frozenset(schema.names)
        stored = (schema.metadata or {}).get(FOLDER)
        self.folder = Path(os.fsdecode(stored)) if stored else None

    def batches(self, columns: Sequence[str]) -> Iterator[tuple[pyarrow.RecordBatch, NDArray[np.float32]]]:
        """Yield up to GROUP_ROWS rows at a time: the columns, and the embeddings [n, size] float32.

        columns  names of columns, which get the types of `schema_of`; those that the file lacks are left out
        errors   UsageError: a row lacks its path, its place or its embedding, or has one that is not finite
        """
        wanted = [name for name in columns if name in self.columns]
        schema = pyarrow.schema([schema_of(self.size).field(name) for name in wanted])
        try:
            with parquet.ParquetFile(self.path) as file:
                for batch in file.iter_batches(GROUP_ROWS, columns=[*wanted, "embedding"]):
                    numbers = batch["embedding"].flatten()
                    must = [name for name in (*FIRST_COLUMNS, "embedding") if name in batch.schema.names]
                    if any(batch[name].null_count for name in must) or numbers.null_count:
                        raise UsageError(f"{self.path}: a row has no path, place or embedding; {MAKE_IT}")
                    rows = np.asarray(numbers.to_numpy(), np.float32).reshape(batch.num_rows, self.size)
                    if not np.isfinite(rows).all():
                        raise UsageError(f"{self.path}: an embedding is not finite; {MAKE_IT}")
                    cast = [batch[field.name].cast(field.type) for field in schema]
                    yield pyarrow.RecordBatch.from_arrays(cast, schema=schema), rows
        except (OSError, pyarrow.ArrowException) as error:
            raise UsageError(f"{self.path}: cannot be read ({one_line(error, 120)}); {MAKE_IT}") from error


def is_heard(batch: pyarrow.RecordBatch, embeddings: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Whether each row [n] of a batch is neither silent nor an embedding of zeros, which has no direction."""
    heard = np.asarray(embeddings.any(axis=1), np.bool_)
    if "level_dbfs" in batch.schema.names:
        heard = heard & ~(batch["level_dbfs"].to_numpy(zero_copy_only=False) < SILENT_DBFS)
    return heard


def are_recordings(batch: pyarrow.RecordBatch) -> bool:
    """Whether each row of a batch is of a whole recording: the mean of all its windows, silent ones too.

    batch   with the columns start_s and duration_s, and recording_s, which older files lack
    """
    starts, durations = (batch[name].to_numpy(zero_copy_only=False) for name in ("start_s", "duration_s"))
    if starts.any():
        return False
    if "recording_s" not in batch.schema.names:
        return True
    seconds = batch["recording_s"].to_numpy(zero_copy_only=False)
    return bool(((durations == seconds) | np.isnan(seconds)).all())


def _is_embedding(kind: pyarrow.DataType) -> bool:
    return pyarrow.types.is_fixed_size_list(kind) and pyarrow.types.is_float32(kind.value_type) and kind.list_size > 0
