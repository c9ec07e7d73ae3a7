"""Measure how well unseen classes of ESC-50 are recognised after a few examples, and whether a review saves labels.

    python -m benchmarks.few_shot bundles/fold04 bundles/fold14 --test-folds 1 2 --data-dir ESC-50 --plot few-shot.png

Each bundle was trained without some classes and without one recording fold, whose clips are the test. Examples are
drawn from the other folds. All methods get the same examples, and no network is trained.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro
from numpy.typing import NDArray
from rich.table import Table

from benchmarks.few_shot.clips import Clips, load_clips
from benchmarks.few_shot.curves import (
    Values,
    accuracy_curves,
    among_all_classes,
    harmonic,
    mean_and_error,
)
from benchmarks.few_shot.methods import BOTH, DESCRIPTION, EXAMPLES
from benchmarks.few_shot.plot import draw_curves
from benchmarks.few_shot.problem import Problem, make_problem
from benchmarks.few_shot.review_curves import RANDOM, REVIEW, review_curves
from benchmarks.few_shot.sureness import sureness
from benchmarks.inputs import check_range, check_values
from serving.command_line import run_command, say, show
from serving.embedder import Embedder
from serving.errors import UsageError
from serving.files.new_folder import make_folder_of
from serving.teaching.lesson import Descriptions, with_classes
from serving.zeroshot import ZeroShot


@dataclass(frozen=True)
class Options:
    """Measure accuracy on unseen classes of ESC-50 by the number of examples, and by the choice of the examples."""

    bundles: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """bundles of runs that were trained with --split and --test-fold"""
    data_dir: Path
    """folder of ESC-50, or of a part of it"""
    test_folds: tuple[int, ...]
    """the --test-fold of each bundle's run, in the same order"""
    counts: tuple[int, ...] = (0, 1, 2, 4, 8, 16)
    """numbers of examples of each class"""
    draws: int = 20
    """how often the examples are drawn"""
    threshold: float = 0.26
    """least similarity of a sound and its label: that of the project's own bundle"""
    review_rounds: int = 8
    """rounds of labelling; in each, as many sounds are labelled as there are classes"""
    plot: Path | None = None
    """PNG file to write"""
    backend: str = "auto"
    """auto, onnxruntime, openvino or tensorrt"""


def measure(options: Options) -> dict[str, Any]:
    """Embed the clips, draw the curves, and return the result that is printed as JSON."""
    if len(options.test_folds) != len(options.bundles):
        raise UsageError(
            f"--test-folds: got {len(options.test_folds)} for {len(options.bundles)} bundles; give one for each"
        )
    check_values("--test-folds", options.test_folds, 1, 5)
    check_values("--counts", options.counts, 0, 10_000)
    check_range("--draws", options.draws, 1, 10_000)
    check_range("--threshold", options.threshold, -1, 1)
    check_range("--review-rounds", options.review_rounds, 0, 10_000)
    if options.plot is not None:
        if options.plot.is_dir():
            raise UsageError(f"--plot: {options.plot} is a folder; give the path of a PNG file")
        make_folder_of(options.plot, "--plot")  # before the work instead of after it
    problems = load_problems(options)
    curves = accuracy_curves(problems, options.counts, options.draws)
    sure = sureness(problems, options.counts, options.draws, options.threshold)
    everything = among_all_classes(problems, options.counts, options.draws)
    reviews = review_curves(problems, options.review_rounds, options.draws)
    with_others = review_curves(problems, options.review_rounds, options.draws, others=True)
    result = {
        "bundles": [str(bundle) for bundle in options.bundles],
        "classes": [problem.prior.class_names for problem in problems],
        "counts": list(options.counts),
        "draws": options.draws,
        "accuracy": {name: _summary(values) for name, values in curves.items()},
        "below_the_better_one": _below(curves),
        "sureness": {name: _summary(values) for name, values in sure.items()},
        "among_all_classes": {
            rule: {
                "seen": _summary(values[..., 0]),
                "taught": _summary(values[..., 1]),
                "harmonic_mean": _summary(harmonic(values)),
            }
            for rule, values in everything.items()
        },
        "review": {name: _summary(values) for name, values in reviews.items()},
        "review_less_random": _summary(reviews[REVIEW] - reviews[RANDOM]),
        "review_with_others": {name: _summary(values) for name, values in with_others.items()},
        "review_less_random_with_others": _summary(with_others[REVIEW] - with_others[RANDOM]),
    }
    _show(result)
    if options.plot is not None:
        draw_curves(options.plot, result, len(problems[0].prior.class_names))
    return result


