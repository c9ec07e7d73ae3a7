"""Which labels sounds are given: the bundle's classes, a known list, typed ones, or those of a file."""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from serving.embedder import Embedder
from serving.errors import LabelError, UsageError
from serving.label_lists import LABEL_LISTS, list_in_words
from serving.label_text import check_label_length, join_labels, normalise_label, split_labels
from serving.zeroshot import ZeroShot

MOST_BYTES = 2**20  # of a file of labels
FILES = (".txt", ".csv", ".tsv")


@dataclass(frozen=True)
class LabelSource:
    """Labels, and what some of them sound like.

    labels        None: all classes of the bundle
    descriptions  label -> its description, by which the sound is found instead of the label
    """

    labels: Sequence[str] | None = None
    descriptions: Mapping[str, str] = field(default_factory=dict)


def read_label_source(text: str | None, class_names: Sequence[str]) -> LabelSource:
    """What `--labels` asks for.

    text         None: the bundle's classes; esc-50 or fsc22 in any case; @FILE, or the path of a .txt, .csv or .tsv
                 file; otherwise labels with commas between, see `split_labels`
    class_names  of the bundle, which may have commas in them
    errors       UsageError: the file cannot be read; LabelError: a quote is not closed, or a label is too long
    """
    if text is None:
        return LabelSource()
    for name, classes in LABEL_LISTS.items():
        if _plain(text) == _plain(name):
            return LabelSource(list_in_words(classes))
    if text.startswith("@"):
        return read_label_file(Path(text[1:]))
    if Path(text).suffix.lower() in FILES:
        return read_label_file(Path(text))
    return _checked(LabelSource(split_labels(text, class_names, flag="--labels")))


def read_label_file(path: Path, flag: str = "--labels") -> LabelSource:
    """Labels of a file, and descriptions of some: see `_read_file`. flag: the option that names the file, for messages.

    errors   as `read_label_source`
    """
    return _checked(_read_file(path, flag))


def _checked(source: LabelSource) -> LabelSource:
    for label in (*(source.labels or ()), *source.descriptions.values()):
        check_label_length(label)
    return source


def choose_labels(embedder: Embedder, source: LabelSource) -> ZeroShot:
    """The zero-shot map for these labels; its class names are the labels, also where a description stands for one.

    errors   LabelError, as `Embedder.choose`, or descriptions for a bundle without a text model
    """
    if source.labels is None or not source.descriptions:
        return embedder.choose(source.labels)
    by_text = {source.descriptions.get(label, label): label for label in source.labels}
    if repeated := sorted({label for label in source.labels if list(source.labels).count(label) > 1}):
        raise LabelError(f"--labels: got {join_labels(repeated)} more than once; give each label once")

    def encode(texts: Sequence[str]) -> NDArray[np.float32]:
        return embedder.encode_labels([by_text[text] for text in texts], source.descriptions)

    texts = [source.descriptions.get(label, label) for label in source.labels]
    chosen = embedder.zeroshot.choose(texts, encode if embedder.knows_text else None)
    return replace(chosen, class_names=list(source.labels))


def _plain(name: str) -> str:
    return normalise_label(name).replace("-", "").replace(" ", "")


def _read_file(path: Path, flag: str) -> LabelSource:
    """Labels of a file in UTF-8: .csv and .tsv with the columns label and description, otherwise one label a line."""
    try:
        if path.stat().st_size > MOST_BYTES:
            raise UsageError(f"{flag}: {path}: is larger than 1 MB; give a file with one label a line")
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, ValueError) as error:  # ValueError: not UTF-8, or a zero byte in the path
        reason = getattr(error, "strerror", None) or "not UTF-8"
        raise UsageError(
            f"{flag}: {path}: cannot be read ({reason}); give a text file with one label a line, or a CSV file with "
            "the columns label and description"
        ) from error
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    if path.suffix.lower() not in (".csv", ".tsv"):
        rows = [[line] for line in lines]
    else:
        rows = list(csv.reader(lines, delimiter="\t" if path.suffix.lower() == ".tsv" else ","))
    if rows and normalise_label(rows[0][0]) == "label":
        rows = rows[1:]
    labels = [row[0].strip() for row in rows]
    if not labels or not all(labels):
        raise UsageError(f"{flag}: {path}: {'a row has' if labels else 'it holds'} no label; give one label a line")
    described = {row[0].strip(): row[1].strip() for row in rows if len(row) > 1 and row[1].strip()}
    return LabelSource(labels, described)
