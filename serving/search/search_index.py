"""Search an index on disk.

index = SearchIndex.open("sounds.index")
index.find(embedder, sound="dog.ogg", top=5)
index.find(embedder, words="rain on a tin roof", both=["thunder"], without=["a person talks"])
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Self

import numpy as np
import pyarrow
from numpy.typing import NDArray

from serving.embedder import Embedder
from serving.errors import UsageError, one_line
from serving.search.graph import new_graph
from serving.search.index_folder import (
    MAKE_IT,
    ROWS,
    SAMPLE,
    VECTORS,
    IndexManifest,
    check_files,
    read_manifest,
)
from serving.search.query import Query, check_phrases, embed_sound, make_query
from serving.search.scores import scorer

if TYPE_CHECKING:
    from usearch.index import Index

CANDIDATES = 256  # of each direction; the best by their exact scores are returned


@dataclass(frozen=True)
class Found:
    """A row of the index.

    score         by which the rows are ordered; see `serving.search.scores`
    similarities  condition -> similarity
    path          of the recording, relative to the folder that was embedded, with slashes
    start_s, end_s   where it is in the recording, in seconds
    recorded_at, start_at, end_at   when the recording and the row's sound began, and when that ended; None: not known
    """

    row: int
    score: float
    similarities: dict[str, float]
    path: str
    start_s: float
    end_s: float
    recorded_at: str | None
    start_at: str | None
    end_at: str | None


class SearchIndex:
    """An index that `serving.index` made. Safe to use from several threads.

    folder     of the index
    manifest   of the index: its embedding_space, and where the recordings are
    sample     [n, size] float32: embeddings of rows from the whole index
    rows       what `serving.search.index_builder.SCHEMA` says of each row, mapped into memory
    """

    def __init__(self, folder: Path, manifest: IndexManifest, graph: "Index", rows: pyarrow.Table, sample: NDArray):
        self.folder, self.manifest = folder, manifest
        self._graph, self.rows, self.sample = graph, rows, sample
        self._lock = Lock()  # USearch gives every search the same memory to work in
        # Not by pyarrow's to_numpy, which imports pandas where it is installed: half a second.
        self._lengths = np.concatenate([np.from_dlpack(chunk) for chunk in rows["length"].chunks])

    @classmethod
    def open(cls, folder: str | Path) -> Self:
        """Open an index: its large files are mapped into memory, not read.

        errors   UsageError: it is missing, is no index, is cut short or changed, or its Parquet file has changed since
        """
        folder = Path(folder)
        manifest = read_manifest(folder)
        check_files(folder, manifest)
        try:
            graph = new_graph(manifest.embedding_size, can_get=True)
            graph.view(str(folder / VECTORS))
            rows = pyarrow.ipc.open_file(pyarrow.memory_map(str(folder / ROWS))).read_all()
            sample = np.load(folder / SAMPLE, allow_pickle=False)
        except (OSError, RuntimeError, ValueError, pyarrow.ArrowException) as error:
            raise UsageError(f"{folder}: cannot be read ({one_line(error, 120)}); {MAKE_IT}") from error
        return cls(folder, manifest, graph, rows, sample)

    def __len__(self) -> int:
        return self.manifest.rows

    def check_space(self, space: str) -> None:
        """UsageError: another model than the one of this embedding_space embedded the rows."""
        if space != self.manifest.embedding_space:
            raise UsageError(
                f"{self.folder}: holds embeddings of another model ({self.manifest.embedding_space[:8]}) than the "
                f"bundle's ({space[:8]}); embed the recordings with this bundle and make the index again, or give the "
                "bundle that embedded them"
            )

    def find(
        self,
        embedder: Embedder,
        sound: str | Path | None = None,
        words: str | None = None,
        both: Sequence[str] = (),
        without: Sequence[str] = (),
        top: int = 10,
    ) -> list[Found]:
        """Find the rows that are most like a sound, or like words, or both.

        embedder  of the bundle that embedded the rows
        sound     path of a recording; of several windows, their mean is looked for
        words     what is heard, as a label of `Embedder.classify`: "rain on a tin roof"
        both      more words for what has to be heard in the same row
        without   words for what must not be heard
        top       most rows
        returns   as `search`
        errors    UsageError: nothing is looked for, `top` is below 1, or the rows are another model's; LabelError: the
                  words cannot be understood; AudioError: the sound cannot be read, or is silent
        """
        self.check_space(embedder.manifest.embedding_space)
        check_top(top)
        phrases = [*([] if words is None else [words]), *both, *without]
        check_phrases(phrases)
        chosen = embedder.choose(phrases) if phrases else None
        embedding = None if sound is None else embed_sound(embedder, Path(sound))
        return self.search(make_query(embedder.manifest.embedding_space, embedding, chosen, len(without)), top)

    def search(self, query: Query, top: int = 10) -> list[Found]:
        """The rows that meet a query best, at most `top` of them, best first.

        Their scores are those of `scorer`, computed for all candidates.
        errors   UsageError: `top` is below 1, or the rows are another model's
        """
        self.check_space(query.space)
        check_top(top)
        keys = self._candidates(query, top)
        embeddings = self._embeddings(keys)
        similarities = query.similarities(embeddings)  # [n_candidates, n]
        scores = scorer(query, self.sample)(similarities)
        best = np.argsort(-scores, kind="stable")[:top]
        return [
            self._found(int(keys[i]), float(scores[i]), dict(zip(query.names, similarities[i].tolist(), strict=True)))
            for i in best
        ]

    def _candidates(self, query: Query, top: int) -> NDArray[np.uint64]:
        """The rows nearest to each wanted direction, and to all directions together: [n_candidates], ascending."""
        directions = query.directions()
        signs = np.where(query.unwanted, -1, 1)
        asked = directions[~query.unwanted]
        if len(directions) > 1:
            asked = np.concatenate([asked, (signs @ directions)[None].astype(np.float32)])
        wanted = min(len(self), max(CANDIDATES, top))
        with self._lock:
            found = self._graph.search(asked, wanted)
        keys = np.unique(found.keys)
        return keys[keys < len(self)]

    def _embeddings(self, keys: NDArray[np.uint64]) -> NDArray[np.float32]:
        """The embeddings of rows [n, size], to the precision of float16."""
        with self._lock:
            rows = np.asarray(self._graph.get(keys), np.float32)
        return rows * self._lengths[keys.astype(np.intp), None]

    def _found(self, row: int, score: float, similarities: dict[str, float]) -> Found:
        facts = {
            name: self.rows[name][row].as_py()
            for name in ("path", "start_s", "end_s", "recorded_at", "start_at", "end_at")
        }
        return Found(row, score, similarities, **facts)


def check_top(top: int) -> None:
    """UsageError: a number of results below 1."""
    if top < 1:
        raise UsageError(f"--top: got {top}; wanted 1 or more")
