"""Texts -> vectors, offline and without torch, for labels typed by a user. Training makes class vectors with it too."""

import sys
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache, partial
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serving.bundle.bundle import Bundle, reopen_bundle
from serving.bundle.bundle_files import GLOVE_WORDS, MINILM_MODEL, MINILM_TOKENIZER
from serving.errors import BundleError, LabelError
from serving.memory import trim_memory
from serving.text_model.glove import Glove
from serving.text_model.minilm import MiniLm
from serving.text_model.text_source import (
    ENCODERS,
    PACKAGES,
    WAY_OUT,
    Reader,
    TextSource,
    package_folder,
    read_config,
    read_descriptions,
    text_source,
)
from serving.zeroshot import unit_rows
from serving.zeroshot.label_text import normalise_label, words_of_label

REMEMBERED_BYTES = 8_000_000  # of texts and their vectors that are kept: 4000 of the default encoder
REMEMBERED_WORDS = 4096  # of which it is known whether they are words
LONGEST_REMEMBERED = 64  # characters of such a word


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
        self._known_bytes = 0
        self._lock = Lock()
        # Not of a method: the cache would hold this object, which then is freed late.
        self._look_up = partial(_is_known, glove, minilm)
        self._remembered_look_up = lru_cache(REMEMBERED_WORDS)(self._look_up)

    @classmethod
    def load(cls, bundle: Bundle) -> "TextModel":
        """The text model of a bundle. BundleError: it has none, or one that this program does not know."""
        source = text_source(bundle)
        if source is None:
            raise BundleError(f"{bundle.folder}: has no text model: {WAY_OUT}")
        model = cls._of(bundle.read, source)
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
        return cls._of(lambda name: (folder / name).read_bytes(), source)

    @classmethod
    def _of(cls, read: Reader, source: TextSource) -> "TextModel":
        """The text model in the files that `read` returns."""
        encoder, max_tokens, names = read_config(read)
        descriptions = read_descriptions(read)
        if source == "packages":
            return cls.of_packages(encoder, descriptions, names)
        parts = ENCODERS[encoder]
        glove = Glove.parse(read(GLOVE_WORDS)) if "glove" in parts else None
        minilm = MiniLm.parse(read(MINILM_MODEL), read(MINILM_TOKENIZER), max_tokens) if "minilm" in parts else None
        trim_memory()
        return cls(encoder, source, descriptions, glove, minilm, names)

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
        return self._descriptions.get(normalise_label(label), words_of_label(label))

    def encode_labels(
        self, labels: Sequence[str], descriptions: Mapping[str, str] | None = None
    ) -> NDArray[np.float32]:
        """The vectors of labels: [n, size] float32, unit rows.

        descriptions   label -> its description. It alone is encoded: the label may be a name that the model cannot
                       read, or that means something else to it. Labels without one are encoded as training encodes
                       classes, by the bundle's descriptions
        errors         LabelError: the model knows no word of a description, or of a label without one
        """
        own = {label: words_of_label(text) for label, text in (descriptions or {}).items() if text}
        plain = [label for label in dict.fromkeys(labels) if label not in own]
        given = [label for label in dict.fromkeys(labels) if label in own]
        vectors: dict[str, NDArray[np.float32]] = {}
        if plain:
            rows = encode_classes(plain, self.describe, self.encode, self.names)
            vectors |= dict(zip(plain, rows, strict=True))
        if given:
            vectors |= dict(zip(given, self.encode([own[label] for label in given]), strict=True))
        return np.stack([vectors[label] for label in labels])

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """[n, size] float32, unit rows. LabelError: the model knows no word of a text."""
        texts = list(texts)
        for text in dict.fromkeys(texts):
            if text not in self._known and not self.understands(text):
                raise LabelError(
                    f"label {text!r}: the text model knows none of its words; it knows English: describe the sound in "
                    "common English words"
                )
        with self._lock:  # one call at a time, to bound the memory
            new = [text for text in dict.fromkeys(texts) if text not in self._known]
            rows = self.vectors(new) if new else []
            vectors = {text: row.copy() for text, row in zip(new, rows, strict=True)}  # a view would keep all rows
            vectors |= {text: self._known[text] for text in dict.fromkeys(texts) if text in self._known}
            self._remember(vectors)
        return np.stack([vectors[text] for text in texts])

    def _remember(self, vectors: dict[str, NDArray[np.float32]]) -> None:
        """Keep these vectors, and forget those that were not used for the longest time."""
        for text, vector in vectors.items():
            if self._known.pop(text, None) is None:
                self._known_bytes += _size_in_memory(text, vector)
            self._known[text] = vector
        while self._known_bytes > REMEMBERED_BYTES:
            text = next(iter(self._known))
            self._known_bytes -= _size_in_memory(text, self._known.pop(text))

    def understands(self, text: str) -> bool:
        """Whether the model knows a word of a text."""
        return any(map(self._knows, _words(text)))

    def unknown_words(self, text: str) -> list[str]:
        """The words of a text that no part of the model knows, as they are typed."""
        return [word for word in _words(text) if not self._knows(word)]

    def _knows(self, word: str) -> bool:
        return self._remembered_look_up(word) if len(word) <= LONGEST_REMEMBERED else self._look_up(word)

    def vectors(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Like `encode`, but without the cache, and for texts without a known word too: [n, size] float32."""
        vectors = join_vectors(texts, self._glove, self._minilm)
        if not np.isfinite(vectors).all():
            raise BundleError("the text model's vectors are not finite; export the bundle again")
        return vectors


def _is_known(glove: Glove | None, minilm: MiniLm | None, word: str) -> bool:
    return (glove is not None and glove.knows(word)) or (minilm is not None and minilm.knows(word))


def encode_classes(
    labels: Sequence[str],
    describe: Callable[[str], str],
    encode: Callable[[Sequence[str]], NDArray[np.float32]],
    with_names: bool,
) -> NDArray[np.float32]:
    """The vectors of classes or labels [n, size] float32, for training and for labels that are typed later.

    describe    label -> its description;  encode: texts -> unit rows
    with_names  take the mean of the vectors of the name and the description, as unit rows
    """
    described = encode([describe(label) for label in labels])
    return unit_rows(described + encode([words_of_label(label) for label in labels])) if with_names else described


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


def _size_in_memory(text: str, vector: NDArray[np.float32]) -> int:
    """Bytes of an entry of the cache."""
    return sys.getsizeof(text) + sys.getsizeof(vector)


def _words(text: str) -> list[str]:
    """The words of a text, without punctuation that stands alone, like "-" or "..."."""
    return [word for word in text.replace("_", " ").split() if not all(map(_is_punctuation, word))]


def _is_punctuation(character: str) -> bool:
    """Punctuation, separators, control characters, and mathematical, currency and modifier symbols; not emoji."""
    kind = unicodedata.category(character)
    return kind[0] in "PCZ" or kind in ("Sm", "Sc", "Sk")
