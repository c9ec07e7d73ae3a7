"""Lists of labels to start from: a bundle's classes and those of known data sets."""

from demo.labels.typed_labels import read_labels, write_labels
from serving.embedder import Embedder
from serving.zeroshot.label_lists import LABEL_LISTS, list_in_words
from serving.zeroshot.label_text import normalise_label

OWN = "the bundle's classes"

PRESETS = {name: ", ".join(list_in_words(names)) for name, names in LABEL_LISTS.items()}


def presets(embedder: Embedder) -> dict[str, str]:
    """Preset name -> its labels, as they are typed. Only presets whose labels this bundle all understands."""
    known = set(map(normalise_label, embedder.zeroshot.class_names))
    understood = {
        name: text
        for name, text in PRESETS.items()
        if embedder.labels.knows_text or known.issuperset(read_labels(text) or ())
    }
    return {OWN: write_labels(embedder.zeroshot.class_names), **understood}
