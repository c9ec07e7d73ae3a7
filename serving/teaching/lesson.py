"""Teach a zero-shot map classes by examples and descriptions, and judge the result on examples that were held out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from serving.errors import LabelError, UsageError
from serving.teaching.embedded_examples import EmbeddedExamples, embed_examples
from serving.teaching.example_keys import recording_of
from serving.teaching.examples import Example, check_labels
from serving.teaching.posterior import PlacedExamples, choose_weight, counts_as_seen, held_out_cosines, with_examples
from serving.teaching.rivals import find_rivals
from serving.teaching.taught_record import TaughtClass, read_record
from serving.zeroshot import ZeroShot, unit_rows
from serving.zeroshot.label_text import check_label_length, check_printable, join_labels, normalise_label

if TYPE_CHECKING:
    from serving.embedder import Embedder


@dataclass(frozen=True, eq=False)
class Lesson:
    """What was taught, and how well it works.

    zeroshot        the map that knows the classes
    classes         name -> facts of each class that was taught, now or in an earlier lesson
    descriptions    name -> the description that was given
    scores          shares of the held-out examples, 0 to 1, by name; empty if none could be held out
    skipped         why some examples were not used, one line each
    doubts          warnings, one line each: examples contradict their description, an earlier lesson had others of
                    their recordings, or another class takes many of the held-out ones (a rival)
    """

    zeroshot: ZeroShot
    classes: Mapping[str, TaughtClass]
    descriptions: Mapping[str, str]
    scores: Mapping[str, float]
    skipped: Sequence[str] = ()
    doubts: Sequence[str] = ()


@dataclass(frozen=True)
class Descriptions:
    """What labels sound like. labels: all of them; texts: label -> its description, where that is not the label."""

    labels: Sequence[str] = ()
    texts: Mapping[str, str] = field(default_factory=dict)


def teach(embedder: "Embedder", examples: Sequence[Example], descriptions: Descriptions, quiet: bool = True) -> Lesson:
    """Teach the classes of the examples and of the descriptions. Nothing is written.

    quiet    show no progress
    errors   UsageError: there is nothing to teach, or one sound has two labels; LabelError: a label is unfit, or
             there are descriptions and the bundle has no text model; those of `embed_examples`
    """
    if not examples and not descriptions.labels:
        raise UsageError("examples: got none, and no description; give one or both")
    check_labels([*descriptions.labels, *(example.label for example in examples)])
    if repeated := [label for i, label in enumerate(descriptions.labels) if label in descriptions.labels[:i]]:
        raise LabelError(f"descriptions: got {join_labels(repeated)} more than once; give each label once")
    for label, text in descriptions.texts.items():
        if not isinstance(text, str):
            raise LabelError(f"descriptions: {label}: got {text!r:.80}; wanted a text")
        check_label_length(text)
        check_printable(text)
    before = embedder.lesson  # what was taught since the bundle was opened
    earlier = read_record(embedder.bundle) if before is None else before.classes
    prior = with_classes(embedder, descriptions, [example.label for example in examples])
    skipped: list[str] = []
    embedded = None
    if examples:
        known = {key: name for name, each in earlier.items() for key in each.keys}
        embedded = _without(embed_examples(embedder, examples, quiet), known)
        _refuse_lost_classes(examples, embedded, descriptions.labels)
        skipped = embedded.skipped
    described = {label: descriptions.texts.get(label, embedder.labels.describe(label)) for label in descriptions.labels}
    lesson = _lesson(prior, embedded, described, earlier, skipped)
    return lesson if before is None else replace(lesson, descriptions={**before.descriptions, **lesson.descriptions})


def with_classes(embedder: "Embedder", descriptions: Descriptions, labels: Sequence[str]) -> ZeroShot:
    """The embedder's map with the classes that it lacks, and with the vectors of these descriptions.

    A class without a description has the vector 0: examples alone say where it is. errors: LabelError, see `teach`
    """
    zeroshot = embedder.zeroshot
    if descriptions.labels and not embedder.labels.knows_text:
        zeroshot.choose(descriptions.labels)  # explains what is missing, unless all are classes
    texts = dict(descriptions.texts)
    with_text = {
        normalise_label(name) for name, has in zip(zeroshot.class_names, zeroshot.has_text, strict=True) if has
    }
    given = [label for label in descriptions.labels if label in texts or normalise_label(label) not in with_text]
    vectors = {}
    if given:
        if zeroshot.text_mean is None or not embedder.labels.knows_text:
            raise LabelError(f"descriptions: got {join_labels(given)}, but {embedder.bundle.folder} has no text model")
        rows = unit_rows(embedder.labels.encode(given, texts) - zeroshot.text_mean)
        vectors = {normalise_label(label): row for label, row in zip(given, rows, strict=True)}
    wanted = {normalise_label(label): label for label in (*descriptions.labels, *labels)}
    new = [label for label in wanted.values() if not zeroshot.has(label)]
    names = [*zeroshot.class_names, *new]
    blank = np.zeros(zeroshot.class_vectors.shape[1], np.float32)
    stored = dict(zip(map(normalise_label, zeroshot.class_names), zeroshot.class_vectors, strict=True))
    stored |= vectors
    sums, targets = (
        None if rows is None else np.concatenate([rows, np.zeros((len(new), rows.shape[1]), np.float32)])
        for rows in (zeroshot.example_sums, zeroshot.given_targets)
    )
    if targets is not None:  # a description given now counts instead
        targets[[normalise_label(name) in vectors for name in names]] = 0
    return replace(
        zeroshot,
        class_names=names,
        class_vectors=np.stack([stored.get(normalise_label(name), blank) for name in names]),
        seen=np.concatenate([zeroshot.seen, np.zeros(len(new), bool)]),
        example_sums=sums,
        given_targets=targets,
    )


def _without(embedded: EmbeddedExamples, known: Mapping[str, str]) -> EmbeddedExamples:
    """The examples that no earlier lesson had. known: key -> label of those that one had.

    errors   UsageError: an earlier lesson had one under another label, or all of them
    """
    for key, label in zip(embedded.keys, embedded.labels, strict=True):
        if normalise_label(known.get(key, label)) != normalise_label(label):
            raise UsageError(
                f"examples: the bundle was taught one of {label} before, as {known[key]}; to change that, teach the "
                "bundle that it was made from"
            )
    new = [i for i, key in enumerate(embedded.keys) if key not in known]
    n_known = len(embedded.keys) - len(new)
    if not n_known:
        return embedded
    if not new:
        raise UsageError(f"examples: the bundle was taught all {n_known} of them before; give others")
    return EmbeddedExamples(
        [embedded.labels[i] for i in new],
        embedded.embeddings[new],
        [embedded.keys[i] for i in new],
        [*embedded.skipped, f"{n_known} examples were left out: the bundle was taught them before"],
    )


def _refuse_lost_classes(examples: Sequence[Example], embedded: EmbeddedExamples, described: Sequence[str]) -> None:
    left = {normalise_label(label) for label in (*embedded.labels, *described)}
    lost = [label for label in dict.fromkeys(each.label for each in examples) if normalise_label(label) not in left]
    if lost:
        raise UsageError(
            f"no example of {join_labels(lost)} can be used (first reason: {embedded.skipped[0]}); give others, or "
            "leave the class out"
        )


def _lesson(
    prior: ZeroShot,
    embedded: EmbeddedExamples | None,
    texts: Mapping[str, str],
    earlier: Mapping[str, TaughtClass],
    skipped: Sequence[str],
) -> Lesson:
    names = prior.class_names
    rows = {normalise_label(name): row for row, name in enumerate(names)}
    described = {names[rows[normalise_label(label)]]: text for label, text in texts.items()}
    classes = dict(earlier)
    for name, text in described.items():
        classes[name] = replace(classes.get(name, TaughtClass()), description=text)
    if embedded is None:
        return Lesson(prior, classes, described, {}, skipped)
    labels = np.array([rows[normalise_label(label)] for label in embedded.labels])
    taught_before = {recording_of(key) for each in earlier.values() for key in each.keys}
    known = np.array([recording_of(key) in taught_before for key in embedded.keys])
    placed = PlacedExamples(prior.place(embedded.embeddings), labels, embedded.recordings, known)
    weight = choose_weight(prior, placed)
    taught = with_examples(prior, placed, weight)
    for row in np.unique(labels):
        own = np.flatnonzero(labels == row)
        before = classes.get(names[row], TaughtClass())
        classes[names[row]] = replace(before, keys=(*before.keys, *(embedded.keys[i] for i in own)))
    counts = np.array([len(classes[name].keys) if name in classes else 0 for name in names])
    taught = replace(taught, seen=prior.seen | counts_as_seen(taught, counts))
    counted = placed.can_be_held_out()
    doubts = _doubts(prior, placed)
    if known.any():
        doubts.append(
            f"{known.sum()} of {len(known)} examples are not held out: an earlier lesson had others of their recordings"
        )
    if not counted.any():
        return Lesson(taught, classes, described, {}, skipped, doubts)
    own, cosines = labels[counted], held_out_cosines(prior, placed, weight)[counted]
    noisy = taught.is_placed_noise(placed.rows[counted])
    scores, by_class = _judge(taught, np.unique(labels), cosines, own, noisy)
    rivals = find_rivals(names, taught.scores_of(cosines), own)
    for row, right in by_class.items():
        name = names[row]
        classes[name] = replace(classes[name], held_out=len(right), right=int(right.sum()), rival=rivals.get(name))
    doubts += [rival.warning(name) for name, rival in rivals.items()]
    return Lesson(taught, classes, described, scores, skipped, doubts)


def _judge(
    taught: ZeroShot,
    columns: NDArray[np.intp],
    cosines: NDArray[np.float32],
    own: NDArray[np.intp],
    noisy: NDArray[np.bool_],
) -> tuple[dict[str, float], dict[int, NDArray[np.bool_]]]:
    """Scores of the held-out examples, and for each class which of its held-out examples are right among the taught.

    columns   indices of the taught classes;  cosines [n >= 1, C] and classes own [n] of the held-out examples
    noisy     [n]: whether an example counts as noise, see `ZeroShot.is_noise`
    """
    best = taught.scores_of(cosines).argmax(axis=1)
    right = columns[cosines[:, columns].argmax(axis=1)] == own
    scores = {}
    if len(columns) > 1:
        scores["taught_accuracy"] = float(right.mean())
    if len(taught.class_names) > len(columns):
        scores["taught_accuracy_all"] = float((best == own).mean())
        if len(columns) == 1:  # alone, it has no competition
            right = best == own
    if taught.threshold is not None:
        similar = taught.less_offset(cosines)[:, columns].max(axis=1) >= taught.threshold
        scores["taught_kept"] = float((similar & ~noisy).mean())
    return scores, {int(row): right[own == row] for row in np.unique(own)}


def _doubts(prior: ZeroShot, placed: PlacedExamples) -> list[str]:
    """A warning for each class whose text ranks its own examples worse than chance among the taught classes' texts."""
    names, texts = prior.class_names, prior.described_targets
    taught = [int(row) for row in np.unique(placed.classes) if prior.has_text[row]]
    columns = taught if len(taught) > 1 else np.flatnonzero(prior.has_text).tolist()
    warnings = []
    for row in taught:
        cosines = placed.rows[placed.classes == row] @ texts[columns].T  # [n, n_columns]
        own = columns.index(row)
        rank = 1 + float((cosines > cosines[:, [own]]).sum(axis=1).mean())
        if len(columns) > 1 and rank > (len(columns) + 1) / 2:
            nearest = names[columns[int(cosines.mean(axis=0).argmax())]]
            warnings.append(
                f"{names[row]}: its examples contradict its description, which is number {rank:.3g} of {len(columns)} "
                f"by similarity on average; they are nearest to that of {nearest}: check the labels and the text"
            )
    return warnings
