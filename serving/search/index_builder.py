"""Make an index from a Parquet file of embeddings."""

import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow
from numpy.typing import NDArray

from serving.bulk.embedding_file import EmbeddingFile, is_heard
from serving.bulk.file_facts import is_unchanged, stamp_of
from serving.bundle import Bundle
from serving.bundle_files import ZEROSHOT
from serving.errors import UsageError
from serving.new_folder import new_folder
from serving.progress import ProgressBars
from serving.search.graph import new_graph
from serving.search.index_folder import (
    EMBEDDINGS,
    FACTS,
    MANIFEST,
    ROWS,
    SAMPLE,
    SCHEMA,
    VECTORS,
    IndexManifest,
    stamps_of,
    write_manifest,
)
from serving.zeroshot import ZeroShot, unit_rows
from serving.zeroshot_file import parse_zeroshot

SAMPLE_ROWS = 1024  # at most
COLUMNS = ("path", "start_s", "end_s", "duration_s", "level_dbfs", "recorded_at", "start_at", "end_at")


def build_index(
    source: Path, out: Path, bundle: Bundle | None = None, overwrite: bool = False, threads: int = 1
) -> IndexManifest:
    """Write the index of a Parquet file of embeddings.

    source     that `serving.embed` or `serving.label --embeddings` wrote, with a row for each recording or window
    out        the index's folder
    bundle     the one that embedded them: what its classes claim is stored, so that searches by words are several
               times as fast
    overwrite  replace an index
    Rows whose sound is silent are left out, and those with an embedding of zeros, which has no direction.
    errors     UsageError: the Parquet file cannot be used or changed meanwhile; `out` exists or cannot be written
    """
    with new_folder(out, overwrite, MANIFEST) as folder:
        file = EmbeddingFile(source)
        stamp = stamp_of(source)
        writer = _IndexWriter(folder, file, None if bundle is None else _map_of(bundle, file), threads)
        writer.write()
        made_ns = time.time_ns()
        if not is_unchanged(source, stamp, made_ns):
            raise UsageError(f"{source}: changed while it was read; give the same command again")
        manifest = IndexManifest(
            embedding_space=file.space,
            embedding_size=file.size,
            rows=writer.n_rows,
            left_out=file.n_rows - writer.n_rows,
            has_claims=bundle is not None,
            mean=writer.mean.tolist(),
            parquet=str(source.resolve()),
            parquet_stamp=stamp,
            recordings=str(file.folder) if file.folder else None,
            files=stamps_of(folder),
            made_ns=made_ns,
        )
        write_manifest(folder, manifest)
    return manifest


def _map_of(bundle: Bundle, file: EmbeddingFile) -> ZeroShot:
    """The bundle's map. UsageError: another model than the bundle's embedded the file's rows."""
    space = bundle.manifest.embedding_space
    if space != file.space:
        raise UsageError(
            f"{file.path}: holds embeddings of another model ({file.space[:8]}) than the bundle {bundle.folder} has "
            f"({space[:8]}); give the bundle that embedded them"
        )
    return parse_zeroshot(bundle.read(ZEROSHOT), str(bundle.path(ZEROSHOT)), file.size)


class _IndexWriter:
    """Writes the files of an index. n_rows: in the index so far; mean: see `IndexManifest`."""

    def __init__(self, folder: Path, file: EmbeddingFile, zeroshot: ZeroShot | None, threads: int):
        self.n_rows = 0
        self._zeroshot = zeroshot
        self.mean = np.zeros(file.size, np.float32) if zeroshot is None else zeroshot.mean
        self._folder, self._file, self._threads = folder, file, threads
        self._graph = new_graph(file.size)
        self._sample: list[NDArray[np.float32]] = []
        self._every = -(-file.n_rows // SAMPLE_ROWS)

    def write(self) -> None:
        """Read all rows and write all files. UsageError: no row is left."""
        with (
            pyarrow.OSFile(str(self._folder / ROWS), "wb") as sink,
            pyarrow.ipc.new_file(sink, SCHEMA) as rows,
            (self._folder / EMBEDDINGS).open("wb") as numbers,
            (self._folder / FACTS).open("wb") as facts,
            ProgressBars(unit="row") as bar,
        ):
            task = bar.add_task("indexing", total=self._file.n_rows)
            for n_read, batch, embeddings in self._usable():
                keys = np.arange(self.n_rows, self.n_rows + len(embeddings))
                centred = embeddings - self.mean
                self._graph.add(keys, unit_rows(centred), threads=self._threads)
                numbers.write(embeddings.astype("<f4").tobytes())
                known = np.stack([np.linalg.norm(centred, axis=1), self._claims(embeddings)], axis=1)
                facts.write(known.astype("<f4").tobytes())
                self._sample.append(embeddings[keys % self._every == 0])
                rows.write_batch(_rows(batch))
                self.n_rows += len(embeddings)
                bar.update(task, advance=n_read)
        if not self.n_rows:
            raise UsageError(f"{self._file.path}: all of its rows are silent; give one of other recordings")
        np.save(self._folder / SAMPLE, np.concatenate(self._sample), allow_pickle=False)
        try:
            self._graph.save(str(self._folder / VECTORS))
        except RuntimeError as error:  # of USearch, for every failure
            raise OSError(0, str(error)) from error

    def _claims(self, embeddings: NDArray[np.float32]) -> NDArray[np.float32]:
        """Of rows [n]; zeros without a bundle."""
        if self._zeroshot is None or not len(embeddings):
            return np.zeros(len(embeddings), np.float32)
        return self._zeroshot.claims(embeddings)

    def _usable(self) -> Iterator[tuple[int, pyarrow.RecordBatch, NDArray[np.float32]]]:
        """The rows that are neither silent nor zero, and how many were read for them."""
        for batch, embeddings in self._file.batches(COLUMNS):
            used = is_heard(batch, embeddings)
            yield batch.num_rows, batch.filter(pyarrow.array(used)), embeddings[used]


def _rows(batch: pyarrow.RecordBatch) -> pyarrow.RecordBatch:
    """The columns of SCHEMA. What an older Parquet file lacks is computed or null."""
    known = set(batch.schema.names)
    end = pyarrow.array(batch["start_s"].to_numpy() + batch["duration_s"].to_numpy())
    columns = {name: batch[name] for name in SCHEMA.names if name in known}
    columns.setdefault("end_s", end)
    missing = pyarrow.nulls(batch.num_rows, pyarrow.string())
    return pyarrow.RecordBatch.from_arrays([columns.get(name, missing) for name in SCHEMA.names], schema=SCHEMA)
