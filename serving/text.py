"""Texts -> vectors, with the text model that a bundle carries: what labels typed by a user are compared by.

The same numbers as training's encoder of that name (training.text), but for rounding, and without torch.
"""

import json
import re
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serving.bundle import Bundle
from serving.errors import BundleError, LabelError
from serving.memory import trim_memory
from serving.zeroshot import plain, unit_rows

CONFIG = "text/text.json"  # the encoder's name, and MiniLM's longest text in tokens
DESCRIPTIONS = "text/descriptions.json"  # class name -> a line on what it sounds like
MINILM = "text/minilm.onnx"  # tokens [n] int64 -> vector [384] float32, of unit length
TOKENIZER = "text/tokenizer.json"
GLOVE = "text/glove.npz"  # vectors [n, 50] int8; scales [n] float32; words: n of them in UTF-8, one a line, as uint8
ENCODER_FILES = {"glove": (GLOVE,), "minilm": (MINILM, TOKENIZER), "glove+minilm": (GLOVE, MINILM, TOKENIZER)}
REMEMBERED = 4096  # texts


def has_text_model(bundle: Bundle) -> bool:
    """Whether a bundle was exported with its text model."""
    return CONFIG in bundle.manifest.files


class TextModel:
    """One of the encoders glove, minilm and glove+minilm. Thread-safe; remembers the texts that it was asked for last.

    encoder       its name
    descriptions  of classes by their plain names
    """

    def __init__(self, encoder: str, descriptions: dict[str, str], glove: "Glove | None", minilm: "MiniLm | None"):
        self.encoder = encoder
        self._descriptions = descriptions
        self._glove = glove
        self._minilm = minilm
        self._vector = lru_cache(REMEMBERED)(self._encode_one)

    @classmethod
    def load(cls, bundle: Bundle) -> "TextModel":
        """The text model of a bundle; BundleError where it has none, or one that this program does not know."""
        bundle.path(CONFIG)
        return cls.open(bundle.folder)

    @classmethod
    def open(cls, folder: Path) -> "TextModel":
        """The text model in a folder whose files are known to be whole."""
        config: dict[str, Any] = json.loads((folder / CONFIG).read_text())
        encoder = config["encoder"]
        if encoder not in ENCODER_FILES:
            raise BundleError(
                f"{folder / CONFIG}: encoder {encoder}; this program knows {', '.join(ENCODER_FILES)}: update it"
            )
        files = ENCODER_FILES[encoder]
        model = cls(
            encoder,
            json.loads((folder / DESCRIPTIONS).read_text()),
            Glove(folder / GLOVE) if GLOVE in files else None,
            MiniLm(folder / MINILM, folder / TOKENIZER, config["max_tokens"]) if MINILM in files else None,
        )
        trim_memory()  # 67 MB of 128 that MiniLM takes while it is read
        return model

    def describe(self, label: str) -> str:
        """The description of a class that the bundle knows by name; of anything else, the label itself in words."""
        return self._descriptions.get(plain(label), label.strip().replace("_", " "))

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """[n, size] float32, unit rows. LabelError for a text of which the model knows no word."""
        return np.stack([self._vector(text) for text in texts])

    def _encode_one(self, text: str) -> NDArray[np.float32]:
        parts = []
        if self._glove is not None:
            mean = self._glove(text)
            if self._minilm is None and not mean.any():
                raise LabelError(f"label {text!r}: has no word that the text model knows; use common English words")
            parts.append(unit_rows(mean[None])[0])
        if self._minilm is not None:
            parts.append(self._minilm(text))
        vector = unit_rows(np.concatenate(parts)[None])[0]
        vector.flags.writeable = False  # it is handed out again
        return vector


class Glove:
    """The mean of a text's known words (Pennington 2014), zeros where there is none: [50] float32."""

    def __init__(self, path: Path):
        with np.load(path, allow_pickle=False) as stored:
            self._vectors = stored["vectors"]
            self._scales = stored["scales"]
            words = stored["words"].tobytes().decode().splitlines()
        self._rows = {word: row for row, word in enumerate(words)}

    def __call__(self, text: str) -> NDArray[np.float32]:
        known = [self._rows[word] for word in split_words(text) if word in self._rows]
        if not known:
            return np.zeros(self._vectors.shape[1], np.float32)
        return (self._vectors[known] * self._scales[known, None]).mean(axis=0)


class MiniLm:
    """all-MiniLM-L6-v2 (Reimers 2019), of unit length: [384] float32. What is over max_tokens is cut off."""

    def __init__(self, model: Path, tokenizer: Path, max_tokens: int):
        import onnxruntime
        import tokenizers

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1  # a label is a few words: less work than waking another thread
        self._session = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
        self._tokenizer = tokenizers.Tokenizer.from_file(str(tokenizer))
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(max_tokens)

    def __call__(self, text: str) -> NDArray[np.float32]:
        tokens = np.array(self._tokenizer.encode(text).ids, np.int64)
        return np.asarray(self._session.run(["vector"], {"tokens": tokens})[0])


def split_words(text: str) -> list[str]:
    """The words that GloVe may know."""
    return re.findall(r"[a-z0-9]+", text.lower())
