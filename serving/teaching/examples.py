"""Examples of sounds with their labels."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serving.errors import LabelError, UsageError
from serving.zeroshot.label_text import check_label_length, check_printable, join_labels, normalise_label

Wave = tuple[NDArray[np.floating], float]  # samples, rate in Hz


@dataclass(frozen=True, eq=False)
class Example:
    """A sound with its label.

    source          path of a recording, or samples and their rate
    start_s, end_s  the sound in the recording; end_s None: to its end
    where           what lists it, for messages: "examples.csv, row 3"
    """

    label: str
    source: Path | Wave
    start_s: float = 0.0
    end_s: float | None = None
    where: str = ""

    @property
    def is_whole(self) -> bool:
        """Whether the example is all of its recording."""
        return self.start_s == 0 and self.end_s is None


def listed_examples(examples: Mapping[str, Sequence[str | Path | Wave]]) -> list[Example]:
    """Examples given in Python: label -> paths, or samples with their rate in Hz.

    errors   UsageError: it is something else, or a label has none; LabelError as `check_labels`
    """
    if not isinstance(examples, Mapping):
        raise UsageError(f"examples: got {examples!r:.80}; wanted a dict from a label to its recordings")
    listed: list[Example] = []
    for label, sources in examples.items():
        if isinstance(sources, str | Path | bytes) or not sources:
            raise UsageError(f"examples of {label!r}: got {sources!r:.80}; wanted a list of paths or (wave, rate_hz)")
        listed += [_given(label, source) for source in sources]
    check_labels(examples)
    return listed


def _given(label: str, source: Any) -> Example:
    if isinstance(source, str | Path):
        return Example(label, Path(source))
    if isinstance(source, tuple) and len(source) == 2:
        return Example(label, source)
    raise UsageError(f"examples of {label!r}: got {source!r:.80}; wanted paths or (wave, rate_hz)")


def check_labels(labels: Iterable[str]) -> None:
    """LabelError: a label is empty, too long or not printable, or two spellings mean the same label."""
    spellings: dict[str, str] = {}
    for label in dict.fromkeys(labels):
        if not isinstance(label, str):
            raise LabelError(f"labels: got {label!r:.80}; wanted a text")
        check_label_length(label)
        check_printable(label)
        if not normalise_label(label):
            raise LabelError(f"labels: got {label!r}; wanted a name")
        first = spellings.setdefault(normalise_label(label), label)
        if first != label:
            raise LabelError(f"labels: {join_labels([first, label])} are the same label; use one spelling")