def load_problems(options: Options) -> list[Problem]:
    """The problem of each bundle. The statistics are computed once for all bundles of one front end."""
    statistics: dict[str, NDArray[np.float32]] = {}
    problems = []
    for bundle, test_fold in zip(options.bundles, options.test_folds, strict=True):
        embedder = Embedder.load(bundle, options.backend)
        say(f"{bundle}: embedding the clips")
        front_end = str(embedder.manifest.front_end)
        clips = load_clips(embedder, options.data_dir, statistics.get(front_end))
        statistics[front_end] = clips.statistics
        problems.append(make_problem(_whole_map(embedder, clips), clips, test_fold, max(options.counts)))
    return problems


def _whole_map(embedder: Embedder, clips: Clips) -> ZeroShot:
    """The bundle's map, with the data set's classes that it lacks if it understands text: they are unseen."""
    missing = [name for name in dict.fromkeys(clips.classes.tolist()) if not embedder.zeroshot.has(name)]
    if not missing or not embedder.labels.knows_text:
        return embedder.zeroshot
    return with_classes(embedder, Descriptions(missing), missing)


def _summary(values: Values) -> list[dict[str, float] | None]:
    """Mean and standard error of each column of [draws, n]; None: it has none."""
    columns = [None if np.isnan(column).any() else mean_and_error(column) for column in values.T]
    return [
        None if each is None else {"mean": round(each[0], 4), "standard_error": round(each[1], 4)} for each in columns
    ]


def _below(curves: Mapping[str, Values]) -> list[dict[str, float] | None]:
    """Description and examples less the better of the two alone, with the standard error of the paired difference."""
    alone = {name: curves[name] for name in (EXAMPLES, DESCRIPTION)}
    better = [
        max(alone, key=lambda name: np.nan_to_num(alone[name][:, i]).mean()) for i in range(curves[BOTH].shape[1])
    ]
    return _summary(np.stack([curves[BOTH][:, i] - alone[name][:, i] for i, name in enumerate(better)], axis=1))


def _show(result: Mapping[str, Any]) -> None:
    counts = [str(count) for count in result["counts"]]
    table = Table("method", *counts)
    for name, values in result["accuracy"].items():
        table.add_row(name, *_cells(values))
    table.add_row("description and examples less the better alone", *_cells(result["below_the_better_one"]))
    show(table, "accuracy (%) on unseen classes by the number of examples of each class")
    sure = Table("of the test clips", *counts)
    for name, values in result["sureness"].items():
        sure.add_row(name, *_cells(values))
    show(sure, "calibration error (%) of the answers, and clips (%) that are none of three labels or are not")
    everything = Table("offset of taught classes", "classes", *counts)
    for rule, kinds in result["among_all_classes"].items():
        for kind, values in kinds.items():
            everything.add_row(rule, kind.replace("_", " "), *_cells(values))
    show(everything, "accuracy (%) among all classes of the bundle")
    for suffix, pool in (("", "of these classes"), ("_with_others", "of these and other classes")):
        difference = result[f"review_less_random{suffix}"]
        review = Table("choice", *map(str, range(len(difference))))
        for name, values in (*result[f"review{suffix}"].items(), (f"{REVIEW} less {RANDOM}", difference)):
            review.add_row(name, *_cells(values))
        show(review, f"accuracy (%) after rounds of labelling sounds {pool}, in each as many as there are classes")


def _cells(values: Sequence[Mapping[str, float] | None]) -> list[str]:
    return ["" if each is None else f"{100 * each['mean']:.1f} ± {100 * each['standard_error']:.1f}" for each in values]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command. Returns the exit code."""
    return run_command(Options, measure, "python -m benchmarks.few_shot", argv)


if __name__ == "__main__":
    raise SystemExit(main())
