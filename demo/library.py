"""A library of embedded recordings: nearest neighbours, a map in two dimensions, and a few seconds to play of each."""

import base64
import io
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath

import numpy as np
import pyarrow
import soundfile
from numpy.typing import NDArray
from pyarrow import parquet
from usearch.index import Index

from demo.labels import ESC50, read_labels
from serving.audio import read_audio, to_mono
from serving.embedder import Embedder
from serving.errors import AudioError, UsageError
from serving.rows import FOLDER, schema_of
from serving.zeroshot import unit_rows

PREVIEW_S = 10.0  # of a recording that can be played
PREVIEW_HZ = 32_000  # MP3 has this rate
SEEKABLE = (".flac", ".aiff", ".aif", ".w64", ".au", ".caf")  # by libsndfile to the right sample
SEARCHED = 128  # candidates that the index looks at for one query: recall against speed
ESC50_CLASSES = read_labels(ESC50) or []
ESC50_NAME = re.compile(r"\d-\d+-[A-Z]-(\d+)")  # fold-source-take-target
MAKE_IT = "python -m serving.embed BUNDLE RECORDINGS --out LIBRARY.parquet"


@dataclass(frozen=True, eq=False)
class Library:
    """Embedded recordings, or windows of them: one a row.

    name        for people
    classes     of each row what it is of, "" where that is not known
    root        the folder that `paths` are relative to
    starts_s, durations_s   [n] float64: where in its recording a row begins, and how much of it it is about
    embeddings  [n, size] float32
    space       the embedding_space of all rows
    """

    name: str
    root: Path
    paths: list[str]
    classes: list[str]
    starts_s: NDArray[np.float64]
    durations_s: NDArray[np.float64]
    embeddings: NDArray[np.float32]
    space: str

    def __len__(self) -> int:
        return len(self.paths)

    @cached_property
    def _index(self) -> Index:
        index = Index(ndim=self.embeddings.shape[1], metric="ip", dtype="f32", expansion_search=SEARCHED)
        index.add(np.arange(len(self)), unit_rows(self.embeddings))
        return index

    def nearest(self, embedding: NDArray[np.float32], count: int) -> list[tuple[int, float]]:
        """The rows most like an embedding [size]: (row, cosine), likest first."""
        found = self._index.search(unit_rows(embedding[None])[0], min(count, len(self)))
        return [(int(row), 1 - float(distance)) for row, distance in zip(found.keys, found.distances, strict=True)]

    @cached_property
    def _axes(self) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
        """The mean of the unit embeddings [size], and the two directions [size, 2] in which they differ most."""
        rows = unit_rows(self.embeddings)
        mean = rows.mean(axis=0)
        _, directions = np.linalg.eigh(np.cov(rows - mean, rowvar=False, ddof=0))
        return mean, directions[:, :-3:-1]

    def place(self, embeddings: NDArray[np.float32]) -> NDArray[np.float64]:
        """Where embeddings [n, size] lie on the library's two principal axes: [n, 2]."""
        mean, directions = self._axes
        return (unit_rows(embeddings) - mean) @ directions

    def preview(self, row: int) -> str:
        """The first PREVIEW_S of a row's sound as a data address: mono MP3, made anew, so no file itself is handed out.

        errors   UsageError: no such row; AudioError: the recording is not there or not readable
        """
        if not 0 <= row < len(self):
            raise UsageError(f"row: got {row}; wanted 0 to {len(self) - 1}")
        name = self.paths[row]
        if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
            raise AudioError(f"{name}: leads out of the library's folder, so it is not played")
        try:
            wave, rate_hz = _cut(self.root / name, self.starts_s[row], min(self.durations_s[row], PREVIEW_S))
        except (OSError, soundfile.SoundFileError, AudioError) as error:
            raise AudioError(f"{name}: cannot be played from {self.root}; give its folder with --recordings") from error
        data = io.BytesIO()
        soundfile.write(data, np.clip(to_mono(wave, rate_hz, PREVIEW_HZ), -1, 1), PREVIEW_HZ, format="MP3")
        return "data:audio/mpeg;base64," + base64.b64encode(data.getvalue()).decode()


