"""A library that `serving.embed` wrote, read to choose from its rows."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow
from numpy.typing import NDArray

from serving.bulk.embedding_file import EmbeddingFile, is_heard
from serving.errors import UsageError
from serving.teaching.example_keys import stretch_of
from serving.teaching.stretches import Stretches

COLUMNS = ("path", "start_s", "duration_s", "level_dbfs", "file_sha256")


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
        return self._absolute(self.paths[row])

    def listed(self, stretches: Stretches) -> NDArray[np.bool_]:
        """[n] bool: whether a row lies mostly within these stretches of files, which are named as `file` does it."""
        if not stretches:
            return np.zeros(len(self), bool)
        files = {path: self._absolute(path) for path in set(self.paths)}
        return self._within(stretches, (files[path] for path in self.paths))

    def among(self, keys: Iterable[str]) -> NDArray[np.bool_]:
        """[n] bool: whether a row lies mostly within these examples, see `key_of`."""
        return self._within(Stretches(map(stretch_of, keys)), self.sha256)

    def _absolute(self, path: str) -> str:
        return str((self.root / path).absolute())

    def _within(self, stretches: Stretches, recordings: Iterable[str]) -> NDArray[np.bool_]:
        if not stretches:
            return np.zeros(len(self), bool)
        places = zip(recordings, self.starts_s.tolist(), self.ends_s.tolist(), strict=True)
        return np.fromiter((stretches.hold(*place) for place in places), bool, len(self))


def read_embedded_library(path: Path, space: str, recordings: Path | None = None) -> EmbeddedLibrary:
    """Read a library.

    space       the embedding space that its rows must have
    recordings  folder of the recordings; None: the one that the file names
    errors      UsageError: it is missing, no such file, empty, silent throughout, or of another embedding space
    """
    file = EmbeddingFile(path)
    if file.space != space:
        raise UsageError(
            f"{path}: is of embedding space {file.space[:16]}, the bundle of {space[:16]}; "
            "embed the recordings with this bundle, or give the other one"
        )
    tables, rows = [], []
    for batch, embeddings in file.batches(COLUMNS):
        heard = is_heard(batch, embeddings)
        tables.append(batch.filter(pyarrow.array(heard)))
        rows.append(embeddings[heard])
    table = pyarrow.Table.from_batches(tables)
    if not len(table):
        raise UsageError(f"{path}: all its rows are silent; give other recordings")
    starts = table["start_s"].to_numpy()
    ends = starts + table["duration_s"].to_numpy()
    known = "file_sha256" in table.column_names
    digests = [each or "" for each in table["file_sha256"].to_pylist()] if known else [""] * len(table)
    root = recordings or file.folder or Path()
    return EmbeddedLibrary(root, table["path"].to_pylist(), starts, ends, np.concatenate(rows), digests)
