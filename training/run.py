"""Train one network and write a run folder.

    python -m training.run --dataset ESC-10 --data-dir DIR --test-fold 4 --network yamnet-compact --out runs/first

The run folder holds weights.safetensors (best epoch), last.safetensors (for --resume), config.json, metrics.jsonl,
zeroshot.npz (the map to class vectors), summary.json and curves.png.
"""

import json
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from serving.bundle import refuse_existing, refuse_unwritable
from serving.command_line import progress_console, run_command, say, show
from serving.errors import DataError, UsageError
from training.config import RunConfig
from training.data.clips import ClipTable, load_clips
from training.data.download import download
from training.data.duplicates import shared_files
from training.data.splits import ClipSplit
from training.data.windows import UnreadableError
from training.evaluation.plots import draw_curves, save_figure
from training.fit.checkpoint import save_whole, write_text
from training.fit.clip_embeddings import embed_clips, head_loss_and_accuracy
from training.fit.recipe import Compute, Epoch, best_epoch
from training.fit.workers import Workers, join_workers
from training.learner import Learner
from training.networks import Network, build_network
from training.options import Options, check, choose_machine, configure
from training.pretrained import load_pretrained
from training.recordings import Recordings, load_recordings
from training.run_folder import CONFIG, CURVES, LAST, METRICS, SUMMARY, ZEROSHOT
from training.tensorboard_log import TensorBoardLog
from training.text_encoders import text_encoder
from training.zeroshot_maps import accuracy, text_vectors


def train(options: Options) -> dict[str, Any] | None:
    """Load, train, fit the zero-shot map, and write the run folder.

    returns  its summary; None in the processes that only help the first one
    """
    check(options)
    machine = choose_machine(options)
    with join_workers(machine.device) as workers:
        return _train(options, machine, workers)


def _train(options: Options, machine: Compute, workers: Workers) -> dict[str, Any] | None:
    out = options.out or Path("runs") / f"{options.dataset}-{options.network}-{options.split}"
    if not options.resume and workers.first:
        refuse_existing(out, options.overwrite, CONFIG)
    for folder, flag in ((out, "--out"), (options.cache_dir, "--cache-dir")):
        refuse_unwritable(folder, flag)  # before hours of work, not after
    started = time.perf_counter()
    with workers.first_alone():
        if options.download:
            download(options.dataset, options.recordings)
    table = load_clips(options.dataset, options.recordings)
    config = configure(options, table)
    if options.resume:
        stored = RunConfig.load(out)
        # Not options: a run keeps the front end and the left-out recordings that it began with.
        config = replace(config, front_end=stored.front_end, skipped=stored.skipped)
        _refuse_other_options(config, stored)
    elif options.init:
        load_pretrained(build_network(config.network), options.init)  # refused before a run is replaced
    begun = options.resume and (out / LAST).is_file()  # else no epoch was finished, and it starts as if anew
    texts = text_vectors(table.classes, text_encoder(config.text))  # a text can be wrong: see it now
    config.clips(table)  # what asks for a split that is not there is refused before recordings are decoded
    partly: list[str] = []
    with workers.first_alone():
        config, recordings = _load_readable(options, config, table, partly.append)
    clips = config.clips(table)
    shared = shared_files({"train": clips.train, "validation": clips.validation, "test": clips.test})
    doubles = sum(len(found.pairs) for found in shared)
    if workers.first:
        for line in partly:
            say(line)
        if config.skipped:
            say(f"left out, because they cannot be read: {', '.join(config.skipped)}")
        if lacking := config.split.warning():
            say(lacking)
        for found in shared:
            say(found.line())
        _describe(options, config, clips, machine, workers)
        if not options.resume:
            _make_run_folder(out)
            config.save(out)
    workers.wait()
    learner = Learner(recordings, texts, machine, options.cache_dir, workers, options.init)
    board = TensorBoardLog(out, _epochs_done(out) if begun else None) if workers.first else None
    with _progress(workers) as progress:
        network, history = learner.learn(config, clips, out, begun, **_bars(progress, options.network, config, board))
    if not board:
        return None
    best = best_epoch(history, config.recipe)
    assert best is not None
    curves = draw_curves(history, best.epoch)
    save_figure(curves, out / CURVES)
    board.figure("curves", curves, best.epoch)
    summary: dict[str, Any] = {
        "validation_accuracy": best.validation_accuracy,
        "validation_loss": best.validation_loss,
        "epochs": len(history),
        "best_epoch": best.epoch,
        "seconds": round(time.perf_counter() - started, 1),
        "seconds_an_epoch": round(float(np.median([done.seconds for done in history])), 2),
        "samples_per_second": round(float(np.median([done.samples_per_second for done in history])), 1),
        "out": str(out),
    }
    summary |= _judge(learner, config, clips, network, out)
    summary |= {"duplicates": doubles, "skipped": len(config.skipped), "read_in_part": len(partly)}
    board.close()
    write_text(out / SUMMARY, json.dumps(summary, indent=1) + "\n")
    _report(summary)
    return summary


