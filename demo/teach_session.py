"""A visitor who teaches labels: which sound is asked about next, and what the answers taught."""

import csv
import io
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from demo.library import Library
from serving.audio import is_silent
from serving.csv_cells import safe_cell
from serving.embedder import Embedder
from serving.errors import AudioError, LabelError
from serving.label_text import words_of_label
from serving.teaching.lesson import Descriptions, with_classes
from serving.teaching.posterior import PlacedExamples, choose_weight, held_out_cosines, with_examples
from serving.teaching.review_choice import choose_rows
from serving.zeroshot import ZeroShot

MAX_LABELS = 9  # each has a key
COLUMNS = ("file", "start", "end", "label")


@dataclass(frozen=True, eq=False)
class TeachSession:
    """The answers so far. A new answer makes a new session.

    prior     the map of the labels before any answer
    library   the sounds to ask about
    answers   (row of the library, index of its label; None: none of the labels)
    curve     after each answer: share of the answered sounds that the map names right when their recording is left out
    name      of the session, which no other one has
    """

    prior: ZeroShot
    library: Library
    answers: tuple[tuple[int, int | None], ...] = ()
    curve: tuple[float, ...] = ()
    name: str = field(default_factory=lambda: secrets.token_hex(8))

    @property
    def labels(self) -> list[str]:
        """The labels, in the order of their keys."""
        return self.prior.class_names

    @cached_property
    def taught(self) -> ZeroShot:
        """The map after the answers."""
        examples = self._examples
        return (
            with_examples(self.prior, examples, choose_weight(self.prior, examples))
            if len(examples.rows)
            else self.prior
        )

    @property
    def _examples(self) -> PlacedExamples:
        named = [(row, label) for row, label in self.answers if label is not None]
        rows = np.array([row for row, _ in named], np.intp)
        paths = [self.library.paths[row] for row in rows]
        recordings = np.unique(paths, return_inverse=True)[1] if paths else np.empty(0, np.intp)
        labels = np.array([label for _, label in named], np.intp)
        return PlacedExamples(self.prior.place(self.library.embeddings[rows]), labels, recordings)

    @cached_property
    def current(self) -> int | None:
        """The row that is asked about; None: all were answered."""
        asked = np.array([row for row, _ in self.answers], np.intp)
        left = np.setdiff1d(np.arange(len(self.library)), asked)
        if not len(left):
            return None
        return int(left[choose_rows(self.taught, self.library.embeddings[left], 1, self.library.embeddings[asked])[0]])

    @cached_property
    def guess(self) -> list[tuple[str, float]]:
        """The labels with their probabilities for the current row, most probable first."""
        return [] if self.current is None else self.taught.rank(self.library.embeddings[self.current])

    def answered(self, label: int | None) -> "TeachSession":
        """The session after the current row got a label. None: it is none of the labels."""
        assert self.current is not None
        session = replace(self, answers=(*self.answers, (self.current, label)))
        return replace(session, curve=(*self.curve, session.accuracy()))

    def undone(self) -> "TeachSession":
        """The session before the last answer."""
        return replace(self, answers=self.answers[:-1], curve=self.curve[:-1])

    def accuracy(self) -> float:
        """The last value of `curve`; 0 if no sound has a label yet."""
        examples = self._examples
        if not len(examples.rows):
            return 0.0
        cosines = held_out_cosines(self.prior, examples, choose_weight(self.prior, examples))
        return float((cosines.argmax(axis=1) == examples.classes).mean())

    def table(self) -> str:
        """The answers as a CSV file that `serving.teach` reads. Uploaded recordings are named without a folder."""
        text = io.StringIO()
        lines = csv.writer(text, lineterminator="\n")
        lines.writerow(COLUMNS)
        library = self.library
        for row, label in self.answers:
            start, end = library.starts_s[row], library.starts_s[row] + library.durations_s[row]
            name = "" if label is None else self.labels[label]
            path = library.root / library.paths[row]
            file = path.name if library.is_uploaded else str(path.absolute())
            lines.writerow([safe_cell(file), f"{start:.3f}", f"{end:.3f}", safe_cell(name)])
        return text.getvalue()


def begin(embedder: Embedder, labels: Sequence[str], library: Library) -> TeachSession:
    """A session without answers.

    labels   2 to MAX_LABELS names; new ones start from their words, if the bundle understands text
    errors   LabelError: too few or too many labels, or the text model knows no word of one
    """
    if not 2 <= len(labels) <= MAX_LABELS:
        raise LabelError(f"labels: got {len(labels)}; type 2 to {MAX_LABELS}, so that each has a key")
    described = Descriptions(tuple(labels)) if embedder.knows_text else Descriptions()
    prior = with_classes(embedder, described, labels).choose(list(labels))
    return TeachSession(prior, library)


def library_of_uploads(embedder: Embedder, paths: Sequence[str]) -> Library:
    """The windows of uploaded recordings that are not silent, as a library.

    errors   AudioError: a file cannot be used, or all are silent
    """
    names: list[str] = []
    starts: list[float] = []
    seconds: list[float] = []
    rows = []
    for path in map(Path, paths):
        try:
            with embedder.stream(path) as stream:
                for block in stream:
                    loud = [i for i, level in enumerate(block.levels_dbfs) if not is_silent(level)]
                    names += [str(path)] * len(loud)
                    starts += block.starts_s[loud].tolist()
                    seconds += (block.ends_s - block.starts_s)[loud].tolist()
                    rows.append(block.rows[loud])
        except AudioError as error:
            raise AudioError(str(error).replace(str(path), path.name)) from error  # a visitor knows the name alone
    if not names:
        raise AudioError("recordings: all are silent; send others")
    classes = [words_of_label(Path(name).stem) for name in names]
    return Library(
        "the uploaded recordings",
        Path("/"),
        [name.lstrip("/") for name in names],
        classes,
        np.array(starts),
        np.array(seconds),
        np.concatenate(rows),
        embedder.manifest.embedding_space,
        is_uploaded=True,
    )
