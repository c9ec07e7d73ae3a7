"""Score a run: its seen and unseen classes (ZSL, GZSL) and its embeddings; or its recipe over many trainings.

    python -m training.evaluate runs/NAME                                       this network
    python -m training.evaluate runs/NAME --folds --seeds 0,1,2                 its recipe over the recording folds
    python -m training.evaluate runs/NAME --holdouts 20 --seeds 0,1             its recipe over class hold-outs

Writes report.json, report.md and figures into RUN/evaluation. The scores of repeated trainings are stored there one by
one, so that an interrupted command continues when it is run again: the training that it was at begins anew. Commands
with other seeds can run at the same time; the report has every seed whose scores are complete.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import tyro
from rich.table import Table

from serving.command_line import console, run_command, say
from serving.errors import UsageError
from serving.progress import track
from training.compute import ComputeOptions, choose_compute
from training.data.clips import ClipTable
from training.data.content_hash import content_hash
from training.data.file_lock import folder_lock
from training.data.fingerprint import fingerprint
from training.evaluation.assessment import Assessment, assess
from training.evaluation.folds import Folds
from training.evaluation.holdouts import Holdouts, check_holdouts, draw_holdouts
from training.evaluation.plots import draw_zero_shot, save_figure
from training.evaluation.score_report import (
    ONE_CLASS,
    fold_table,
    holdout_table,
    markdown,
    mean_and_error,
    recipe_scores,
    without_single_class,
)
from training.fit.checkpoint import write_text
from training.learner import Learner
from training.opened_run import learner_of_run, table_of_run
from training.published.pretrained import published_weights
from training.run_folder import (
    CONFUSION,
    EMBEDDING_MAP,
    REPORT,
    REPORT_PAGE,
    TRADEOFF,
    ZERO_SHOT_BARS,
    RunConfig,
    evaluation_folder,
    load_network,
    next_export,
    refuse_unfinished,
)


@dataclass(frozen=True, kw_only=True)
class EvaluateOptions(ComputeOptions):
    """Score a run, or its recipe over recording folds or class hold-outs."""

    run: Annotated[Path, tyro.conf.Positional]
    """the run folder"""
    data_dir: Path | None = None
    """folder of the recordings; default: the one that the run used"""
    folds: bool = False
    """train with the run's recipe once for each recording fold, and test on it; FSC22 and folder have no folds"""
    holdouts: int = 0
    """train with the run's recipe once for each of this many sets of unseen classes; needs recording folds too"""
    unseen_classes: int = 3
    """classes in each of these sets"""
    seeds: str = "0"
    """seeds of the trainings, separated by commas"""
    holdout_seed: int = 0
    """random seed of the sets of unseen classes"""
    init: Path | None = None
    """with --folds or --holdouts: the published weights that the run started from, if it did"""
    cache_dir: Path = Path("cache")
    """folder for log-mels and pretrained weights that runs share"""


def evaluate(options: EvaluateOptions) -> dict[str, Any]:
    """Score, write the report, and return its numbers."""
    config, seeds, compute = RunConfig.load(options.run), _seeds(options.seeds), choose_compute(options)
    if options.holdouts < 0:
        raise UsageError(f"holdouts: got {options.holdouts}; wanted a number of sets of unseen classes, or 0")
    if options.holdout_seed < 0:
        raise UsageError(f"holdout seed: got {options.holdout_seed}; wanted 0 or more")
    if not (options.folds or options.holdouts):
        refuse_unfinished(options.run)
    out = evaluation_folder(options.run)
    init = _published_weights(options, config)
    table = table_of_run(config, options.data_dir)
    _check_repeats(options, table)
    learner = learner_of_run(config, table, compute, options.cache_dir, init)
    folds = _folds(learner, config, seeds, out) if options.folds else None
    holdouts = _holdouts(learner, config, options, seeds, out) if options.holdouts else None
    assessment = None if folds or holdouts else _this_run(learner, config, options.run, out)
    with folder_lock(out):  # evaluations of other seeds may end at the same time
        report = _stored(out)
        if folds:
            report["folds"] = _report_folds(folds)
        if holdouts:
            report["holdouts"] = _report_holdouts(holdouts, out)
        if assessment:
            report["run"] = asdict(assessment)
        write_text(out / REPORT, json.dumps(report, indent=1) + "\n")
        figures = [name for name in (CONFUSION, EMBEDDING_MAP, TRADEOFF) if (out / name).is_file()]
        write_text(out / REPORT_PAGE, markdown(report, config, figures))
    say(f"report: {out / REPORT_PAGE}")
    say(next_export(options.run))
    return _line(report, out)


def _published_weights(options: EvaluateOptions, config: RunConfig) -> Path | None:
    """The published weights that the trainings start from. UsageError: the run started from others."""
    return published_weights(options.init, config.init) if options.folds or options.holdouts else None


