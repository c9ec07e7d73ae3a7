"""Labels and descriptions as they are typed on the page."""

from collections.abc import Iterable, Mapping, Sequence

from serving.embedder import Embedder
from serving.errors import LabelError
from serving.zeroshot import ZeroShot
from serving.zeroshot.label_text import (
    MAX_LENGTH,
    check_label_length,
    join_labels,
    normalise_label,
    split_labels,
    unquote,
    words_of_label,
)

MAX_LABELS = 200
SEPARATORS = ",;"


def read_labels(text: str | None, known: Iterable[str] = ()) -> list[str] | None:
    """Labels as they are typed: one a line, or all on one line with commas or semicolons between; each once.

    known    names of classes, which may have commas in them; a label in double quotes may too, see `split_labels`
    returns  None where nothing is typed: all classes of the bundle
    errors   LabelError: more than MAX_LABELS, one that is too long, or a quote that is not closed
    """
    text = (text or "").strip()
    parts = map(unquote, text.splitlines()) if "\n" in text else split_labels(text, known, SEPARATORS)
    once: dict[str, str] = {}
    for part in parts:
        once.setdefault(normalise_label(part), part.strip())
    labels = [label for key, label in once.items() if key]
    if len(labels) > MAX_LABELS:
        raise LabelError(f"labels: got {len(labels)}; the page takes up to {MAX_LABELS}")
    for label in labels:
        check_label_length(label)
    return labels or None


def write_labels(labels: Iterable[str]) -> str:
    """What `read_labels` reads again."""
    return join_labels((label.replace("_", " ") for label in labels), SEPARATORS)


def read_descriptions(text: str | None, embedder: Embedder) -> dict[str, str]:
    """The visitor's own descriptions: normalised label -> description.

    text     one "label: description" a line. Lines that say what the bundle says are no own descriptions
    errors   LabelError: a description is longer than MAX_LENGTH
    """
    own = {}
    for line in (text or "").splitlines():
        label, _, description = (part.strip() for part in line.partition(":"))
        if len(description) > MAX_LENGTH:
            raise LabelError(f"descriptions: that of {label!r} is longer than {MAX_LENGTH} characters")
        if description and normalise_label(description) != normalise_label(embedder.labels.describe(label)):
            own[normalise_label(label)] = description
    return own


def write_descriptions(embedder: Embedder, labels: Iterable[str], own: Mapping[str, str]) -> str:
    """One line for each label, as `read_descriptions` reads it: the own description, or the bundle's."""
    texts = {label: own.get(normalise_label(label), embedder.labels.describe(label)) for label in labels}
    return "\n".join(f"{words_of_label(label)}: {text}" for label, text in texts.items())


def choose_labels(embedder: Embedder, labels: Sequence[str] | None, own: Mapping[str, str]) -> ZeroShot:
    """The zero-shot map for labels, of which those in `own` mean that description instead of the bundle's.

    labels   None: all classes of the bundle
    own      normalised label -> description
    errors   LabelError, see `LabelSpace.choose`
    """
    names = embedder.zeroshot.class_names if labels is None else labels
    return embedder.choose(labels, {name: own[normalise_label(name)] for name in names if normalise_label(name) in own})
