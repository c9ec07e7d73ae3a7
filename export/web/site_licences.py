"""licences.txt of a site: of the page's code, and of everything in the model that others made."""

from pathlib import Path

from serving.bundle.bundle import Bundle
from serving.bundle.bundle_files import ATTRIBUTION
from serving.text_model.text_source import ENCODERS

LICENCES = "licences.txt"  # of the built page; begins with the text of the Apache License 2.0
# Whose text models a site has, by the parts of an encoder.
TEXT_MODELS = {
    "minilm": "The text model all-MiniLM-L6-v2: the authors of sentence-transformers and of MiniLM (Microsoft); Apache "
    "License 2.0, as above.\nhttps://huggingface.co/sentence-transformers/all-MiniLM-L6-v2\nChanged: its weights are "
    "rounded to INT8 and FP16.",
    "glove": "The word vectors GloVe 6B 50d: Jeffrey Pennington, Richard Socher and Christopher D. Manning (Stanford "
    "NLP Group);\nOpen Data Commons Public Domain Dedication and License 1.0.\n"
    "https://opendatacommons.org/licenses/pddl/1-0/\nChanged: its most frequent words, rounded to INT8.",
}


def write_licences(folder: Path, page: Path, bundle: Bundle, encoder: str | None) -> None:
    """Write a site's licences.

    page     folder of the built page
    encoder  the site's text model; None: it has none
    """
    parts = [(page / LICENCES).read_text(), f"The model: {bundle.manifest.license}\n"]
    if bundle.manifest.init is not None:
        parts.append(_published_weights(bundle))
    parts += [TEXT_MODELS[part] for part in ENCODERS[encoder]] if encoder else []
    if ATTRIBUTION in bundle.manifest.files:
        parts.append(bundle.read(ATTRIBUTION).decode())
    (folder / LICENCES).write_text("\n\n".join(parts))


def _published_weights(bundle: Bundle) -> str:
    """What the model's training started from (training.published.pretrained)."""
    name, folder = ("VGGish", "vggish") if bundle.manifest.network == "vggish" else ("YAMNet", "yamnet")
    return (
        f"The model started from published weights ({bundle.manifest.init}), which are those of {name}: Google (The "
        f"TensorFlow Authors); Apache License 2.0, as above.\nhttps://github.com/tensorflow/models/tree/master/research/"
        f"audioset/{folder}\nChanged: they were trained further, or put into another network."
    )
