"""Texts -> vectors, offline and without torch, for labels typed by a user. Training makes class vectors with it too."""

import json
import unicodedata
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serving.bundle import Bundle, reopen_bundle
from serving.bundle_files import DESCRIPTIONS, GLOVE_WORDS, MINILM_MODEL, MINILM_TOKENIZER
from serving.errors import BundleError, LabelError
from serving.label_text import normalise_label
from serving.memory import trim_memory
from serving.text_model.glove import Glove
from serving.text_model.minilm import MiniLm
from serving.text_model.text_source import (
    ENCODERS,
    FILES,
    PACKAGES,
    WAY_OUT,
    TextSource,
    encoder_parts,
    package_folder,
    read_config,
    text_source,
)
from serving.zeroshot import unit_rows

REMEMBERED = 4096  # texts whose vectors are kept


class TextModel:
    """One of the ENCODERS. Thread-safe; keeps the vectors of the texts used most recently.

    encoder  its name
    source   where its weights are: "bundle" or "packages"
    names    whether a class stands for the mean of the vectors of its name and its description

    A pickle stores the bundle's path, and opens the bundle again. A copy or deep copy is the same object.
    """

    _bundle: Bundle | None = None  # set by `load` alone

    def __init__(
        self,
        encoder: str,
        source: TextSource,
        descriptions: dict[str, str],
        glove: Glove | None,
        minilm: MiniLm | None,
        names: bool = False,
    ):
        self.encoder = encoder
        self.source: TextSource = source
        self.names = names
        self._descriptions = descriptions
        self._glove = glove
        self._minilm = minilm
        self._known: dict[str, NDArray[np.float32]] = {}  # least recently used first
        self._lock = Lock()
        self._knows = lru_cache(REMEMBERED)(self._look_up)

    @classmethod
    def load(cls, bundle: Bundle) -> "TextModel":
        """The text model of a bundle. BundleError: it has none, or one that this program does not know."""
        source = text_source(bundle)
        if source is None:
            raise BundleError(f"{bundle.folder}: has no text model: {WAY_OUT}")
        if source == "bundle":
            for name in (DESCRIPTIONS, *(name for part in encoder_parts(bundle.folder) for name in FILES[part])):
                bundle.path(name)
        model = cls.open(bundle.folder, source)
        model._bundle = bundle
        return model

    @classmethod
    def _reopen(cls, bundle: Bundle) -> "TextModel":
        return cls.load(reopen_bundle(bundle))

    def __reduce__(self) -> tuple[Any, ...]:
        if self._bundle is None:
            raise TypeError("only a TextModel made by TextModel.load can be pickled: others belong to no bundle")
        return type(self)._reopen, (self._bundle.at_absolute_path(),)

    def __copy__(self) -> "TextModel":
        return self

    def __deepcopy__(self, _: dict[int, Any]) -> "TextModel":
        return self

    @classmethod
    def open(cls, folder: Path, source: TextSource = "bundle") -> "TextModel":
        """The text model in a bundle folder, whose hashes are not checked here, or the packages that it names."""
        config, parts = read_config(folder), encoder_parts(folder)
        descriptions = json.loads((folder / DESCRIPTIONS).read_text())
        names = config.get("class_texts") == "name+description"  # absent in older bundles
        if source == "packages":
            return cls.of_packages(config["encoder"], descriptions, names)
        glove = Glove.read(folder / GLOVE_WORDS) if "glove" in parts else None
        minilm = None
        if "minilm" in parts:
            minilm = MiniLm.read(folder / MINILM_MODEL, folder / MINILM_TOKENIZER, config["max_tokens"])
        trim_memory()
        return cls(config["encoder"], source, descriptions, glove, minilm, names)

    @classmethod
    def of_packages(cls, encoder: str, descriptions: dict[str, str], names: bool = False) -> "TextModel":
        """One of the ENCODERS with the weights of the installed packages. BundleError: a package is not installed."""
        parts = ENCODERS[encoder]
        glove = Glove.of_package(package_folder(PACKAGES["glove"])) if "glove" in parts else None
        minilm = MiniLm.of_package(package_folder(PACKAGES["minilm"]) / "model") if "minilm" in parts else None
        trim_memory()
        return cls(encoder, "packages", descriptions, glove, minilm, names)

    def describe(self, label: str) -> str:
        """The bundle's description of a class. For any other label, the label with spaces instead of underscores."""
        return self._descriptions.get(normalise_label(label), label.strip().replace("_", " "))

    def encode_labels(self, labels: Sequence[str]) -> NDArray[np.float32]:
        """The vectors of labels, made as training makes those of classes: [n, size] float32, unit rows.

        errors   LabelError: the model knows no word of a label
        """
        described = self.encode([self.describe(label) for label in labels])
        if not self.names:
            return described
        return unit_rows(described + self.encode([label.strip().replace("_", " ") for label in labels]))

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """[n, size] float32, unit rows. LabelError: the model knows no word of a text."""
        texts = list(texts)
        for text in dict.fromkeys(texts):
            if text not in self._known and not any(map(self._knows, _words(text))):
                raise LabelError(
                    f"label {text!r}: the text model knows none of its words; it knows English: describe the sound in "
                    "common English words"
                )
        with self._lock:  # one call at a time, to bound the memory
            new = [text for text in dict.fromkeys(texts) if text not in self._known]
            rows = self.vectors(new) if new else []
            vectors = {text: row.copy() for text, row in zip(new, rows, strict=True)}  # a view would keep all rows
            vectors |= {text: self._known.pop(text) for text in dict.fromkeys(texts) if text in self._known}
            self._known |= vectors
            for text in list(self._known)[:-REMEMBERED]:
                del self._known[text]
        return np.stack([vectors[text] for text in texts])

    def unknown_words(self, text: str) -> list[str]:
        """The words of a text that no part of the model knows, as they are typed."""
        return [word for word in _words(text) if not self._knows(word)]

    def _look_up(self, word: str) -> bool:
        return (self._glove is not None and self._glove.knows(word)) or (
            self._minilm is not None and self._minilm.knows(word)
        )

    def vectors(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Like `encode`, but without the cache, and for texts without a known word too: [n, size] float32."""
        return join_vectors(texts, self._glove, self._minilm)


def join_vectors(
    texts: Sequence[str],
    glove: Callable[[str], NDArray[np.float32]] | None,
    minilm: Callable[[Sequence[str]], NDArray[np.float32]] | None,
) -> NDArray[np.float32]:
    """Concatenate the unit vectors of an encoder's parts: [n, size] float32, unit rows."""
    parts = []
    if glove is not None:
        parts.append(unit_rows(np.stack([glove(text) for text in texts])))
    if minilm is not None:
        parts.append(minilm(texts))
    return unit_rows(np.concatenate(parts, axis=1))


def _words(text: str) -> list[str]:
    """The words of a text, without punctuation that stands alone, like "-" or "..."."""
    return [word for word in text.replace("_", " ").split() if not all(map(_is_punctuation, word))]


def _is_punctuation(character: str) -> bool:
    """Punctuation, separators, control characters, and mathematical, currency and modifier symbols; not emoji."""
    kind = unicodedata.category(character)
    return kind[0] in "PCZ" or kind in ("Sm", "Sc", "Sk")
