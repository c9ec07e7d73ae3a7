"""Score a run: its seen classes, its unseen ones (ZSL, GZSL), its embeddings; and its recipe over many trainings.

    python -m training.evaluate runs/NAME                                       this network
    python -m training.evaluate runs/NAME --folds --seeds 0,1,2                 its recipe over the recording folds
    python -m training.evaluate runs/NAME --holdouts 20 --seeds 0,1             its recipe over class hold-outs

Writes report.json, report.md and figures into RUN/evaluation. What is trained anew is kept there part by part: the
same command goes on where it was interrupted.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from math import comb
from pathlib import Path
from typing import Annotated, Any

import tyro
from rich.progress import track
from rich.table import Table

from serving.command import console, progress_console, run_command
from serving.errors import DataError, UsageError
from training.assess import Assessment, assess
from training.checkpoint import write_text
from training.config import RunConfig, load_network
from training.data.clips import load_clips
from training.folds import Folds, FoldScore
from training.holdouts import Holdout, Holdouts, draw_holdouts
from training.learn import Learner, fingerprint, load_recordings
from training.options import MachineOptions, choose_machine
from training.plots import draw_zero_shot, save_figure
from training.report import fold_table, holdout_table, markdown, mean_and_error, recipe_scores
from training.text import text_encoder
from training.zeroshot import text_vectors


@dataclass(frozen=True, kw_only=True)
class EvaluateOptions(MachineOptions):
    """Score a run, or its recipe over recording folds or class hold-outs."""

    run: Annotated[Path, tyro.conf.Positional]
    """the run folder"""
    data_dir: Path | None = None
    """the recordings; default: where the run found them"""
    folds: bool = False
    """train the run's recipe anew for each recording fold, and test it there"""
    holdouts: int = 0
    """train the run's recipe anew for this many sets of unseen classes"""
    unseen_classes: int = 3
    """classes in each of these sets"""
    seeds: str = "0"
    """seeds of the trainings, with commas between"""
    holdout_seed: int = 0
    """draws the sets of unseen classes"""
    cache_dir: Path = Path("cache")
    """where log-mels are kept between runs"""


def evaluate(options: EvaluateOptions) -> dict[str, Any]:
    """Score, write the report, and return its numbers."""
    config = RunConfig.load(options.run)
    seeds = _seeds(options.seeds)
    if options.holdouts < 0:
        raise UsageError(f"holdouts: got {options.holdouts}; wanted how many sets of unseen classes, 0 for none")
    if options.holdout_seed < 0:
        raise UsageError(f"holdout seed: got {options.holdout_seed}; wanted a whole number from 0")
    folder = options.data_dir or Path(config.data_dir)
    table = load_clips(config.dataset, folder)
    if list(table.classes) != config.classes:
        raise DataError(f"{folder}: holds other classes than the run was trained with; give its --data-dir")
    table = config.without_skipped(table)
    learner = Learner(
        load_recordings(config, table, options.cache_dir),
        text_vectors(table.classes, text_encoder(config.text)),
        choose_machine(options),
        options.cache_dir,
    )
    out = options.run / "evaluation"
    out.mkdir(exist_ok=True)
    report = _stored(out)
    if options.folds:
        report["folds"] = _folds(learner, config, seeds, out)
    if options.holdouts:
        report["holdouts"] = _holdouts(learner, config, options, seeds, out)
    if not (options.folds or options.holdouts):
        report["run"] = asdict(_this_run(learner, config, options.run, out))
    write_text(out / "report.json", json.dumps(report, indent=1) + "\n")
    figures = [name for name in ("confusion", "map", "tradeoff") if (out / f"{name}.png").is_file()]
    write_text(out / "report.md", markdown(report, config, figures))
    return _line(report, out)


def _stored(out: Path) -> dict[str, Any]:
    try:
        stored = json.loads((out / "report.json").read_text())
    except (OSError, ValueError, RecursionError):
        return {}
    return stored if isinstance(stored, dict) else {}


