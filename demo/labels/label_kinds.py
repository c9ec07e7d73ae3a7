"""Where the model knows a label from: recordings, examples, the bundle's description, or the visitor's words."""

from collections.abc import Mapping
from enum import Enum

from serving.embedder import Embedder
from serving.zeroshot import ZeroShot
from serving.zeroshot.label_text import normalise_label, words_of_label


class LabelKind(Enum):
    """The kind of a label; its value is the CSS class."""

    SEEN = "seen"
    TAUGHT = "taught"
    UNSEEN = "unseen"
    TYPED = "typed"

    @property
    def mark(self) -> str:
        """The text beside the label; "" for none."""
        return {
            LabelKind.SEEN: "",
            LabelKind.TAUGHT: "taught",
            LabelKind.UNSEEN: "unseen",
            LabelKind.TYPED: "typed by you",
        }[self]

    @property
    def meaning(self) -> str:
        """The text of the key."""
        return {
            LabelKind.SEEN: "trained on recordings of it",
            LabelKind.TAUGHT: "taught by examples after the training",
            LabelKind.UNSEEN: "unseen: no recording of it was in the training, the model has only a description",
            LabelKind.TYPED: "typed by you: the model has only your words",
        }[self]


def label_kinds(embedder: Embedder, chosen: ZeroShot, own: Mapping[str, str]) -> dict[str, LabelKind]:
    """The kind of each label of `chosen`. own: normalised label -> the visitor's description."""

    trained = set(map(normalise_label, embedder.manifest.seen_classes))

    def kind(label: str, seen: bool, taught: bool) -> LabelKind:
        if normalise_label(label) in own:
            return LabelKind.TYPED
        if taught and normalise_label(label) not in trained:
            return LabelKind.TAUGHT
        if seen:
            return LabelKind.SEEN
        described = embedder.labels.describe(label) != words_of_label(label)
        return LabelKind.UNSEEN if described or embedder.zeroshot.has(label) else LabelKind.TYPED

    return {
        label: kind(label, bool(seen), bool(heard))
        for label, seen, heard in zip(chosen.class_names, chosen.seen, chosen.has_examples, strict=True)
    }
