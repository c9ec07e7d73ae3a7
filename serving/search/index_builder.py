"""Make an index from a Parquet file of embeddings."""

import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow
from numpy.typing import NDArray

from serving.bulk.embedding_file import EmbeddingFile, are_recordings, is_heard
from serving.bulk.file_facts import is_unchanged, stamp_of
from serving.bundle.bundle import Bundle
from serving.bundle.bundle_files import ZEROSHOT
from serving.errors import UsageError
from serving.files.new_folder import new_folder
from serving.progress import ProgressBars
from serving.search.grouping import group_rows
from serving.search.index_folder import (
    CELLS,
    EMBEDDINGS,
    MANIFEST,
    ORDER,
    ROWS,
    SAMPLE,
    SCHEMA,
    STARTS,
    IndexManifest,
    stamps_of,
    write_manifest,
)
from serving.search.records import FACTS, Records, numbers_of
from serving.zeroshot import ZeroShot
from serving.zeroshot.zeroshot_file import parse_zeroshot

SAMPLE_ROWS = 1024  # at most
SEED = 0  # of the cells: the same rows make the same index
UNSORTED = "unsorted.f32"  # the records in the order of the Parquet file, while the index is made
COLUMNS = ("path", "start_s", "end_s", "duration_s", "level_dbfs", "recording_s", "recorded_at", "start_at", "end_at")


def build_index(source: Path, out: Path, bundle: Bundle | None = None, overwrite: bool = False) -> IndexManifest:
    """Write the index of a Parquet file of embeddings.

    source     that `serving.embed` or `serving.label --embeddings` wrote, with a row for each recording or window
    out        the index's folder
    bundle     the one that embedded them: with what is stored of its map, words are found ten times as fast
    overwrite  replace an index
    Rows whose sound is silent are left out, and those with an embedding of zeros, which has no direction.
    errors     UsageError: the Parquet file cannot be used or changed meanwhile; `out` exists or cannot be written
    """
    with new_folder(out, overwrite, MANIFEST) as folder:
        file = EmbeddingFile(source)
        stamp = stamp_of(source)
        writer = _IndexWriter(folder, file, None if bundle is None else _map_of(bundle, file))
        writer.write()
        made_ns = time.time_ns()
        if not is_unchanged(source, stamp, made_ns):
            raise UsageError(f"{source}: changed while it was read; give the same command again")
        manifest = IndexManifest(
            embedding_space=file.space,
            embedding_size=file.size,
            rows=writer.n_rows,
            left_out=file.n_rows - writer.n_rows,
            map_id=writer.map_id,
            mean=writer.mean.tolist(),
            parquet=str(source.resolve()),
            parquet_stamp=stamp,
            recordings=str(file.folder) if file.folder else None,
            files=stamps_of(folder),
            made_ns=made_ns,
            per="clip" if writer.are_recordings else "window",
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
    """Writes the files of an index.

    n_rows          in the index so far
    are_recordings  all rows that were read are whole recordings
    mean, map_id    see `IndexManifest`
    """

    def __init__(self, folder: Path, file: EmbeddingFile, zeroshot: ZeroShot | None):
        self.n_rows, self.are_recordings = 0, True
        self._zeroshot = zeroshot
        self.mean = np.zeros(file.size, np.float32) if zeroshot is None else zeroshot.mean
        self.map_id = None if zeroshot is None else zeroshot.map_id
        self._folder, self._file = folder, file

    def write(self) -> None:
        """Read all rows and write all files. UsageError: no row is left."""
        with ProgressBars(unit="row") as bars:
            self._read(bars)
            if not self.n_rows:
                raise UsageError(f"{self._file.path}: all of its rows are silent; give one of other recordings")
            self._sort(bars)
        (self._folder / UNSORTED).unlink()

    def _read(self, bars: ProgressBars) -> None:
        """Write what does not depend on the cells, and the records unsorted."""
        with (
            pyarrow.OSFile(str(self._folder / ROWS), "wb") as sink,
            pyarrow.ipc.new_file(sink, SCHEMA) as rows,
            (self._folder / UNSORTED).open("wb") as unsorted,
        ):
            task = bars.add_task("reading", total=self._file.n_rows)
            for n_read, batch, embeddings in self._usable():
                unsorted.write(_bytes(numbers_of(embeddings, self.mean, self._zeroshot)))
                rows.write_batch(_rows(batch))
                self.n_rows += len(embeddings)
                bars.update(task, advance=n_read)

    def _sort(self, bars: ProgressBars) -> None:
        """Write the sample, the records in the order of their cells, and the cells."""
        shape = (self.n_rows, self._file.size + FACTS)
        unsorted = np.asarray(np.memmap(self._folder / UNSORTED, "<f4", "r", shape=shape))
        sample = unsorted[:: -(-self.n_rows // SAMPLE_ROWS), :-FACTS]
        np.save(self._folder / SAMPLE, np.ascontiguousarray(sample), allow_pickle=False)
        order, sizes = [], []
        task = bars.add_task("sorting into cells", total=self.n_rows)
        with (self._folder / EMBEDDINGS).open("wb") as records, (self._folder / CELLS).open("wb") as cells:
            for group in group_rows(Records(unsorted, self.mean, self.map_id), np.random.default_rng(SEED)):
                chosen = unsorted[group.rows]
                records.write(_bytes(chosen))
                # A cell's embedding is as long as its rows' ones, because the scores are computed for it as for a row.
                length = np.linalg.norm(chosen[:, :-FACTS] - self.mean, axis=1).mean()
                spreads = np.sqrt(np.maximum(0, 1 - np.square(group.means).sum(axis=1)))
                cells.write(_bytes(numbers_of(self.mean + length * group.means, self.mean, self._zeroshot, spreads)))
                order.append(group.rows)
                sizes.append(group.sizes)
                bars.update(task, advance=len(group.rows))
        np.save(self._folder / ORDER, np.concatenate(order).astype("<i8"), allow_pickle=False)
        starts = np.append(0, np.cumsum(np.concatenate(sizes)))
        np.save(self._folder / STARTS, starts.astype("<i8"), allow_pickle=False)

    def _usable(self) -> Iterator[tuple[int, pyarrow.RecordBatch, NDArray[np.float32]]]:
        """The rows that are neither silent nor zero, and how many were read for them."""
        for batch, embeddings in self._file.batches(COLUMNS):
            self.are_recordings &= are_recordings(batch)
            used = is_heard(batch, embeddings)
            yield batch.num_rows, batch.filter(pyarrow.array(used)), embeddings[used]


def _bytes(numbers: NDArray[np.float32]) -> bytes:
    return numbers.astype("<f4").tobytes()


def _rows(batch: pyarrow.RecordBatch) -> pyarrow.RecordBatch:
    """The columns of SCHEMA. What an older Parquet file lacks is computed or null."""
    known = set(batch.schema.names)
    end = pyarrow.array(batch["start_s"].to_numpy() + batch["duration_s"].to_numpy())
    columns = {name: batch[name] for name in SCHEMA.names if name in known}
    columns.setdefault("end_s", end)
    missing = pyarrow.nulls(batch.num_rows, pyarrow.string())
    return pyarrow.RecordBatch.from_arrays([columns.get(name, missing) for name in SCHEMA.names], schema=SCHEMA)
