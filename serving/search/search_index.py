"""Search an index on disk.

index = SearchIndex.open("sounds.index")
index.find(embedder, sound="dog.ogg", top=5)
index.find(embedder, words="rain on a tin roof", both=["thunder"], without=["a person talks"])
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import pyarrow
from numpy.typing import NDArray

from serving.embedder import Embedder
from serving.errors import UsageError, one_line
from serving.search.cells import Cells
from serving.search.index_folder import (
    AGAIN,
    CELLS,
    EMBEDDINGS,
    MAKE_IT,
    ORDER,
    ROWS,
    SAMPLE,
    SCHEMA,
    STARTS,
    IndexManifest,
    check_files,
    read_manifest,
)
from serving.search.query import Query, choose_phrases, embed_sound, make_query
from serving.search.records import FACTS, Records
from serving.search.vector_search import FoundRow, VectorSearch, check_top


@dataclass(frozen=True)
class Found(FoundRow):
    """A row of the index, and what it stands for.

    path          of the recording, relative to the folder that was embedded, with slashes
    start_s, end_s   where it is in the recording, in seconds
    recorded_at, start_at, end_at   when the recording and the row's sound began, and when that ended; None: not known
    """

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
    per        what each row is: "clip", a whole recording, or "window"
    sample     [n, size] float32: embeddings of rows from the whole index
    rows       what `serving.search.index_folder.SCHEMA` says of each row, mapped into memory
    cells      the embeddings, mapped into memory
    order      [n] int64: the row of `rows` for each row of `cells`
    """

    def __init__(
        self,
        folder: Path,
        manifest: IndexManifest,
        cells: Cells,
        order: NDArray[np.int64],
        rows: pyarrow.Table,
        sample: NDArray[np.float32],
    ):
        self.folder, self.manifest, self.rows, self.sample = folder, manifest, rows, sample
        self.cells, self.order = cells, order
        self.per = manifest.per or _per_of(rows)
        self._vectors = VectorSearch(cells.rows.embeddings, sample, cells)

    @classmethod
    def open(cls, folder: str | Path) -> Self:
        """Open an index: its large files are mapped into memory, not read.

        errors   UsageError: it is missing, is no index, is cut short or changed, or its Parquet file has changed since
        """
        folder = Path(folder)
        manifest = read_manifest(folder)
        check_files(folder, manifest)
        try:
            starts = np.load(folder / STARTS, allow_pickle=False)
            cells = Cells(
                _records(folder / EMBEDDINGS, manifest.rows, manifest),
                _records(folder / CELLS, len(starts) - 1, manifest),
                starts,
            )
            order = np.asarray(np.load(folder / ORDER, mmap_mode="r", allow_pickle=False))
            rows = pyarrow.ipc.open_file(pyarrow.memory_map(str(folder / ROWS))).read_all()
            sample = np.load(folder / SAMPLE, allow_pickle=False)
        except (OSError, ValueError, pyarrow.ArrowException) as error:
            raise UsageError(f"{folder}: cannot be read ({one_line(error, 120)}); {MAKE_IT}") from error
        if not len(order) == rows.num_rows == starts[-1] == manifest.rows or rows.schema != SCHEMA:
            raise UsageError(f"{folder}: its files do not belong together; {AGAIN}")
        return cls(folder, manifest, cells, order, rows, sample)

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
        sound     path of a recording; the mean of its windows is looked for, of windows that are not silent if the
                  rows are windows
        words     what is heard, as a label of `Embedder.classify`: "rain on a tin roof"
        both      more words for what has to be heard in the same row
        without   words for what must not be heard
        top       most rows
        returns   the best first
        errors    UsageError: nothing is looked for, `top` is below 1, or the rows are another model's; LabelError: the
                  words cannot be understood, or are "sound" beside a sound; AudioError: the sound cannot be read, or is
                  silent
        """
        space = embedder.manifest.embedding_space
        self.check_space(space)
        check_top(top)
        for name, texts in (("both", both), ("without", without)):
            if isinstance(texts, str):  # its letters would be looked for
                raise UsageError(f"{name}: got {texts!r:.80}; wanted a list of texts, like ['thunder']")
        phrases = choose_phrases(embedder, [*([] if words is None else [words]), *both, *without])
        embedding = None if sound is None else embed_sound(embedder, Path(sound), self.per)
        return self.search(make_query(space, embedder.zeroshot, embedding, phrases, len(without)), top)

    def search(self, query: Query, top: int = 10, exact: bool = False) -> list[Found]:
        """The rows that meet a query best, at most `top` of them, best first. exact: compare all rows.

        errors   UsageError: `top` is below 1, or the rows are another model's
        """
        self.check_space(query.space)
        return [self._found(each) for each in self._vectors.find(query, top, exact)]

    def _found(self, found: FoundRow) -> Found:
        row = int(self.order[found.row])
        facts = {
            name: self.rows[name][row].as_py()
            for name in ("path", "start_s", "end_s", "recorded_at", "start_at", "end_at")
        }
        return Found(row, found.score, found.scores, **facts)


def _per_of(rows: pyarrow.Table) -> str:
    """What each row of an older index is, which does not say it: recordings all start at 0."""
    return "window" if rows["start_s"].to_numpy().any() else "clip"


def _records(path: Path, n: int, manifest: IndexManifest) -> Records:
    """The records of a file. ValueError: it is smaller."""
    shape = (n, manifest.embedding_size + FACTS)
    numbers = np.asarray(
        np.memmap(path, "<f4", "r", shape=shape)
    )  # a plain array, because each slice of a memmap is slow
    return Records(numbers, np.array(manifest.mean, np.float32), manifest.map_id)