def _seeds(text: str) -> list[int]:
    try:
        seeds = [int(part) for part in text.split(",")]
    except ValueError as error:
        raise UsageError(f"seeds: got {text}; wanted whole numbers with commas between: 0,1,2") from error
    if len(set(seeds)) < len(seeds) or min(seeds) < 0 or max(seeds) >= 2**32:
        raise UsageError(f"seeds: got {text}; wanted different numbers from 0 to 4294967295")
    return seeds


def _this_run(learner: Learner, config: RunConfig, run: Path, out: Path) -> Assessment:
    network = load_network(run, config).to(learner.machine.device)
    assessment = assess(learner, config, network, run, out)
    console.print(f"{run}: {config.network.name}, objective {config.objective}", soft_wrap=True)
    table = Table()
    table.add_column("what")
    table.add_column("value", justify="right")
    for name, value in asdict(assessment).items():
        if isinstance(value, float):
            table.add_row(name.replace("_", " "), f"{value:.3f}")
    console.print(table)
    return assessment


def _folds(learner: Learner, config: RunConfig, seeds: Sequence[int], out: Path) -> list[dict[str, Any]]:
    numbers = learner.recordings.table.folds
    if not numbers:
        raise UsageError(f"folds: {config.dataset} has no recording folds; use --holdouts")
    folds = Folds(learner, config, out / f"folds-{_key(config)}")
    jobs = [(fold, seed) for seed in seeds for fold in numbers]
    scores: list[FoldScore] = [
        folds.run(*job) for job in track(jobs, "folds", console=progress_console, transient=True)
    ]
    console.print(fold_table(scores))
    return [asdict(score) for score in scores]


def _holdouts(
    learner: Learner, config: RunConfig, options: EvaluateOptions, seeds: Sequence[int], out: Path
) -> list[dict[str, Any]]:
    classes = learner.recordings.table.classes
    if not 2 <= options.unseen_classes <= len(classes) - 4:
        raise UsageError(
            f"unseen classes: got {options.unseen_classes} of {len(classes)}; wanted 2 to {len(classes) - 4}"
        )
    if options.holdouts > (most := comb(len(classes), options.unseen_classes)):
        raise UsageError(
            f"holdouts: got {options.holdouts}; {len(classes)} classes have {most} sets of {options.unseen_classes}"
        )
    if not learner.recordings.table.folds:
        raise UsageError(f"holdouts: {config.dataset} has no recording folds to keep seen clips back; use --unseen")
    sets = draw_holdouts(classes, options.holdouts, options.unseen_classes, options.holdout_seed)
    holdouts = Holdouts(learner, config, out / f"holdouts-{_key(config)}")
    jobs = [(number, unseen, seed) for seed in seeds for number, unseen in enumerate(sets)]
    lines: list[Holdout] = []
    for job in track(jobs, "hold-outs", console=progress_console, transient=True):
        lines += holdouts.run(*job)
    console.print(holdout_table(lines))
    methods = list(dict.fromkeys(line.method for line in lines))
    scores = {method: mean_and_error(lines, method, "zsl") for method in methods}
    figure = draw_zero_shot(scores, 1 / options.unseen_classes, controls=methods[1:])
    save_figure(figure, out / "zero-shot.png")
    return [asdict(line) for line in lines]


def _key(config: RunConfig) -> str:
    """Names the folder of finished parts: another recipe has another one."""
    neutral = replace(config, split=replace(config.split, name="", seen=()), test_fold=None, seed=0, data_dir="")
    facts = asdict(neutral)
    if config.map != "eszsl":
        del facts["map"]  # parts finished before there was another map stay valid
    return fingerprint(facts)


def _line(report: dict[str, Any], out: Path) -> dict[str, Any]:
    line: dict[str, Any] = {"out": str(out)}
    if "run" in report:
        line |= {name: value for name, value in report["run"].items() if isinstance(value, float)}
    return line | recipe_scores(report)


def main(argv: Sequence[str] | None = None) -> int:
    """The command."""
    return run_command(EvaluateOptions, evaluate, "python -m training.evaluate", argv)


if __name__ == "__main__":
    raise SystemExit(main())
