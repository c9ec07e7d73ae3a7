"""Find the recordings of a folder, and embed them."""

import stat
from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from serving.audio import PreparedRecording
from serving.audio.file_names import SUFFIXES, walk_recordings
from serving.bulk.embed_files import FileEmbeddings, embed_each, file_size
from serving.bulk.parquet_rows import RowMaker
from serving.embedder import Embedder
from serving.errors import AudioError, UsageError


def audio_files(folder: Path) -> Iterator[str]:
    """Yield the names of the audio files in a folder at any depth, relative to it, see `walk_recordings`.

    errors   UsageError: there is none
    """
    found = False
    for name in walk_recordings(folder):
        found = True
        yield name
    if not found:
        raise UsageError(f"{folder}: holds no audio file ({', '.join(SUFFIXES)}); give the folder with the recordings")


@dataclass(frozen=True)
class FolderEmbedder:
    """Embeds files of one folder. It can be pickled and sent to another process before its first use.

    folder       the files' names are relative to it
    row_maker    makes the rows of the Parquet file
    max_seconds  longer recordings are errors
    bundle, backend, precision, threads, trusted   as for `Embedder.load`
    """

    folder: Path
    row_maker: RowMaker
    max_seconds: float
    bundle: Path
    backend: str
    precision: str
    threads: int
    trusted: tuple[Path, ...] = ()

    @cached_property
    def embedder(self) -> Embedder:
        """The embedder, opened on first use; errors as `Embedder.load`."""
        return Embedder.load(self.bundle, self.backend, self.precision, self.threads, trusted=self.trusted)

    def embed(self, names: Iterable[str]) -> Generator[tuple[str, FileEmbeddings | AudioError]]:
        """Yield each file in order, with its embeddings or with the error why there are none."""
        embedder = self.embedder
        return embed_each(names, self._size, self._prepare, embedder.run_prepared, embedder.max_batch, self.threads)

    def _size(self, name: str) -> int:
        return file_size(self.folder / name)

    def _prepare(self, name: str) -> PreparedRecording:
        path = self.folder / name
        try:
            name.encode()
        except UnicodeEncodeError as error:
            raise AudioError(f"{str(path)!r}: its name is not UTF-8, which Parquet requires; rename it") from error
        if _may_block(path):
            raise AudioError(f"{path}: is a pipe, a socket or a device; give files")
        if name.endswith("/"):
            raise AudioError(f"{path}: the files in this folder cannot be listed; mend its permissions")
        return self.embedder.prepare_file(path, self.max_seconds)


def _may_block(path: Path) -> bool:
    """Whether reading it could block forever: a pipe, a socket or a device."""
    try:
        mode = path.stat().st_mode
    except OSError:
        return False  # decoding gives the reason
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))