def _load_readable(
    options: Options, config: RunConfig, table: ClipTable, warn: Callable[[str], None]
) -> tuple[RunConfig, Recordings]:
    """The recordings; with --skip-unreadable those that can be read, and the configuration that says which not.

    errors   UnreadableError: some cannot be read; DataError: none of a class can
    """
    try:
        return config, load_recordings(config, config.without_skipped(table), options.cache_dir, warn)
    except UnreadableError as error:
        if not options.skip_unreadable or options.resume:
            raise
        root = options.recordings
        skipped = [path.relative_to(root).as_posix() for path in error.reasons]
    config = replace(config, skipped=skipped)
    left = config.without_skipped(table)
    lost = set(range(len(table.classes))) - {clip.label for clip in left.clips}
    if lost:
        raise DataError(f"{root}: no recording of the class {table.classes[min(lost)]} can be read; mend them")
    return config, load_recordings(config, left, options.cache_dir, warn)


def _judge(learner: Learner, config: RunConfig, clips: ClipSplit, network: Network, out: Path) -> dict[str, Any]:
    """Fit and write the zero-shot map, and score head and map on the clips that were kept back."""
    table = learner.recordings.table
    seen = np.isin(table.classes, config.split.seen)
    sets = {
        part: (learner.recordings.clip_set(some, config.split.seen), learner.recordings.clip_set(some, table.classes))
        for part, some in (("train", clips.train), ("validation", clips.validation), ("test", clips.test))
        if some
    }
    embedded = {
        part: (embed_clips(network, among_seen, learner.compute.device).numpy(), among_all.labels)
        for part, (among_seen, among_all) in sets.items()
    }
    zeroshot = learner.zeroshot(config, network, embedded["train"], embedded.get("validation"))
    zeroshot = replace(zeroshot, text_mean=learner.texts[seen].mean(axis=0))  # for labels typed later
    save_whole(out / ZEROSHOT, zeroshot.save)
    scores: dict[str, Any] = {}
    if "validation" in embedded:
        scores["zeroshot_map_validation_accuracy"] = accuracy(zeroshot, *embedded["validation"])
    if "test" in embedded:
        rows = torch.from_numpy(embedded["test"][0])
        head = head_loss_and_accuracy(network, rows, sets["test"][0].labels, learner.compute.device)
        scores["test_accuracy"] = head[1]
        scores["zeroshot_map_test_accuracy"] = accuracy(zeroshot, *embedded["test"])
    return scores


def _epochs_done(out: Path) -> int:
    return len((out / METRICS).read_text().splitlines()) if (out / METRICS).is_file() else 0


def _refuse_other_options(wanted: RunConfig, stored: RunConfig) -> None:
    for name in RunConfig.__dataclass_fields__:
        now, then = getattr(wanted, name), getattr(stored, name)
        if now != then:
            raise UsageError(f"--resume: {name} is {now}, but the run began with {then}; give the same options")


def _make_run_folder(out: Path) -> None:
    try:
        if out.exists():
            shutil.rmtree(out)
        out.mkdir(parents=True)
    except OSError as error:
        raise UsageError(f"{out}: cannot be written ({error.strerror}); give another --out") from error


def _progress(workers: Workers) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("epoch {task.completed:.1f}/{task.total:.0f}"),
        TextColumn("{task.fields[numbers]}"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=progress_console,
        disable=not workers.first,
    )


def _bars(progress: Progress, name: str, config: RunConfig, board: TensorBoardLog | None) -> dict[str, Any]:
    """The callbacks that Learner.learn takes, drawing on two bars, and on the board where there is one."""
    pretraining = progress.add_task("vocabulary", total=config.vocabulary_epochs, numbers="", visible=False)
    bar = progress.add_task(name, total=config.recipe.epochs, numbers="")

    def on_epoch(done: Epoch) -> None:
        numbers = f"loss {done.train_loss:.3f}"
        if done.validation_loss is not None and done.validation_accuracy is not None:
            numbers += f", validation {done.validation_loss:.3f}, accuracy {done.validation_accuracy:.1%}"
        progress.update(bar, completed=done.epoch, numbers=numbers)
        if board:
            board.epoch(done)

    return {
        "on_step": lambda epoch, share: progress.update(bar, completed=epoch - 1 + share),
        "on_epoch": on_epoch,
        "on_pretraining": lambda epoch, share: progress.update(pretraining, completed=epoch - 1 + share, visible=True),
        "say": say if board else lambda line: None,
    }


def _describe(options: Options, config: RunConfig, clips: ClipSplit, machine: Compute, workers: Workers) -> None:
    precision = str(machine.dtype).removeprefix("torch.")
    shared = f", {workers.count} processes" if workers.count > 1 else ""
    say(
        f"{options.dataset}: {len(config.split.seen)} of {len(config.classes)} classes; {len(clips.train)} clips to "
        f"train, {len(clips.validation)} to validate, {len(clips.test)} to test; {options.network}, objective "
        f"{config.objective}, on {machine.device} in {precision}{shared}"
    )


def _report(summary: dict[str, Any]) -> None:
    grid = Table()
    grid.add_column("what")
    grid.add_column("value", justify="right")
    for name, value in summary.items():
        if name != "out" and value is not None:
            shown = f"{value:.1%}" if name.endswith("accuracy") else f"{value:g}"
            grid.add_row(name.replace("_", " "), shown)
    show(grid, f"run {summary['out']}")


def main(argv: Sequence[str] | None = None) -> int:
    """The command."""
    return run_command(Options, train, "python -m training.run", argv)


if __name__ == "__main__":
    raise SystemExit(main())
