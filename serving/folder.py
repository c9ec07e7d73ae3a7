"""The recordings of a folder: which there are, and their embeddings."""

import stat
from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from serving.embedder import Embedder
from serving.errors import AudioError, UsageError
from serving.files import DecodedFile, EmbeddedFile, embed_each, file_size
from serving.formats.names import SUFFIXES, walk_recordings
from serving.rows import Rows


def audio_files(folder: Path) -> Iterator[str]:
    """Names of the audio files in a folder at any depth, relative to it and with slashes, in the order of the names.

    Hidden ones are left out; see `walk_recordings`.
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
    """Embeds files of one folder, in this process or, sent there before it embeds, in another.

    folder       that the files' names are relative to
    rows         what the files become
    max_seconds  longer recordings are errors
    bundle, backend, precision, threads   as for `Embedder.load`
    """

    folder: Path
    rows: Rows
    max_seconds: float
    bundle: Path
    backend: str
    precision: str
    threads: int

    @cached_property
    def embedder(self) -> Embedder:
        """Opened when it is first asked for; errors as `Embedder.load`."""
        return Embedder.load(self.bundle, self.backend, self.precision, self.threads)

    def embed(self, names: Iterable[str]) -> Generator[tuple[str, EmbeddedFile | AudioError]]:
        """Each file in order, with the embeddings of its windows, or with the reason why there are none."""
        embedder = self.embedder
        return embed_each(names, self._size, self._decode, embedder.run_prepared, embedder.max_batch, self.threads)

    def _size(self, name: str) -> int:
        return file_size(self.folder / name)

    def _decode(self, name: str) -> DecodedFile:
        path = self.folder / name
        try:
            name.encode()
        except UnicodeEncodeError as error:
            raise AudioError(f"{str(path)!r}: its name is not UTF-8, as Parquet wants it; rename it") from error
        if _waits(path):
            raise AudioError(f"{path}: is a pipe, a socket or a device; give files")
        if name.endswith("/"):
            raise AudioError(f"{path}: the files in this folder cannot be listed; mend its permissions")
        return self.embedder.decode_file(path, self.max_seconds)


def _waits(path: Path) -> bool:
    """Whether reading it could last for ever: a pipe, a socket or a device."""
    try:
        mode = path.stat().st_mode
    except OSError:
        return False  # decoding tells why
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))
