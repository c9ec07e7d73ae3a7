"""The zero-shot score: embedding x class vectors -> ranked classes. NumPy only.

An embedding and the vector of each class are projected into one space, and compared there:

    score(class) = temperature * cosine((embedding - mean) @ projection, class vector @ text_projection)
                   - (offset if the class is seen)

The offset is calibrated stacking (Chao 2016, arXiv:1605.04253). Without it, a ranking of seen and unseen classes
together (generalised zero-shot learning) almost never puts an unseen class first.

How large it must be depends on the numbers of labels, because among more labels of a kind the best one scores higher by
chance. So a balanced map adds log(seen labels / unseen labels): the scores are logarithms of odds, and this gives both
kinds the same prior probability, however many labels each has.

A class stands where its text places it, or at a target of its own: training gives one to each class whose attributes
are written down (training.prototype_map), because attributes tell unheard classes apart better than texts do.

A class that was taught by examples (serving.teaching) is compared with the mean direction of its description and its
examples:

    prior_weight * described target + sum over the examples of unit((embedding - mean) @ projection)

The described target is where the class's text or its attributes place it. This is the posterior mode of a von
Mises-Fisher distribution's mean direction whose prior is centred there (Mardia & El-Atoum 1976): the description counts
as much as `prior_weight` examples.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from math import log

import numpy as np
from numpy.typing import NDArray

from serving.errors import BundleError, LabelError, UsageError
from serving.extras import pip_install
from serving.zeroshot.label_text import check_printable, join_labels, normalise_label
from serving.zeroshot.probabilities import softmax

LARGEST_OFFSET = 1e6  # scores of two classes differ by 2 * temperature at most, which is far less
TextEncoder = Callable[[Sequence[str]], NDArray[np.float32]]  # texts -> vectors [n, text_size]


@dataclass(frozen=True)
class ZeroShot:
    """The map from embeddings to ranked classes, as stored in a run and a bundle.

    mean           [128] float32               subtracted from each embedding
    projection     [128, size] float32         maps an embedding into the space of the comparison
    class_names    C names
    class_vectors  [C, text_size] float32      text vectors less the mean of the seen classes' ones, scaled to length 1
    seen           [C] bool                    whether scores of the class are as large as those of classes that the
                                               network was trained on: it was, or the class was taught by examples
    temperature    fitted on validation clips, so that the softmax of the scores is a calibrated probability
    text_mean      [text_size] float32         the mean subtracted from the text vectors; needed to rank typed labels.
                                               None: not known, and only the classes can be ranked
    text_projection  [text_size, size] float32  maps a class vector into the space of the comparison; None: class
                                               vectors are in it (size = text_size)
    offset         by which seen classes score too high: see `own_offset` and `similarities`
    balanced       whether `own_offset` depends on the numbers of seen and unseen classes
    threshold      an embedding without a similarity of this size or more is none of the classes; None: not known
    noise          [n, size] float32 unit rows: even noises in the space of the comparison; None: not known
    noise_thresholds  [n] float32: an embedding with a cosine of this size or more to its row of `noise` is noise
    example_sums   [C, size] float32           sum of the examples of each class, each as a unit row in the space of the
                                               comparison; zeros: the class has none. None: no class has any
    prior_weight   number of examples that the description of a class with examples counts for
    given_targets  [C, size] float32 unit rows: classes that do not stand where their text places them; zeros: the text
                   places the class. None: it places all of them
    """

    mean: NDArray[np.float32]
    projection: NDArray[np.float32]
    class_names: list[str]
    class_vectors: NDArray[np.float32]
    seen: NDArray[np.bool_]
    temperature: float
    text_mean: NDArray[np.float32] | None = None
    text_projection: NDArray[np.float32] | None = None
    offset: float = 0.0
    balanced: bool = False
    threshold: float | None = None
    noise: NDArray[np.float32] | None = None
    noise_thresholds: NDArray[np.float32] | None = None
    example_sums: NDArray[np.float32] | None = None
    prior_weight: float = 0.0
    given_targets: NDArray[np.float32] | None = None

    @property
    def own_offset(self) -> float:
        """Subtracted from the scores of seen classes by `rank`, unless the caller gives another.

        It is `offset`; for a balanced map with classes of both kinds, plus log(seen classes / unseen classes).
        """
        n_seen = int(self.seen.sum())
        n_unseen = len(self.seen) - n_seen
        return self.offset + log(n_seen / n_unseen) if self.balanced and n_seen and n_unseen else self.offset

    @property
    def seen_names(self) -> list[str]:
        """Names of the seen classes, in the order of class_names."""
        return [name for name, seen in zip(self.class_names, self.seen, strict=True) if seen]

    def scores(
        self, embeddings: NDArray[np.float32], labels: Sequence[str] | None = None, offset: float = 0.0
    ) -> NDArray[np.float32]:
        """Score classes for each embedding.

        embeddings  [n, 128] float32
        labels      names of classes of this bundle; None: all of them
        offset      subtracted from the scores of seen classes
        returns     [n, n_labels] float32; a larger score is more probable
        errors      LabelError, see `choose`; UsageError: the offset exceeds LARGEST_OFFSET; BundleError: a score is not
                    finite
        """
        if not -LARGEST_OFFSET <= offset <= LARGEST_OFFSET:
            raise UsageError(f"offset: got {offset}; wanted {-LARGEST_OFFSET:g} to {LARGEST_OFFSET:g}")
        chosen = self if labels is None else self.choose(labels)
        scores = chosen.scores_of(chosen.cosines(embeddings), offset)
        if not np.isfinite(scores).all():
            raise BundleError("the scores are not finite; export the bundle again")
        return np.asarray(scores, np.float32)

    def scores_of(self, cosines: NDArray[np.float32], offset: float | None = None) -> NDArray[np.float32]:
        """The scores [n, C] of cosines [n, C]. offset: taken off those of seen classes; None: `own_offset`."""
        offset = self.own_offset if offset is None else offset
        return self.temperature * cosines - np.float32(offset) * self.seen

    def cosines(self, embeddings: NDArray[np.float32]) -> NDArray[np.float32]:
        """The cosine of each embedding [n, 128] and each class in the space of the comparison: [n, C] float32."""
        return self.place(embeddings) @ self.targets.T

    def place(self, embeddings: NDArray[np.float32]) -> NDArray[np.float32]:
        """Embeddings [n, 128] in the space of the comparison: [n, size] float32 unit rows."""
        centred: NDArray[np.float32] = embeddings - self.mean
        return unit_rows(centred @ self.projection)

    def similarities(self, embeddings: NDArray[np.float32]) -> NDArray[np.float32]:
        """How similar each embedding [n, 128] is to each class: [n, C] float32, the number that has the threshold.

        These are the cosines, less the map's `offset` for seen classes. Sounds have larger cosines to seen classes
        than to unseen ones, right or not; the offset makes both comparable. They do not depend on the other classes.
        """
        return self.less_offset(self.cosines(embeddings))

    def less_offset(self, cosines: NDArray[np.float32]) -> NDArray[np.float32]:
        """The similarities [n, C] of cosines [n, C]."""
        if not self.offset or not self.temperature:
            return cosines
        return np.where(self.seen, cosines - np.float32(self.offset / self.temperature), cosines)

    def none_of_these(self, embeddings: NDArray[np.float32]) -> NDArray[np.bool_]:
        """Whether an embedding is like none of the classes: its largest similarity is below the threshold, or it is
        noise.

        embeddings  [n, 128] float32
        returns     [n] bool; always False if the map knows neither a threshold nor noise
        """
        noise = self.is_noise(embeddings)
        return noise if self.threshold is None else noise | (self.similarities(embeddings).max(axis=1) < self.threshold)

    def is_noise(self, embeddings: NDArray[np.float32]) -> NDArray[np.bool_]:
        """Whether embeddings [n, 128] are those of even noise, which no label means: [n] bool.

        Noise resembles rain, waves and machines, so its similarity to them is above the threshold.
        """
        return self.is_placed_noise(self.place(embeddings))

    def is_placed_noise(self, rows: NDArray[np.float32]) -> NDArray[np.bool_]:
        """As `is_noise`, for rows in the space of the comparison, see `place`."""
        if self.noise is None or self.noise_thresholds is None:
            return np.zeros(len(rows), bool)
        near = rows @ self.noise.T >= self.noise_thresholds  # [n, noises]
        return np.asarray(near.any(axis=1), np.bool_)

    @cached_property
    def targets(self) -> NDArray[np.float32]:
        """The classes in the space of the comparison: [C, size] unit rows."""
        if self.example_sums is None:
            return self.described_targets
        taught = unit_rows(self.prior_weight * self.described_targets + self.example_sums)
        return np.where(self.has_examples[:, None], taught, self.described_targets)

    @property
    def has_text(self) -> NDArray[np.bool_]:
        """[C]: whether a class has a class vector; one that was taught by examples alone has none, but zeros."""
        return np.asarray(self.class_vectors.any(axis=1), bool)

    @property
    def has_examples(self) -> NDArray[np.bool_]:
        """[C]: whether a class was taught by examples."""
        sums = self.example_sums
        return np.zeros(len(self.class_names), bool) if sums is None else np.asarray(sums.any(axis=1), bool)

    @cached_property
    def described_targets(self) -> NDArray[np.float32]:
        """Where descriptions place the classes in the space of the comparison: [C, size] unit rows; zeros: a class has
        none.
        """
        vectors, given = self.class_vectors, self.given_targets
        by_text = vectors if self.text_projection is None else unit_rows(vectors @ self.text_projection)
        return by_text if given is None else np.where(given.any(axis=1, keepdims=True), given, by_text)

    def claims(self, embeddings: NDArray[np.float32]) -> NDArray[np.float32]:
        """How much the classes claim each embedding [n, 128]: the soft maximum of its cosines, [n] float32.

        It is log(sum of exp(temperature * cosine)) / temperature, so the cosine to a class less the claim is the
        logarithm of the class's probability among all of them, over the temperature.
        """
        return self.soft_maximum(self.cosines(embeddings))

    def soft_maximum(self, cosines: NDArray[np.float32]) -> NDArray[np.float32]:
        """The claims [n] for cosines [n, C]."""
        scaled = self.sharpness * cosines
        largest = scaled.max(axis=1)
        return (largest + np.log(np.exp(scaled - largest[:, None]).sum(axis=1))) / self.sharpness

    @property
    def sharpness(self) -> np.float32:
        """The temperature of `claims`; 1 if the map's own is smaller, because 0 has no soft maximum."""
        return np.float32(max(self.temperature, 1.0))

    @cached_property
    def map_id(self) -> str:
        """A hash of the mean and the projection: two maps with the same one place embeddings in the same way."""
        parts = (np.ascontiguousarray(part, "<f4").tobytes() for part in (self.mean, self.projection))
        return hashlib.sha256(b"".join(parts)).hexdigest()

    def directions(self) -> NDArray[np.float32]:
        """Of each class the direction [C, 128] along which the cosine of an embedding grows, not scaled."""
        return self.targets @ self.projection.T

    def rank(
        self, embedding: NDArray[np.float32], labels: Sequence[str] | None = None, offset: float | None = None
    ) -> list[tuple[str, float]]:
        """Rank classes for one embedding [128], most probable first. The probabilities sum to 1 over the labels.

        offset   subtracted from the scores of seen classes; None: `own_offset` for these labels
        """
        chosen = self if labels is None else self.choose(labels)
        offset = chosen.own_offset if offset is None else offset
        shares = softmax(chosen.scores(embedding[None], offset=offset))[0]
        names = chosen.class_names
        return [(names[i], float(shares[i])) for i in np.argsort(-shares, kind="stable")]

    def choose(self, labels: Sequence[str], encode: TextEncoder | None = None) -> "ZeroShot":
        """The same map with other classes.

        labels   names of this bundle's classes (case and spacing are ignored), or any text, which counts as unseen
        encode   the text encoder that made the class vectors; None: only names of this bundle's classes are accepted
        returns  a map whose `class_names` are the labels as given
        errors   LabelError: there is no label, or one is empty, repeated, unknown, or not a text
        """
        labels = labels if isinstance(labels, str) else list(labels)  # a generator gives its items once
        typed = self.typed(labels, knows_text=encode is not None)
        rows = np.array([self._row(label) for label in labels], dtype=np.intp)
        vectors = self.class_vectors[rows]  # [n_labels, text_size]
        if encode is not None and self.text_mean is not None and typed:
            vectors[rows < 0] = unit_rows(encode(typed) - self.text_mean)
        seen = np.where(rows < 0, False, self.seen[rows])
        sums, given = (
            None if stored is None else np.where(rows[:, None] < 0, np.float32(0), stored[rows])
            for stored in (self.example_sums, self.given_targets)
        )
        return replace(
            self, class_names=list(labels), class_vectors=vectors, seen=seen, example_sums=sums, given_targets=given
        )

    def typed(self, labels: Sequence[str], knows_text: bool = True) -> list[str]:
        """The labels that are not names of classes, in their order. knows_text, errors: as `encode` of `choose`."""
        if isinstance(labels, str):
            raise LabelError(f"labels: got the text {labels!r}; wanted a list of them: [{labels!r}]")
        labels = list(labels)
        if strange := [label for label in labels if not isinstance(label, str)]:
            raise LabelError(f"labels: got {strange[0]!r}; wanted a list of names or texts")
        rows = [self._row(label) for label in labels]
        typed = [label for label, row in zip(labels, rows, strict=True) if row < 0]
        if not labels or not all(map(normalise_label, labels)):
            raise LabelError(f"labels: got {'an empty' if labels else 'no'} label; wanted one name or text for each")
        for label in typed:
            check_printable(label)
        if typed and not (knows_text and self.text_mean is not None):
            install = "" if self.text_mean is None else f"{pip_install('text')}, or "
            raise LabelError(
                f"labels: got {join_labels(typed)}; this bundle knows {join_labels(self.class_names)}, and has no text "
                f"model to understand others with: {install}export it again with its text model"
            )
        once: set[int | str] = set()
        repeated: list[str] = []
        for label, row in zip(labels, rows, strict=True):
            same = row if row >= 0 else normalise_label(label)
            repeated += [label] if same in once else []
            once.add(same)
        if repeated:
            raise LabelError(f"labels: got {join_labels(repeated)} more than once; give each label once")
        return typed

    def has(self, label: str) -> bool:
        """Whether a label is the name of a class; case and spacing are ignored."""
        return self._row(label) >= 0

    def _row(self, label: str) -> int:
        return self._rows.get(label, self._rows.get(normalise_label(label), -1))

    @cached_property
    def _rows(self) -> dict[str, int]:
        """Class index by name, and by the comparable form of the name."""
        rows = {normalise_label(name): row for row, name in enumerate(self.class_names)}
        return rows | {name: row for row, name in enumerate(self.class_names)}


def unit_rows(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """Rows scaled to length 1; a zero row stays zero."""
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
