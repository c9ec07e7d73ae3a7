"""Compare one runtime and one file of a bundle with the trained model. The result is a row of the parity table."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from math import isnan
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from export.parity.comparison import BOUNDS, Bound, Comparison, compare_rows, neighbours_kept
from export.parity.samples import Samples
from serving.errors import UnheardError
from serving.progress import track
from serving.zeroshot import ZeroShot

BATCHES = (1, 2, 3, 8)  # an exporter can fix the batch size silently, so each file runs with all of these

Model = Callable[[NDArray[np.float32]], NDArray[np.float32]]


class ParityError(UnheardError):
    """An exported file is not the trained model. The input was correct, so the exit code is 1."""

    exit_code = 1


@dataclass(frozen=True)
class Reference:
    """The embeddings that runtimes are compared with.

    name         for reports
    embeddings   [n, 128] of the samples
    rounding     row index -> largest |FP32 - FP64| in that row; None if it is not known
    """

    name: str
    embeddings: NDArray[np.float32]
    rounding: Callable[[int], float] | None


@dataclass(frozen=True)
class Judge:
    """The samples, their reference embeddings, and what is computed from embeddings.

    zeroshot    ranks classes for recordings
    classify    embeddings [n, 128] -> class names by the training head; None without PyTorch
    trained_on  whether the recordings are known to be training recordings
    on_choosers whether some of them chose the layers of the INT8 model that stay in FP32 (export.int8_clips)
    """

    samples: Samples
    reference: Reference
    zeroshot: ZeroShot
    classify: Callable[[NDArray[np.float32]], Sequence[str]] | None = None
    trained_on: bool = False
    on_choosers: bool = False

    def judge(self, runtime: Model, backend: str, precision: str, batch: int) -> "ParityResult":
        """Run the samples in batches of this size and compare the embeddings with the reference."""
        title = f"{backend}, {precision}, batch {batch}"
        embeddings = run_in_batches(runtime, self.samples.windows, batch, title)
        return self.judge_rows(embeddings, backend, precision, batch, BOUNDS[precision])

    def judge_rows(
        self, embeddings: NDArray[np.float32], backend: str, precision: str, batch: int, bound: Bound
    ) -> "ParityResult":
        """Compare embeddings [n, 128] of the samples with the reference."""
        reference = self.reference.embeddings
        # The allowance for FP32 rounding applies to FP32 only: the other bounds are much wider.
        rounding = self.reference.rounding if precision == "fp32" else None
        comparison = compare_rows(self.samples.names, reference, embeddings, bound, rounding)
        faults = list(comparison.faults)
        ranking = neighbours = accuracy = reference_accuracy = None
        if self.samples.recordings and embeddings.shape == reference.shape and np.isfinite(embeddings).all():
            before, after = self.samples.pool(reference), self.samples.pool(embeddings)
            best_before, best_after = (self.zeroshot.scores(rows).argmax(axis=1) for rows in (before, after))
            ranking = float(np.mean(best_before == best_after))
            neighbours = neighbours_kept(before, after)
            reference_accuracy, accuracy = self._accuracy(before), self._accuracy(after)
            if not ranking >= bound.ranking:
                faults.append(f"best-ranked class kept for {ranking:.1%}, wanted at least {bound.ranking:.0%}")
        return ParityResult(
            backend, precision, batch, comparison, ranking, neighbours, accuracy, reference_accuracy, tuple(faults)
        )

    def save_probes(self, path: Path) -> None:
        """Write the reference embeddings of the probes as .npz, for comparisons without PyTorch."""
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
        predicted = self.classify(embeddings)
        return float(np.mean([a == b for a, b in zip(predicted, self.samples.labels, strict=True)]))


@dataclass(frozen=True)
class ParityResult:
    """The comparison of one backend and precision at one batch size with the reference.

    ranking              share of recordings with the same best-ranked class
    neighbours           share of the recordings' nearest neighbours that are the same
    accuracy, reference_accuracy    of the training head on the recordings
    faults               one line for each limit that is not met
    Shares and accuracies are 0 to 1; None if there are no recordings or no labels.
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
        """Backend, precision and batch size, for messages."""
        return f"{self.backend}, {self.precision}, batch {self.batch}"

    def as_json(self) -> dict[str, Any]:
        """All fields and the fields of the comparison in one dictionary. NaN becomes None, as JSON has no NaN."""
        fields = asdict(self)
        fields = fields.pop("comparison") | fields  # self.faults contains the comparison's faults
        return {name: None if isinstance(value, float) and isnan(value) else value for name, value in fields.items()}


def run_in_batches(
    runtime: Model, windows: NDArray[np.float32], batch: int, title: str | None = None
) -> NDArray[np.float32]:
    """Run inputs [n, ...] with exactly `batch` rows in each call: [n, 128].

    title   of the progress bar; None: no progress bar
    """
    # The first rows fill the last batch.
    short = -len(windows) % batch
    filled = np.concatenate([windows, np.resize(windows, (short, *windows.shape[1:]))]) if short else windows
    quiet = title is None
    starts = track(range(0, len(filled), batch), title or "", quiet=quiet)
    return np.concatenate([runtime(filled[i : i + batch]) for i in starts])[: len(windows)]
