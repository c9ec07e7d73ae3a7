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
from demo.upload import name_upload
from serving.audio import is_silent
from serving.embedder import Embedder
from serving.errors import AudioError, LabelError
from serving.files.csv_cells import safe_cell
from serving.teaching.lesson import Descriptions, with_classes
from serving.teaching.posterior import (
    PlacedExamples,
    choose_weight,
    counts_as_seen,
    held_out_cosines,
    with_examples,
)
from serving.teaching.review_choice import choose_rows
from serving.teaching.rivals import Rival, find_rivals
from serving.zeroshot import ZeroShot
from serving.zeroshot.label_text import normalise_label, words_of_label

MAX_LABELS = 9  # each has a key
COLUMNS = ("file", "start", "end", "label")


@dataclass(frozen=True, eq=False)
class TeachSession:
    """The answers so far. A new answer makes a new session.

    whole     the map of all classes of the bundle and the labels before any answer
    prior     the same of the labels alone
    library   the sounds to ask about
    notes     about uploads that are left out, or read in part, and labels without a known word: one line each
    answers   (row of the library, index of its label; None: none of the labels)
    curve     after each answer: share of the answered sounds that the map names right when their recording is left out
    name      of the session, which no other one has
    """

    whole: ZeroShot
    prior: ZeroShot
    library: Library
    notes: tuple[str, ...] = ()
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
        if not len(examples.rows):
            return self.prior
        taught = with_examples(self.prior, examples, self._weight)
        counts = np.bincount(examples.classes, minlength=len(self.labels))
        return replace(taught, seen=self.prior.seen | counts_as_seen(taught, counts))

    @cached_property
    def _weight(self) -> float:
        """Of a label's words, in examples."""
        return choose_weight(self.prior, self._examples)

    @cached_property
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
        taught = self.taught
        scores = taught.scores_of(held_out_cosines(self.prior, examples, self._weight))
        return float((scores.argmax(axis=1) == examples.classes).mean())

    @cached_property
    def rivals(self) -> dict[str, Rival]:
        """Of each label the other class of the bundle that takes many of its answered sounds, where there is one."""
        names = self.whole.class_names
        rows = {normalise_label(name): row for row, name in enumerate(names)}
        of_label = np.array([rows[normalise_label(label)] for label in self.labels], np.intp)
        examples = replace(self._examples, classes=of_label[self._examples.classes])
        counted = examples.can_be_held_out()
        if not counted.any():
            return {}
        counts = np.bincount(examples.classes, minlength=len(names))
        taught = with_examples(self.whole, examples, self._weight)
        seen = self.whole.seen | counts_as_seen(taught, counts)
        cosines = held_out_cosines(self.whole, examples, self._weight)[counted]
        return find_rivals(names, replace(taught, seen=seen).scores_of(cosines), examples.classes[counted])

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


def begin(embedder: Embedder, labels: Sequence[str], library: Library, notes: Sequence[str] = ()) -> TeachSession:
    """A session without answers. notes: see `TeachSession`.

    labels   2 to MAX_LABELS names; new ones start from their words, if the bundle understands them
    errors   LabelError: too few or too many labels
    """
    if not 2 <= len(labels) <= MAX_LABELS:
        raise LabelError(f"labels: got {len(labels)}; type 2 to {MAX_LABELS}, so that each has a key")
    described = Descriptions(tuple(label for label in labels if embedder.labels.understands(label)))
    whole = with_classes(embedder, described, labels)
    prior = whole.choose(list(labels))
    unknown = [label for label, has_text in zip(labels, prior.has_text, strict=True) if not has_text]
    by_answers = [f"{label}: no word of it is known, so only your answers say what it sounds like" for label in unknown]
    return TeachSession(whole, prior, library, (*notes, *by_answers))


def library_of_uploads(embedder: Embedder, paths: Sequence[str]) -> tuple[Library, list[str]]:
    """The windows of uploaded recordings that are not silent, as a library, and notes.

    returns  the notes are about recordings that are left out, because they cannot be read, are silent or have the name
             of another one, and about those that can be read in part only: one line each
    errors   AudioError: none can be used
    """
    notes: list[str] = []
    names: list[str] = []
    starts: list[float] = []
    seconds: list[float] = []
    rows = []
    used: set[str] = set()
    for path in map(Path, paths):
        if path.name in used:
            notes.append(f"{path.name}: another recording has this name, which is all that the answers say; rename one")
            continue
        try:
            with embedder.stream(path) as stream:
                for block in stream:
                    loud = [i for i, level in enumerate(block.levels_dbfs) if not is_silent(level)]
                    names += [str(path)] * len(loud)
                    starts += block.starts_s[loud].tolist()
                    seconds += (block.ends_s - block.starts_s)[loud].tolist()
                    rows.append(block.rows[loud])
            told = list(stream.warnings)
            if str(path) in names[-1:]:
                used.add(path.name)
            else:
                told.append(f"{path}: is silent")
        except AudioError as error:
            told = [str(error)]
        notes += [name_upload(line, path) for line in told]
    if not names:
        raise AudioError(f"recordings: none of the {len(paths)} can be used; the first: {notes[0]}")
    classes = [words_of_label(Path(name).stem) for name in names]
    library = Library(
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
    return library, notes
