"""The labels that a bundle can rank: its classes and, if it has a text model, any English text."""

import copy
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Self

import numpy as np
from numpy.typing import NDArray

from serving.bundle.bundle import Bundle
from serving.errors import BundleError, LabelError
from serving.text_model.text_model import TextModel
from serving.text_model.text_source import text_source
from serving.zeroshot import TextEncoder, ZeroShot
from serving.zeroshot.label_text import join_labels, normalise_label


class LabelSpace:
    """Joins the zero-shot map of a bundle and its text model, which is opened for the first typed label. Thread-safe.

    zeroshot     the map; `choose` makes that of other labels of it
    text_source  where the weights of the text model are: "bundle" or "packages"; None: the bundle has no text model
    """

    def __init__(self, bundle: Bundle, zeroshot: ZeroShot):
        self._bundle = bundle
        self.zeroshot = zeroshot
        self.text_source = text_source(bundle)

    def with_zeroshot(self, zeroshot: ZeroShot) -> Self:
        """A copy with another map; it shares the text model."""
        other = copy.copy(self)
        other.zeroshot = zeroshot
        return other

    def choose(self, labels: Sequence[str] | None = None, descriptions: Mapping[str, str] | None = None) -> ZeroShot:
        """The zero-shot map for these labels: it ranks embeddings and knows which classes were seen.

        labels        None: all classes of the bundle
        descriptions  label -> its description, which alone is compared with the sound; the label is then only a name
        errors        LabelError: an unknown or repeated label, two labels of one description, or no label
        """
        texts = {label: text for label, text in (descriptions or {}).items() if text}
        if not texts:
            return self.zeroshot if labels is None else self.zeroshot.choose(labels, self._encoder())
        names = self.zeroshot.class_names if labels is None else list(labels)
        self.zeroshot.typed(names)  # refuses repeated labels
        described = [texts.get(name, name) for name in names]
        first_with: dict[str, str] = {}
        for name, text in zip(names, described, strict=True):
            if (first := first_with.setdefault(normalise_label(text), name)) != name:
                raise LabelError(
                    f"descriptions: {join_labels([first, name])} are described by the same words; give each its own"
                )
        chosen = self.zeroshot.choose(described, self._encoder(texts.values()))
        return replace(chosen, class_names=list(names))

    def _encoder(self, descriptions: Iterable[str] = ()) -> TextEncoder | None:
        """Encodes labels, and these descriptions as they are; None: the bundle has no text model."""
        as_they_are = {text: text for text in descriptions}
        return (lambda texts: self.encode(texts, as_they_are)) if self.knows_text else None

    @property
    def knows_text(self) -> bool:
        """Whether any text can be a label."""
        return self.text_source is not None and self.zeroshot.text_mean is not None

    def describe(self, label: str) -> str:
        """The text that stands for a label: the bundle's description of that class, or the label itself."""
        return self._text_model.describe(label) if self.knows_text else label

    def understands(self, label: str) -> bool:
        """Whether the text model knows a word of what describes a label; False: the bundle has none."""
        return self.knows_text and self._text_model.understands(self.describe(label))

    def unknown_words(self, labels: Sequence[str]) -> dict[str, list[str]]:
        """The words of each label that the text model does not know; labels without such words are left out."""
        typed = [] if not self.knows_text else [label for label in labels if not self.zeroshot.has(label)]
        unknown = {label: self._text_model.unknown_words(self.describe(label)) for label in typed}
        return {label: words for label, words in unknown.items() if words}

    def encode(self, labels: Sequence[str], descriptions: Mapping[str, str] | None = None) -> NDArray[np.float32]:
        """The text vectors of labels [n, text_size] float32.

        descriptions   label -> its description, which alone is encoded, see `TextModel.encode_labels`
        errors   LabelError: the text model knows no word of a label; BundleError: it is not the class vectors' one
        """
        vectors = self._text_model.encode_labels(labels, descriptions)
        if vectors.shape[1] != self.zeroshot.class_vectors.shape[1]:
            raise BundleError(
                f"{self._bundle.folder}: its text model's vectors have {vectors.shape[1]} numbers, its class vectors "
                f"{self.zeroshot.class_vectors.shape[1]}; export it again"
            )
        return vectors

    def encode_afresh(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """The vectors of texts [n, text_size] float32 from the text model itself, not from its cache."""
        return self._text_model.vectors(texts)

    def open_text_model(self) -> None:
        """Open the text model now, so that nothing has to be read from the bundle later."""
        if self.knows_text:
            _ = self._text_model

    @property
    def has_open_text_model(self) -> bool:
        """Whether the text model is open."""
        return "_text_model" in vars(self)

    @cached_property
    def _text_model(self) -> TextModel:
        return TextModel.load(self._bundle)
