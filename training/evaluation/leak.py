"""How much accuracy rises when clips of one source recording are in both the training and the test part.

    python -m training.evaluation.leak --dataset ESC-10 --data-dir DIR

Cross-validates two classifiers of log-mel statistics, without a network, with three kinds of parts: clips at random,
clips grouped by source recording, and the data set's own recording folds if it has them.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.table import Table
from sklearn.model_selection import (
    BaseCrossValidator,
    PredefinedSplit,
    StratifiedGroupKFold,
    StratifiedKFold,
    cross_val_predict,
)
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from serving.command_line import console, run_command
from serving.errors import DataError, UsageError
from serving.log_mel import LogMelConfig
from serving.progress import track
from training.data.clips import ClipTable, load_clips
from training.data.frame_cache import load_frames
from training.evaluation.controls import clip_statistics, ridge_classifier
from training.networks import WINDOW_FRAMES

CLASSIFIERS: dict[str, Callable[[], Pipeline]] = {
    "ridge": ridge_classifier,
    "nearest neighbour": lambda: make_pipeline(StandardScaler(), KNeighborsClassifier(1)),
}


@dataclass(frozen=True)
class LeakOptions:
    """Compare splits over clips with splits over source recordings, by cross-validation without a network."""

    dataset: str = "ESC-50"
    """ESC-50, ESC-10, FSC22, synthetic or folder"""
    data_dir: Path | None = None
    """the data set's folder; default: data/DATASET"""
    parts: int = 4
    """number of parts of the cross-validation"""
    seeds: int = 20
    """number of repetitions, each with other random parts"""
    cache_dir: Path = Path("cache")
    """folder for log-mels that runs share"""


@dataclass(frozen=True)
class Leak:
    """One classifier's accuracies over one choice of clips, 0 to 1; means over the seeds, with standard errors.

    clips       "all", or "shared": only clips that share their source recording with others, which a leak can affect
    random      parts of clips at random;  grouped: parts of whole source recordings
    own_folds   with the data set's recording folds, None if it has none: a single split, without an error
    """

    classifier: str
    clips: str
    n_clips: int
    random: float
    random_error: float
    grouped: float
    grouped_error: float
    own_folds: float | None


def measure_leak(table: ClipTable, inputs: NDArray[np.float32], parts: int, seeds: int) -> list[Leak]:
    """Cross-validate every classifier with every kind of parts.

    inputs   [n_clips, size], a row for each of the table's clips
    parts    of a cross-validation, 2 or more;  seeds: number of repetitions, 2 or more
    errors   DataError: no two clips share a source recording, or a class has fewer source recordings than parts
    """
    labels = np.array([clip.label for clip in table.clips])
    names, sources, counts = np.unique([clip.source for clip in table.clips], return_inverse=True, return_counts=True)
    shared = counts[sources] > 1
    if not shared.any():
        raise DataError(f"{table.dataset}: its {len(names)} clips are of as many source recordings; nothing can leak")
    for label in np.unique(labels):
        recordings = len(np.unique(sources[labels == label]))
        if recordings < parts:
            name = table.classes[label]
            raise DataError(f"{table.dataset}: {name} has {recordings} source recordings; wanted --parts {parts}")

    def correct(make: Callable[[], Pipeline], split: BaseCrossValidator) -> NDArray[np.bool_]:
        """Which clips are classified correctly when their part is held out: [n_clips]."""
        groups = sources if isinstance(split, StratifiedGroupKFold) else None
        return np.equal(cross_val_predict(make(), inputs, labels, groups=groups, cv=split), labels)

    rows = []
    for name, make in CLASSIFIERS.items():
        random, grouped = [], []
        for seed in track(range(seeds), name):
            random.append(correct(make, StratifiedKFold(parts, shuffle=True, random_state=seed)))
            grouped.append(correct(make, StratifiedGroupKFold(parts, shuffle=True, random_state=seed)))
        own = None
        if len(table.folds) > 1:
            own = correct(make, PredefinedSplit([clip.fold for clip in table.clips]))
        for kind, chosen in (("all", np.ones_like(shared)), ("shared", shared)):
            rows.append(
                Leak(
                    name,
                    kind,
                    int(chosen.sum()),
                    *_mean_and_error(np.array(random)[:, chosen]),
                    *_mean_and_error(np.array(grouped)[:, chosen]),
                    None if own is None else float(own[chosen].mean()),
                )
            )
    return rows


def _mean_and_error(hits: NDArray[np.bool_]) -> tuple[float, float]:
    """Mean accuracy over the seeds and its standard error, from hits [n_seeds, n_clips]."""
    accuracies = hits.mean(axis=1)
    return float(accuracies.mean()), float(accuracies.std(ddof=1) / np.sqrt(len(accuracies)))


def compare(options: LeakOptions) -> dict[str, Any]:
    """Load the data set, measure, print the table, and return the numbers."""
    for name, value in (("parts", options.parts), ("seeds", options.seeds)):
        if value < 2:
            raise UsageError(f"--{name}: got {value}; wanted 2 or more")
    table = load_clips(options.dataset, options.data_dir or Path("data") / options.dataset)
    front_end = LogMelConfig()
    window = front_end.network_window(WINDOW_FRAMES["yamnet"])  # the statistics are the same with every window
    frames = load_frames(table.clips, front_end, window, options.cache_dir)
    rows = measure_leak(table, clip_statistics(frames), options.parts, options.seeds)
    _report(rows, options)
    recordings = len({clip.source for clip in table.clips})
    return {
        "dataset": table.dataset,
        "clips": len(table.clips),
        "source_recordings": recordings,
        "parts": options.parts,
        "seeds": options.seeds,
        "rows": [asdict(row) for row in rows],
    }


def _report(rows: Sequence[Leak], options: LeakOptions) -> None:
    title = f"{options.parts}-fold accuracy in %, mean of {options.seeds} seeds and its standard error"
    grid = Table(title=title, title_justify="left")
    for column in ("classifier", "clips", "by clip", "by source", "gain", "own folds"):
        grid.add_column(column, justify="left" if column == "classifier" else "right", no_wrap=True)
    for row in rows:
        grid.add_row(
            row.classifier if row.clips == "all" else "",
            f"{row.clips} {row.n_clips}",
            f"{100 * row.random:.1f} ± {100 * row.random_error:.1f}",
            f"{100 * row.grouped:.1f} ± {100 * row.grouped_error:.1f}",
            f"{100 * (row.random - row.grouped):+.1f}",
            f"{100 * row.own_folds:.1f}" if row.own_folds is not None else "",
        )
    console.print(grid)


main = partial(run_command, LeakOptions, compare, "python -m training.evaluation.leak")

if __name__ == "__main__":
    raise SystemExit(main())
