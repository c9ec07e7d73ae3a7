"""Embeddings x class vectors -> ranking: the closed-form part of zero-shot learning, NumPy only.

An embedding is mapped into the space of the class texts, and compared with each class's vector there:

    score(class) = temperature * cosine((embedding - mean) @ projection, vector) - offset if the class was seen

The offset is the calibrated stacking of Chao 2016 (arXiv:1605.04253): without it, generalised zero-shot
learning hardly ever answers with an unseen class.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from serving.errors import LabelError, UsageError
from serving.labels import join_labels, plain

LARGEST_OFFSET = 1e6  # far more than temperature times two, the most that two scores are apart
TextEncoder = Callable[[Sequence[str]], NDArray[np.float32]]  # texts -> vectors [n, text_size]


@dataclass(frozen=True)
class ZeroShot:
    """The map from embeddings to ranked classes that a bundle carries.

    mean           [128] float32               subtracted from each embedding
    projection     [128, text_size] float32    into the space of the class vectors
    class_names    C names
    class_vectors  [C, text_size] float32      unit length, centred on the seen classes' mean before that
    seen           [C] bool                    trained on or not
    temperature    fitted on validation clips, so that the scores' softmax is a calibrated probability
    text_mean      [text_size] float32         what the class vectors were centred on, for labels typed later;
                                               None where that is not known
    """

    mean: NDArray[np.float32]
    projection: NDArray[np.float32]
    class_names: list[str]
    class_vectors: NDArray[np.float32]
    seen: NDArray[np.bool_]
    temperature: float
    text_mean: NDArray[np.float32] | None = None

    @property
    def seen_names(self) -> list[str]:
        """Names of the classes trained on, in the order of class_names."""
        return [name for name, seen in zip(self.class_names, self.seen, strict=True) if seen]

    def scores(
        self, embeddings: NDArray[np.float32], labels: Sequence[str] | None = None, offset: float = 0.0
    ) -> NDArray[np.float32]:
        """Score classes for each embedding.

        embeddings  [n, 128] float32
        labels      names of classes of this bundle, None for all of them
        offset      taken from the seen classes' scores
        returns     [n, n_labels] float32, larger is likelier
        errors      LabelError, see `choose`; UsageError: an offset beyond all scores
        """
        if not -LARGEST_OFFSET <= offset <= LARGEST_OFFSET:
            raise UsageError(f"offset: got {offset}; wanted {-LARGEST_OFFSET:g} to {LARGEST_OFFSET:g}")
        chosen = self if labels is None else self.choose(labels)
        mapped = (embeddings - self.mean) @ self.projection  # [n, text_size]
        norms = np.linalg.norm(mapped, axis=1, keepdims=True)
        cosines = (mapped / np.maximum(norms, 1e-12)) @ chosen.class_vectors.T  # [n, n_labels]
        return self.temperature * cosines - offset * chosen.seen.astype(np.float32)

    def rank(
        self, embedding: NDArray[np.float32], labels: Sequence[str] | None = None, offset: float = 0.0
    ) -> list[tuple[str, float]]:
        """Classes of one embedding [128], likeliest first, with probabilities that sum to 1 over the labels."""
        chosen = self if labels is None else self.choose(labels)
        scores = chosen.scores(embedding[None], offset=offset)[0].astype(np.float64)
        names = chosen.class_names
        odds = np.exp(scores - scores.max())
        shares = odds / odds.sum()
        return [(names[i], float(shares[i])) for i in np.argsort(-shares, kind="stable")]

    def choose(self, labels: Sequence[str], encode: TextEncoder | None = None) -> "ZeroShot":
        """The same map over other classes: the bundle's own by their names, any others by what their text says.

        labels   names of this bundle's classes, however cased and spaced, or free text, which counts as unseen
        encode   makes vectors of texts as the class vectors were made; None: only the bundle's own classes are known
        returns  with `class_names` as the labels were typed
        errors   LabelError: no label, an empty one, one twice, one that is not known, or what is no list of texts
        """
        if isinstance(labels, str):
            raise LabelError(f"labels: got the text {labels!r}; wanted a list of them: [{labels!r}]")
        labels = list(labels)
        if strange := [label for label in labels if not isinstance(label, str)]:
            raise LabelError(f"labels: got {strange[0]!r}; wanted a list of names or texts")
        rows = np.array([self._row(label) for label in labels], dtype=np.intp)
        typed = [label for label, row in zip(labels, rows, strict=True) if row < 0]
        if not labels or not all(map(plain, labels)):
            raise LabelError(f"labels: got {'an empty' if labels else 'no'} label; wanted one name or text for each")
        if typed and (encode is None or self.text_mean is None):
            install = "" if self.text_mean is None else "pip install 'unheard[text]', or "
            raise LabelError(
                f"labels: got {join_labels(typed)}; this bundle knows {join_labels(self.class_names)}, and has no text "
                f"model to understand others with: {install}export it again with --text-model"
            )
        same = [int(row) if row >= 0 else plain(label) for label, row in zip(labels, rows, strict=True)]
        repeated = [label for i, label in enumerate(labels) if same[i] in same[:i]]
        if repeated:
            raise LabelError(f"labels: got {join_labels(repeated)} more than once; give each label once")
        vectors = self.class_vectors[rows]  # [n_labels, text_size]
        if encode is not None and self.text_mean is not None and typed:
            vectors[rows < 0] = unit_rows(encode(typed) - self.text_mean)
        return replace(
            self, class_names=list(labels), class_vectors=vectors, seen=np.where(rows < 0, False, self.seen[rows])
        )

    def has(self, label: str) -> bool:
        """Whether a label is the name of one of the classes, however cased and spaced."""
        return self._row(label) >= 0

    def _row(self, label: str) -> int:
        return self._rows.get(label, self._rows.get(plain(label), -1))

    @cached_property
    def _rows(self) -> dict[str, int]:
        """Class number by name: as it stands here, and as it is compared."""
        rows = {plain(name): row for row, name in enumerate(self.class_names)}
        return rows | {name: row for row, name in enumerate(self.class_names)}

    def save(self, path: Path) -> None:
        """Write as .npz, without pickled objects."""
        arrays = {
            "mean": self.mean,
            "projection": self.projection,
            "class_names": np.array(self.class_names, dtype=np.str_),
            "class_vectors": self.class_vectors,
            "seen": self.seen,
            "temperature": np.float32(self.temperature),
        }
        if self.text_mean is not None:
            arrays["text_mean"] = self.text_mean
        np.savez(path, allow_pickle=False, **arrays)

    @classmethod
    def load(cls, path: Path) -> "ZeroShot":
        """Read what `save` wrote."""
        with np.load(path, allow_pickle=False) as stored:
            return cls(
                mean=stored["mean"],
                projection=stored["projection"],
                class_names=[str(name) for name in stored["class_names"]],
                class_vectors=stored["class_vectors"],
                seen=stored["seen"],
                temperature=float(stored["temperature"]),
                text_mean=stored.get("text_mean"),
            )


def unit_rows(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """Rows scaled to length 1; a zero row stays zero."""
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
