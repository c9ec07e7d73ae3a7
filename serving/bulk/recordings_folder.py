"""Find the recordings of a folder, and embed them."""

from collections.abc import Generator, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from serving.audio import RecordingStream
from serving.audio.file_names import SUFFIXES, walk_recordings
from serving.bulk.embed_files import BYTES_A_WINDOW, embed_each, file_size
from serving.bulk.file_facts import FileFacts, facts_of
from serving.bulk.parquet_rows import FileOutcome, RowMaker
from serving.command_line import say
from serving.embedder import Embedder
from serving.errors import AudioError, UsageError


def audio_files(folder: Path, own: str | None = None) -> Iterator[str]:
    """Yield the names of the audio files in a folder at any depth, relative to it, see `walk_recordings`.

    own      what the names of the caller's own hidden folders begin with; None: it has none
    errors   UsageError: there is none, or the folder itself cannot be listed
    Says how many hidden files and system folders were skipped, which a card of a recorder often has.
    """
    found, skipped = False, []
    for name in walk_recordings(folder, skipped=skipped):
        if not name:
            raise UsageError(f"{folder}: its files cannot be listed; mend its permissions, or give another folder")
        found = True
        yield name
    if own is not None:
        skipped = [name for name in skipped if not name.rstrip("/").rpartition("/")[2].startswith(own)]
    if skipped:
        say(f"skipped {len(skipped)} hidden files and system folders, such as {skipped[0]}")
    if not found:
        raise UsageError(f"{folder}: holds no audio file ({', '.join(SUFFIXES)}); give the folder with the recordings")


@dataclass(frozen=True)
class FolderEmbedder:
    """Embeds files of one folder. It can be pickled and sent to another process before its first use.

    folder       the files' names are relative to it
    row_maker    makes the rows of the Parquet file
    max_seconds  longer recordings are errors; None: no limit
    hop_seconds  as for `Embedder.embed_windows`
    bundle, backend, precision, threads, trusted   as for `Embedder.load`
    """

    folder: Path
    row_maker: RowMaker
    max_seconds: float | None
    hop_seconds: float | None
    bundle: Path
    backend: str
    precision: str
    threads: int
    trusted: tuple[Path, ...] = ()

    @cached_property
    def embedder(self) -> Embedder:
        """The embedder, opened on first use; errors as `Embedder.load`."""
        return Embedder.load(self.bundle, self.backend, self.precision, self.threads, trusted=self.trusted)

    def over(self, embedder: Embedder) -> "FolderEmbedder":
        """The same, over an embedder that is open already."""
        other = replace(self, threads=embedder.threads)
        vars(other)["embedder"] = embedder
        return other

    def embed(self, names: Iterable[str]) -> Generator[FileOutcome]:
        """Yield each file in order, with its embeddings or with the error why there are none."""
        embedder = self.embedder
        facts: dict[str, FileFacts] = {}  # of the files that are worked on

        def prepare(name: str) -> RecordingStream:
            path = self._checked(name)
            facts[name] = facts_of(path)  # here, in one of many threads
            return embedder.open_recording(path, self.hop_seconds, self.max_seconds)

        outcomes = embed_each(names, self.size, prepare, embedder.run_prepared, embedder.max_batch, self.threads)
        with closing(outcomes):
            for name, outcome in outcomes:
                yield FileOutcome(name, outcome, facts.pop(name, FileFacts()))

    def size(self, name: str) -> int:
        """Size of a file in bytes; 0 if it is unknown."""
        return file_size(self.folder / name)

    def windows(self, name: str) -> int:
        """Number of windows of a file, estimated from its size."""
        return 1 + self.size(name) // BYTES_A_WINDOW

    def _checked(self, name: str) -> Path:
        """The path of a file. AudioError: it cannot have rows."""
        path = self.folder / name
        try:
            name.encode()
        except UnicodeEncodeError as error:
            raise AudioError(f"{str(path)!r}: its name is not UTF-8, which Parquet requires; rename it") from error
        if not name or name.endswith("/"):
            raise AudioError(f"{path}: the files in this folder cannot be listed; mend its permissions")
        return path