def _check_repeats(options: EvaluateOptions, table: ClipTable) -> None:
    """UsageError: --folds or --holdouts, which take hours, ask for what the data set does not have."""
    if not (options.folds or options.holdouts):
        return
    if not table.folds:
        raise UsageError(
            f"--{'folds' if options.folds else 'holdouts'}: {table.dataset} has no recording folds to hold clips out; "
            "leave it out, and train with training.run --unseen A,B for scores of unseen classes"
        )
    if options.holdouts:
        check_holdouts(len(table.classes), options.holdouts, options.unseen_classes)


def _stored(out: Path) -> dict[str, Any]:
    """The stored report, whose other parts are kept; {} if it is missing or damaged."""
    try:
        stored = json.loads((out / REPORT).read_text())
        recipe_scores(stored)
    except (OSError, ValueError, RecursionError, KeyError, TypeError):
        return {}
    return stored if isinstance(stored, dict) else {}


def _seeds(text: str) -> list[int]:
    try:
        seeds = [int(part) for part in text.split(",")]
    except ValueError as error:
        raise UsageError(f"seeds: got {text}; wanted whole numbers separated by commas: 0,1,2") from error
    if len(set(seeds)) < len(seeds) or min(seeds) < 0 or max(seeds) >= 2**32:
        raise UsageError(f"seeds: got {text}; wanted different numbers from 0 to 4294967295")
    return seeds


def _this_run(learner: Learner, config: RunConfig, run: Path, out: Path) -> Assessment:
    network = load_network(run, config).to(learner.compute.device)
    assessment = assess(learner, config, network, run, out)
    console.print(f"{run}: {config.network.name}, objective {config.objective}", soft_wrap=True)
    table = Table()
    table.add_column("what")
    table.add_column("value", justify="right")
    for name, value in without_single_class(asdict(assessment)).items():
        if isinstance(value, float):
            table.add_row(name.replace("_", " "), f"{value:.3f}")
        elif value == ONE_CLASS:
            table.add_row(name, ONE_CLASS)
    console.print(table)
    return assessment


def _folds(learner: Learner, config: RunConfig, seeds: Sequence[int], out: Path) -> Folds:
    """Train for each recording fold and seed."""
    folds = Folds(learner, config, out / f"folds-{_key(learner, config, {})}")
    for job in track([(fold, seed) for seed in seeds for fold in folds.numbers], "folds"):
        folds.run(*job)
    return folds


def _report_folds(folds: Folds) -> list[dict[str, Any]]:
    scores = folds.finished()
    console.print(fold_table(scores))
    return [asdict(score) for score in scores]


def _holdouts(
    learner: Learner, config: RunConfig, options: EvaluateOptions, seeds: Sequence[int], out: Path
) -> Holdouts:
    """Train for each set of unseen classes and seed."""
    classes = learner.recordings.table.classes
    sets = draw_holdouts(classes, options.holdouts, options.unseen_classes, options.holdout_seed)
    drawn = {"unseen_classes": options.unseen_classes, "holdout_seed": options.holdout_seed}
    holdouts = Holdouts(learner, config, sets, out / f"holdouts-{_key(learner, config, drawn)}")
    for job in track([(number, seed) for seed in seeds for number in range(len(sets))], "hold-outs"):
        holdouts.run(*job)
    return holdouts


def _report_holdouts(holdouts: Holdouts, out: Path) -> list[dict[str, Any]]:
    lines = holdouts.finished()
    console.print(holdout_table(lines))
    methods = list(dict.fromkeys(line.method for line in lines))
    scores = {method: mean_and_error(lines, method, "zsl") for method in methods}
    figure = draw_zero_shot(scores, 1 / len(holdouts.sets[0]), controls=methods[1:])
    save_figure(figure, out / ZERO_SHOT_BARS)
    return [asdict(line) for line in lines]


def _key(learner: Learner, config: RunConfig, drawn: dict[str, int]) -> str:
    """A hash that names the folder of stored scores, of everything that changes them.

    That is the recipe without its split, test fold, seed and data folder; the recordings; and how it is computed.
    drawn   how sets of unseen classes are drawn
    """
    neutral = replace(config, split=replace(config.split, name="", seen=()), test_fold=None, seed=0, data_dir="")
    facts = asdict(neutral)
    del facts["split"]["missing"], facts["clip_digest"]  # belong to the run's own split
    clips, compute = learner.recordings.table.clips, learner.compute
    facts["clips"] = [(content_hash(clip.path), clip.label, clip.source, clip.fold) for clip in clips]
    facts["compute"] = (compute.device.type, str(compute.dtype), compute.compile)
    return fingerprint(facts | drawn)


def _line(report: dict[str, Any], out: Path) -> dict[str, Any]:
    line: dict[str, Any] = {"out": str(out)}
    if "run" in report:
        line |= {name: value for name, value in report["run"].items() if isinstance(value, float)}
        if report["run"]["zsl_chance"] == 1:
            line["zsl"] = None  # one unseen class: not measurable
    return line | recipe_scores(report)


main = partial(run_command, EvaluateOptions, evaluate, "python -m training.evaluate")


if __name__ == "__main__":
    raise SystemExit(main())