def _cut(path: Path, start_s: float, seconds: float) -> tuple[NDArray[np.float32], int]:
    """A stretch of a recording: [n_samples, n_channels] float32, and its rate."""
    if path.suffix.lower() in SEEKABLE:
        with soundfile.SoundFile(path) as file:
            file.seek(min(round(start_s * file.samplerate), file.frames))
            wave = file.read(round(seconds * file.samplerate), dtype="float32", always_2d=True)
            return np.asarray(wave, np.float32), file.samplerate
    wave, rate_hz = read_audio(path, warn=lambda line: None)  # what is missing was told when it was embedded
    first = round(start_s * rate_hz)
    return wave[first : first + round(seconds * rate_hz)], rate_hz


def class_of(path: str) -> str:
    """ESC-50's class by the number in the file's name, else the name of the file's folder, "" where it has none."""
    number = ESC50_NAME.fullmatch(PurePosixPath(path).stem)
    if number and int(number[1]) < len(ESC50_CLASSES):
        return ESC50_CLASSES[int(number[1])]
    return PurePosixPath(path).parent.name.replace("_", " ")


def read_library(path: Path, recordings: Path | None = None) -> Library:
    """Open what `serving.embed` wrote.

    recordings   the folder that was embedded, where it is no longer the one that the file names
    errors       UsageError: no such file, not such a file, no rows, rows of several models, no folder
    """
    columns = [name for name in schema_of(1).names if name != "warning"]  # which older files do not have
    if not path.is_file():
        raise UsageError(f"--library: {path}: no such file; make it with: {MAKE_IT}")
    try:
        table = parquet.read_table(path)
    except (OSError, pyarrow.ArrowException) as error:
        reason = " ".join(str(error).split())[:120]
        raise UsageError(f"--library: {path}: cannot be read ({reason}); make it with: {MAKE_IT}") from error
    whole = set(columns) <= set(table.column_names) and not any(table[name].null_count for name in columns)
    if not whole or not pyarrow.types.is_fixed_size_list(table.schema.field("embedding").type):
        raise UsageError(f"--library: {path}: is no Parquet of embeddings; make it with: {MAKE_IT}")
    spaces = table["embedding_space"].unique().to_pylist()
    if len(spaces) != 1:
        got = "no rows" if not spaces else f"rows of {len(spaces)} models"
        raise UsageError(f"--library: {path}: has {got}; make it with: {MAKE_IT}")
    stored = (table.schema.metadata or {}).get(FOLDER)
    root = recordings or (Path(os.fsdecode(stored)) if stored else None)
    if root is None or not root.is_dir():
        raise UsageError(f"--recordings: {root or 'the folder that was embedded'}: is not there; say where it is now")
    column = table["embedding"].combine_chunks()
    paths = table["path"].to_pylist()
    return Library(
        path.name,
        root,
        paths,
        [class_of(name) for name in paths],
        table["start_s"].to_numpy(),
        table["duration_s"].to_numpy(),
        column.flatten().to_numpy().reshape(len(table), -1),
        spaces[0],
    )


def embed_examples(embedder: Embedder, examples: Sequence[tuple[Path, str]]) -> Library:
    """A library of a few files that have names: (file, name) pairs, at least one. Each name is a class.

    errors   AudioError: one of them cannot be used
    """
    files = [path.resolve() for path, _ in examples]
    root = Path(os.path.commonpath([file.parent for file in files]))
    return Library(
        "the examples",
        root,
        [file.relative_to(root).as_posix() for file in files],
        [name for _, name in examples],
        np.zeros(len(files)),
        np.full(len(files), PREVIEW_S),
        embedder.embed_files(files),
        embedder.manifest.embedding_space,
    )
