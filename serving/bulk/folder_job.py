"""The files of a folder in worker processes, which make the rows of the Parquet file too."""

from collections.abc import Callable, Generator, Iterable
from contextlib import closing
from dataclasses import dataclass

from serving.bulk.file_facts import FileFacts
from serving.bulk.network_server import RemoteNetwork
from serving.bulk.parquet_rows import FileOutcome, MadeRows, make_rows
from serving.bulk.processes import open_worker_embedder, serve_network
from serving.bulk.recordings_folder import FolderEmbedder
from serving.bulk.worker_pool import work_in_processes
from serving.bundle.bundle import Bundle
from serving.errors import AudioError
from serving.runtime_choice import RuntimeChoice


@dataclass(frozen=True)
class FolderJob:
    """Names of files -> their rows, see `worker_pool.Job`."""

    bundle: Bundle
    choice: RuntimeChoice
    source: FolderEmbedder

    def open(self, network: RemoteNetwork | None) -> Callable[[list[str]], MadeRows]:
        """Open the embedder."""
        source = self.source.over(open_worker_embedder(self.bundle, self.choice, network))

        def work(names: list[str]) -> MadeRows:
            with closing(source.embed(names)) as outcomes:
                return make_rows(source.row_maker, outcomes)

        return work

    def lost(self, name: str, reason: str) -> MadeRows:
        """No rows, but a line of the CSV of errors."""
        error = AudioError(f"{self.source.folder / name}: cannot be read ({reason})")
        return make_rows(self.source.row_maker, [FileOutcome(name, error, FileFacts())])


def embed_in_processes(source: FolderEmbedder, groups: Iterable[list[str]], processes: int) -> Generator[MadeRows]:
    """Yield the rows of each group of files, or of parts of it, in order. Errors as `work_in_processes`."""
    embedder = source.embedder
    choice = RuntimeChoice(embedder.backend, source.precision, 1, strict=True)
    job = FolderJob(embedder.bundle.at_absolute_path(), choice, source)
    with serve_network(embedder) as server, closing(work_in_processes(job, groups, processes, server)) as results:
        yield from results
