"""Proof that a runtime with one of a bundle's files is the trained model: a row of the parity table."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from math import isnan
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.progress import track

from export.parity.comparison import BOUNDS, Comparison, compare, neighbours_kept
from export.parity.samples import Samples
from serving.command import progress_console
from serving.errors import UnheardError
from serving.zeroshot import ZeroShot

BATCHES = (1, 2, 3, 8)  # an exporter can fix the batch without a word: each file is run at all of these

Runtime = Callable[[NDArray[np.float32]], NDArray[np.float32]]


class ParityError(UnheardError):
    """A file is not the model that was trained. Nothing that the user could have given otherwise: exit code 1."""

    exit_code = 1


@dataclass(frozen=True)
class Reference:
    """What runtimes are compared with.

    name         for people
    embeddings   [n, 128] of the samples
    rounding     of a row's number, how far the row is from the same in FP64; None where that is not known
    """

    name: str
    embeddings: NDArray[np.float32]
    rounding: Callable[[int], float] | None


@dataclass(frozen=True)
class Judge:
    """What is compared, with what, and what is done with the embeddings.

    zeroshot   ranks classes for recordings
    classify   names recordings by the training head, from embeddings [n, 128]; None where there is no PyTorch
    """

    samples: Samples
    reference: Reference
    zeroshot: ZeroShot
    classify: Callable[[NDArray[np.float32]], Sequence[str]] | None = None

    def prove(self, runtime: Runtime, backend: str, precision: str, batch: int) -> "Proof":
        """Run the samples in batches of this size and hold them against the reference."""
        title = f"{backend}, {precision}, batch {batch}"
        embeddings = run_in_batches(runtime, self.samples.windows, batch, title)
        bound, reference = BOUNDS[precision], self.reference.embeddings
        # A row is excused for its own rounding where nothing else is to be expected of a candidate.
        rounding = self.reference.rounding if precision == "fp32" else None
        comparison = compare(self.samples.names, reference, embeddings, bound, rounding)
        faults = list(comparison.faults)
        ranking = neighbours = accuracy = reference_accuracy = None
        if self.samples.counts and embeddings.shape == reference.shape and np.isfinite(embeddings).all():
            before, after = self.samples.pool(reference), self.samples.pool(embeddings)
            best_before, best_after = (self.zeroshot.scores(rows).argmax(axis=1) for rows in (before, after))
            ranking = float(np.mean(best_before == best_after))
            neighbours = neighbours_kept(before, after)
            reference_accuracy, accuracy = self._accuracy(before), self._accuracy(after)
            if not ranking >= bound.ranking:
                faults.append(f"best-ranked class kept for {ranking:.1%}, wanted at least {bound.ranking:.0%}")
        return Proof(
            backend, precision, batch, comparison, ranking, neighbours, accuracy, reference_accuracy, tuple(faults)
        )

    def save_probes(self, path: Path) -> None:
        """Write the probes' reference embeddings as .npz, to compare with where there is no PyTorch."""
        reference, n_probes = self.reference, self.samples.n_probes
        assert reference.rounding is not None
        np.savez(
            path,
            names=np.array(self.samples.names[:n_probes], np.str_),
            embeddings=reference.embeddings[:n_probes],
            rounding=np.array([reference.rounding(i) for i in range(n_probes)]),
            name=np.array(reference.name, np.str_),
        )

    def _accuracy(self, embeddings: NDArray[np.float32]) -> float | None:
        if self.classify is None or not self.samples.labels:
            return None
        named = self.classify(embeddings)
        return float(np.mean([a == b for a, b in zip(named, self.samples.labels, strict=True)]))


@dataclass(frozen=True)
class Proof:
    """How one backend with one precision at one batch size compares with the reference.

    ranking              share of recordings with the same best-ranked class
    neighbours           share of recordings' nearest neighbours kept
    accuracy, reference_accuracy    of the training head on the recordings
    faults               one line for each broken bound
    Shares and accuracies are 0 to 1; None where there is nothing to compute them from.
    """

    backend: str
    precision: str
    batch: int
    comparison: Comparison
    ranking: float | None
    neighbours: float | None
    accuracy: float | None
    reference_accuracy: float | None
    faults: tuple[str, ...]

    @property
    def title(self) -> str:
        """For messages."""
        return f"{self.backend}, {self.precision}, batch {self.batch}"

    def record(self) -> dict[str, Any]:
        """For JSON: all fields, those of the comparison beside the others."""
        fields = asdict(self)
        fields = fields.pop("comparison") | fields  # the proof's own faults hold those of the comparison
        # JSON has no NaN.
        return {name: None if isinstance(value, float) and isnan(value) else value for name, value in fields.items()}


def run_in_batches(
    runtime: Runtime, windows: NDArray[np.float32], batch: int, title: str | None = None
) -> NDArray[np.float32]:
    """Run inputs [n, ...], exactly `batch` rows in each call: [n, 128]. title: of a progress bar; None: none."""
    # The last batch is filled with the first rows.
    short = -len(windows) % batch
    filled = np.concatenate([windows, np.resize(windows, (short, *windows.shape[1:]))]) if short else windows
    quiet = title is None
    starts = track(range(0, len(filled), batch), title or "", console=progress_console, transient=True, disable=quiet)
    return np.concatenate([runtime(filled[i : i + batch]) for i in starts])[: len(windows)]
