"""Embeddings x class vectors -> ranking: the closed-form part of zero-shot learning, NumPy only.

An embedding is mapped into the space of the class texts, and compared with each class's vector there:

    score(class) = temperature * cosine((embedding - mean) @ projection, vector) - offset if the class was seen

The offset is the calibrated stacking of Chao 2016 (arXiv:1605.04253): without it, generalised zero-shot
learning hardly ever answers with an unseen class.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from serving.errors import LabelError


@dataclass(frozen=True)
class ZeroShot:
    """The map from embeddings to ranked classes that a bundle carries.

    mean           [128] float32               subtracted from each embedding
    projection     [128, text_size] float32    into the space of the class vectors
    class_names    C names
    class_vectors  [C, text_size] float32      unit length, centred on the seen classes' mean before that
    seen           [C] bool                    trained on or not
    temperature    fitted on validation clips, so that the scores' softmax is a calibrated probability
    """

    mean: NDArray[np.float32]
    projection: NDArray[np.float32]
    class_names: list[str]
    class_vectors: NDArray[np.float32]
    seen: NDArray[np.bool_]
    temperature: float

    @property
    def seen_names(self) -> list[str]:
        """Names of the classes trained on, in the order of class_names."""
        return [name for name, seen in zip(self.class_names, self.seen, strict=True) if seen]

    def scores(
        self, embeddings: NDArray[np.float32], labels: list[str] | None = None, offset: float = 0.0
    ) -> NDArray[np.float32]:
        """Score classes for each embedding.

        embeddings  [n, 128] float32
        labels      names of classes of this bundle, None for all of them
        offset      taken from the seen classes' scores
        returns     [n, n_labels] float32, larger is likelier
        errors      LabelError: a label that is not a class of this bundle, a label twice, or none
        """
        columns = self._columns(labels)
        mapped = (embeddings - self.mean) @ self.projection  # [n, text_size]
        norms = np.linalg.norm(mapped, axis=1, keepdims=True)
        cosines = (mapped / np.maximum(norms, 1e-12)) @ self.class_vectors[columns].T  # [n, n_labels]
        return self.temperature * cosines - offset * self.seen[columns].astype(np.float32)

    def rank(
        self, embedding: NDArray[np.float32], labels: list[str] | None = None, offset: float = 0.0
    ) -> list[tuple[str, float]]:
        """Classes of one embedding [128], likeliest first, with probabilities that sum to 1 over the labels."""
        scores = self.scores(embedding[None], labels, offset)[0].astype(np.float64)
        names = self.class_names if labels is None else labels
        odds = np.exp(scores - scores.max())
        shares = odds / odds.sum()
        return [(names[i], float(shares[i])) for i in np.argsort(-shares, kind="stable")]

    def _columns(self, labels: list[str] | None) -> list[int]:
        if labels is None:
            return list(range(len(self.class_names)))
        unknown = [label for label in labels if label not in self.class_names]
        if unknown or not labels:
            got = ", ".join(unknown) or "no label"
            raise LabelError(f"labels: got {got}; this bundle knows {', '.join(self.class_names)}")
        repeated = [label for i, label in enumerate(labels) if label in labels[:i]]
        if repeated:
            raise LabelError(f"labels: got {', '.join(repeated)} more than once; give each label once")
        return [self.class_names.index(label) for label in labels]

    def save(self, path: Path) -> None:
        """Write as .npz, without pickled objects."""
        np.savez(
            path,
            mean=self.mean,
            projection=self.projection,
            class_names=np.array(self.class_names, dtype=np.str_),
            class_vectors=self.class_vectors,
            seen=self.seen,
            temperature=np.float32(self.temperature),
        )

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
            )
