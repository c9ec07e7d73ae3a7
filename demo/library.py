"""A library of embedded recordings: nearest neighbours, positions on a map, and short previews."""

import base64
import io
import os
import re
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath

import numpy as np
import pyarrow
import soundfile
from numpy.typing import NDArray

from demo.examples import Example
from serving.audio import Recording
from serving.audio.mono_stream import MonoStream
from serving.audio.reading import file_blocks
from serving.bulk.embedding_file import EmbeddingFile, are_recordings, is_heard
from serving.bulk.pooled_files import pool_files
from serving.embedder import Embedder
from serving.errors import AudioError, UsageError
from serving.search.cells import Cells
from serving.search.query import Query
from serving.search.search_index import SearchIndex
from serving.search.vector_search import VectorSearch
from serving.zeroshot import unit_rows
from serving.zeroshot.label_lists import ESC50, list_in_words

PREVIEW_S = 10.0  # longest preview of a recording
PREVIEW_HZ = 32_000  # a sample rate of MP3
PLACED_BY = 50_000  # rows at most, whose principal components are the map's directions
SAMPLE_ROWS = 1024  # by which the scores of several conditions are standardised
SEEKABLE = (".flac", ".aiff", ".aif", ".w64", ".au", ".caf")  # by libsndfile to the right sample
ESC50_CLASSES = list_in_words(ESC50)
ESC50_NAME = re.compile(r"\d-\d+-[A-Z]-(\d+)")  # fold-source-take-target


