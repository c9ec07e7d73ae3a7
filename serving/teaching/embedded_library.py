"""A library that `serving.embed` wrote, read to choose from its rows."""

import os
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow
from numpy.typing import NDArray
from pyarrow import parquet

from serving.audio import SILENT_DBFS
from serving.bulk.parquet_rows import FIRST_COLUMNS, FOLDER
from serving.errors import UsageError, one_line
from serving.teaching.embedded_examples import key_of

MAKE_IT = "python -m serving.embed BUNDLE RECORDINGS --per window --out LIBRARY.parquet"


@dataclass(frozen=True, eq=False)
class EmbeddedLibrary:
    """The rows of a library that are not silent: windows, or whole recordings.

    root             folder of the recordings; paths are relative to it
    starts_s, ends_s  [n] float64: of each row's sound in its recording, in seconds
    embeddings       [n, 128] float32
    sha256           of each row's recording; "": not known
    """

    root: Path
    paths: list[str]
    starts_s: NDArray[np.float64]
    ends_s: NDArray[np.float64]
    embeddings: NDArray[np.float32]
    sha256: list[str]

    def __len__(self) -> int:
        return len(self.paths)

    def file(self, row: int) -> str:
        """The absolute path of a row's recording."""
        return str((self.root / self.paths[row]).absolute())

    def listed(self, stretches: AbstractSet[tuple[str, float]]) -> NDArray[np.bool_]:
        """[n] bool: whether a row's file and start in seconds, to the millisecond, are among these."""
        if not stretches:
            return np.zeros(len(self), bool)
        return np.array(
            [(self.file(row), round(float(self.starts_s[row]), 3)) in stretches for row in range(len(self))]
        )

    def among(self, keys: AbstractSet[str]) -> NDArray[np.bool_]:
        """[n] bool: whether a row, or the whole recording that it is of, is one of these examples, see `key_of`."""
        places = zip(self.sha256, self.starts_s.tolist(), self.ends_s.tolist(), strict=True)
        return np.array([not keys.isdisjoint((key_of(d, s, e), key_of(d, 0.0, None))) for d, s, e in places], bool)


def read_embedded_library(path: Path, space: str, recordings: Path | None = None) -> EmbeddedLibrary:
    """Read a library.

    space       the embedding space that its rows must have
    recordings  folder of the recordings; None: the one that the file names
    errors      UsageError: it is missing, no such file, empty, silent throughout, or of another embedding space
    """
    if not path.is_file():
        raise UsageError(f"{path}: no such file; make it with: {MAKE_IT}")
    try:
        table = parquet.read_table(path)
    except (OSError, pyarrow.ArrowException) as error:
        raise UsageError(f"{path}: cannot be read ({one_line(error, 120)}); make it with: {MAKE_IT}") from error
    names = table.column_names
    if not set(FIRST_COLUMNS) <= set(names) or any(table[name].null_count for name in FIRST_COLUMNS):
        raise UsageError(f"{path}: is no Parquet of embeddings; make it with: {MAKE_IT}")
    spaces = sorted(table["embedding_space"].unique().to_pylist())
    if spaces != [space]:
        got = ", ".join(each[:16] for each in spaces) or "no rows"
        raise UsageError(f"{path}: is of embedding space {got}, the bundle of {space[:16]}; make it with: {MAKE_IT}")
    if "level_dbfs" in names:
        table = table.filter(pyarrow.array(table["level_dbfs"].to_numpy() >= SILENT_DBFS))
    if not len(table):
        raise UsageError(f"{path}: all its rows are silent; give other recordings")
    stored = (table.schema.metadata or {}).get(FOLDER)
    root = recordings or (Path(os.fsdecode(stored)) if stored else Path())
    starts = table["start_s"].to_numpy()
    rows = table["embedding"].combine_chunks().flatten().to_numpy().reshape(len(table), -1)
    ends = starts + table["duration_s"].to_numpy()
    digests = table["file_sha256"].to_pylist() if "file_sha256" in names else [""] * len(table)
    paths = table["path"].to_pylist()
    return EmbeddedLibrary(root, paths, starts, ends, np.ascontiguousarray(rows, np.float32), digests)