@dataclass(frozen=True, eq=False)
class Library:
    """Embedded recordings or windows of recordings, one per row.

    name        for display
    root        folder to which `paths` are relative
    classes     class of each row; "" if unknown
    starts_s, durations_s   [n] float64: start in the recording and duration of each row, in seconds
    embeddings  [n, size] float32
    space       embedding_space of all rows
    per         what each row is: "clip", a whole recording, or "window"
    cells       of the rows, in their order, from an index; None: every row is compared with what is looked for
    is_uploaded the recordings are copies that are deleted when the demo ends; only their names last
    """

    name: str
    root: Path
    paths: list[str]
    classes: list[str]
    starts_s: NDArray[np.float64]
    durations_s: NDArray[np.float64]
    embeddings: NDArray[np.float32]
    space: str
    per: str = "window"
    cells: Cells | None = None
    is_uploaded: bool = False

    def __len__(self) -> int:
        return len(self.paths)

    @cached_property
    def _vectors(self) -> VectorSearch:
        return VectorSearch(self.embeddings, self._sample(SAMPLE_ROWS), self.cells)

    def _sample(self, count: int) -> NDArray[np.float32]:
        """At most `count` embeddings of rows from everywhere."""
        return self.embeddings[:: -(-len(self) // count)]

    def search(self, query: Query, count: int) -> list[tuple[int, float]]:
        """Find the rows that meet a query best: (row, score), best first."""
        return [(each.row, each.score) for each in self._vectors.find(query, count)]

    @cached_property
    def _axes(self) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
        """The mean of the unit embeddings [size] and their first two principal components [size, 2]."""
        rows = unit_rows(self._sample(PLACED_BY))
        mean = rows.mean(axis=0)
        _, directions = np.linalg.eigh(np.cov(rows - mean, rowvar=False, ddof=0))
        return mean, directions[:, :-3:-1]

    def place(self, embeddings: NDArray[np.float32]) -> NDArray[np.float64]:
        """Project embeddings [n, size] onto the library's first two principal components: [n, 2]."""
        mean, directions = self._axes
        return (unit_rows(embeddings) - mean) @ directions

    def preview(self, row: int) -> str:
        """Encode the first PREVIEW_S seconds of a row as mono MP3 in a data URL. The page never serves the file itself.

        errors   UsageError: there is no such row; AudioError: the recording is missing or not readable
        """
        if not 0 <= row < len(self):
            raise UsageError(f"row: got {row}; wanted 0 to {len(self) - 1}")
        name = self.paths[row]
        if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
            raise AudioError(f"{name}: leads out of the library's folder, so it cannot be played")
        try:
            wave = _read_stretch(self.root / name, self.starts_s[row], min(self.durations_s[row], PREVIEW_S))
        except (OSError, soundfile.SoundFileError, AudioError) as error:
            raise AudioError(f"{name}: cannot be played from {self.root}; give its folder with --recordings") from error
        data = io.BytesIO()
        soundfile.write(data, np.clip(wave, -1, 1), PREVIEW_HZ, format="MP3")
        return "data:audio/mpeg;base64," + base64.b64encode(data.getvalue()).decode()


def _read_stretch(path: Path, start_s: float, seconds: float) -> NDArray[np.float32]:
    """Read a stretch of a recording: [n_samples] float32 mono at PREVIEW_HZ."""
    if path.suffix.lower() in SEEKABLE:
        with soundfile.SoundFile(path) as file:
            file.seek(min(round(start_s * file.samplerate), file.frames))
            samples = file.read(round(seconds * file.samplerate), dtype="float32", always_2d=True)
            return Recording.from_samples(np.asarray(samples, np.float32), file.samplerate, PREVIEW_HZ).wave
    warnings: list[str] = []  # were told when it was embedded
    stream = MonoStream(file_blocks(path, None, warnings.append), str(path), None, warnings)
    (wave,) = stream.stretches([(start_s, start_s + seconds)])
    assert stream.target_hz is not None
    return Recording.from_samples(wave, stream.target_hz, PREVIEW_HZ).wave


def class_of(path: str) -> str:
    """The ESC-50 class from the number in the file name; otherwise the name of the file's folder, or ""."""
    number = ESC50_NAME.fullmatch(PurePosixPath(path).stem)
    if number and int(number[1]) < len(ESC50_CLASSES):
        return ESC50_CLASSES[int(number[1])]
    return PurePosixPath(path).parent.name.replace("_", " ")


def read_library(path: Path, recordings: Path | None = None) -> Library:
    """Read a Parquet file that `serving.embed` wrote.

    recordings   folder of the recordings; None: the folder that the file names
    Silent rows are left out, as `build_index` does it.
    errors       UsageError: the file is missing, has another format, no rows, silent ones alone or rows of several
                 models, or the folder of the recordings is missing
    """
    batches, parts, per = [], [], "clip"
    try:
        file = EmbeddingFile(path)
        for batch, rows in file.batches(("path", "start_s", "duration_s", "recording_s", "level_dbfs")):
            per = per if are_recordings(batch) else "window"
            heard = is_heard(batch, rows)
            batches.append(batch.filter(pyarrow.array(heard)))
            parts.append(rows[heard])
    except UsageError as error:
        raise UsageError(f"--library: {error}") from error
    root = _root_of(recordings or file.folder)
    table = pyarrow.Table.from_batches(batches)
    if not len(table):
        raise UsageError(f"--library: {path}: all of its rows are silent; give one of other recordings")
    paths = table["path"].to_pylist()
    return Library(
        path.name,
        root,
        paths,
        [class_of(name) for name in paths],
        table["start_s"].to_numpy(),
        table["duration_s"].to_numpy(),
        np.concatenate(parts),
        file.space,
        per,
    )


def read_index(path: Path, recordings: Path | None = None) -> Library:
    """Open an index that `serving.index` made: its embeddings are mapped into memory.

    errors   UsageError: as `SearchIndex.open`, or the folder of the recordings is missing; see `read_library`
    """
    try:
        index = SearchIndex.open(path)
    except UsageError as error:
        raise UsageError(f"--index: {error}") from error
    stored = index.manifest.recordings
    root = _root_of(recordings or (Path(stored) if stored else None))
    rows = index.rows.select(["path", "start_s", "end_s"]).take(index.order)
    paths, starts_s = rows["path"].to_pylist(), rows["start_s"].to_numpy()
    return Library(
        path.name,
        root,
        paths,
        [class_of(name) for name in paths],
        starts_s,
        rows["end_s"].to_numpy() - starts_s,
        index.cells.rows.embeddings,
        index.manifest.embedding_space,
        index.per,
        index.cells,
    )


def _root_of(folder: Path | None) -> Path:
    """The folder of the recordings. UsageError: it is not there."""
    if folder is None or not folder.is_dir():
        raise UsageError(f"--recordings: {folder or 'the folder that was embedded'}: is not there; say where it is now")
    return folder


def embed_examples(embedder: Embedder, examples: Sequence[Example]) -> Library:
    """Embed the examples as a library.

    examples   at least one; its name is the class
    errors     AudioError: a file cannot be used
    """
    files = [example.path.resolve() for example in examples]
    root = Path(os.path.commonpath([file.parent for file in files]))
    durations_s, rows = [], []
    with closing(pool_files(embedder, files, processes=None)) as pooled:
        for file in pooled:
            if isinstance(file, AudioError):
                raise file
            durations_s.append(file.duration_s)
            rows.append(file.embedding)
    return Library(
        "the examples",
        root,
        [file.relative_to(root).as_posix() for file in files],
        [example.name for example in examples],
        np.zeros(len(files)),
        np.array(durations_s),
        np.stack(rows),
        embedder.manifest.embedding_space,
        "clip",
    )
