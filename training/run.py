"""Train one network and write a run folder.

    python -m training.run --dataset ESC-10 --data-dir DIR --test-fold 4 --network yamnet-compact --out runs/first

The run folder holds weights.safetensors (best epoch), last.safetensors (for --resume), config.json, metrics.jsonl,
zeroshot.npz (the map to class vectors), summary.json and, of two epochs or more, curves.png.
"""

import json
import shutil
import time
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.table import Table

from serving.command_line import run_command, say, show
from serving.errors import UsageError
from serving.files.held_folder import held_alone
from serving.files.new_folder import refuse_existing, refuse_unwritable
from serving.zeroshot.zeroshot_file import write_zeroshot
from training.compute import Compute, choose_compute
from training.data.splits import ClipSplit
from training.evaluation.plots import draw_curves, save_figure
from training.fit.checkpoint import save_whole, write_text
from training.fit.clip_embeddings import embed_clips, head_loss_and_accuracy
from training.fit.recipe import Epoch, best_epoch
from training.fit.workers import Workers, join_workers
from training.learner import Learner
from training.map_fit import fit_map
from training.networks import Network
from training.option_checks import check
from training.options import Options
from training.run_folder import (
    CALIBRATION,
    CONFIG,
    CURVES,
    EVALUATION,
    LAST,
    METRICS,
    SUMMARY,
    WEIGHTS,
    ZEROSHOT,
    RunConfig,
)
from training.run_input import RunInput, load_run_input
from training.run_progress import TensorBoardLog, epoch_progress, progress_listener
from training.zeroshot_maps import accuracy


def train(options: Options) -> dict[str, Any] | None:
    """Load, train, fit the zero-shot map, and write the run folder.

    returns  its summary; None in the processes that only help the first one
    """
    check(options)
    compute = choose_compute(options)
    with join_workers(compute.device) as workers, ExitStack() as held, compute.advice():
        return _train(options, compute, workers, held)


def _train(options: Options, compute: Compute, workers: Workers, held: ExitStack) -> dict[str, Any] | None:
    """As `train`. The run folder is held as long as `held` is open."""
    out = options.out or Path("runs") / f"{options.dataset}-{options.network}-{options.split}"
    if out.is_symlink():
        out = out.resolve()  # --overwrite replaces the folder that a link leads to, not the link
    if workers.first and out.is_dir():
        held.enter_context(held_alone(out, "--out"))
    if not options.resume and workers.first:
        _refuse_unfinished(out, options.overwrite)
        refuse_existing(out, options.overwrite, CONFIG)
    for folder, flag in ((out, "--out"), (options.cache_dir, "--cache-dir")):
        refuse_unwritable(folder, flag)  # before hours of work instead of after them
    started = time.perf_counter()
    loaded = load_run_input(options, out, workers)
    config = loaded.config
    if workers.first:
        for line in loaded.warnings:
            say(line)
    finished = _finished(out) if options.resume else None
    if finished:  # nothing is written: what training.calibrate put there stays
        if not workers.first:
            return None
        say(f"{out}: finished already; nothing was trained")
        return _tell(finished, out)
    if workers.first:
        say(_describe(config, loaded.clips, compute, workers))
        if not options.resume:
            _make_run_folder(out, options.overwrite)
            held.enter_context(held_alone(out, "--out"))
            config.save(out)
    workers.wait()
    attributes = config.attribute_matrix()
    learner = Learner(loaded.recordings, loaded.texts, compute, options.cache_dir, workers, options.init, attributes)
    board = TensorBoardLog(out, _count_epochs(out) if (out / LAST).is_file() else None) if workers.first else None
    with epoch_progress(visible=workers.first) as progress:
        listener = progress_listener(progress, config, board)
        network, history = learner.learn(config, loaded.clips, out, options.resume, listener)
    if not board:
        return None
    summary = _write_results(loaded, learner, network, history, out, board, started)
    board.close()
    return _tell(summary, out)


def _finished(out: Path) -> dict[str, Any] | None:
    """The summary of a run that has ended; None: it has not, or a file that it ends with is missing or damaged."""
    if not all((out / name).is_file() for name in (WEIGHTS, ZEROSHOT)):
        return None
    try:
        summary = json.loads((out / SUMMARY).read_text())
    except (OSError, ValueError, RecursionError):
        return None
    return summary | {"out": str(out)} if isinstance(summary, dict) else None


def _refuse_unfinished(out: Path, overwrite: bool) -> None:
    """UsageError: the folder holds a run that was interrupted after an epoch, and would be left as it is."""
    if not overwrite and (out / LAST).is_file() and not (out / SUMMARY).exists():
        raise UsageError(
            f"{out}: holds an interrupted run; add --resume to continue it, give another --out, or --overwrite to "
            "replace it"
        )


def _write_results(
    loaded: RunInput,
    learner: Learner,
    network: Network,
    history: list[Epoch],
    out: Path,
    board: TensorBoardLog,
    started: float,
) -> dict[str, Any]:
    """Write the curves, the zero-shot map and the summary, and return the summary. started: as time.perf_counter."""
    best = best_epoch(history, loaded.config.recipe)
    assert best is not None
    if len(history) > 1:  # a fit in closed form counts as one epoch, of which there is nothing to draw
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
    summary |= _fit_and_score_map(learner, loaded.config, loaded.clips, network, out)
    summary |= {"duplicates": loaded.duplicates, "skipped": len(loaded.config.skipped)}
    summary |= {"read_in_part": loaded.read_in_part}
    write_text(out / SUMMARY, json.dumps(summary, indent=1) + "\n")
    return summary


def _fit_and_score_map(
    learner: Learner, config: RunConfig, clips: ClipSplit, network: Network, out: Path
) -> dict[str, Any]:
    """Fit and write the zero-shot map, and score the head and the map on the validation and the test clips."""
    table = learner.recordings.table
    seen = np.isin(table.classes, config.split.seen)
    parts = {"train": clips.train, "validation": clips.validation, "test": clips.test}
    sets = {
        name: (learner.recordings.clip_set(part, config.split.seen), learner.recordings.clip_set(part, table.classes))
        for name, part in parts.items()
        if part
    }
    embedded = {
        name: (embed_clips(network, among_seen, learner.compute.device).numpy(), among_all.labels)
        for name, (among_seen, among_all) in sets.items()
    }
    zeroshot = fit_map(learner, config, network, embedded["train"], embedded.get("validation"))
    zeroshot = replace(zeroshot, text_mean=learner.texts[seen].mean(axis=0))  # centres the vectors of typed labels
    (out / EVALUATION / CALIBRATION).unlink(missing_ok=True)  # of the map before
    save_whole(out / ZEROSHOT, partial(write_zeroshot, zeroshot))
    scores: dict[str, Any] = {}
    if "validation" in embedded:
        scores["zeroshot_map_validation_accuracy"] = accuracy(zeroshot, *embedded["validation"])
    if "test" in embedded:
        rows = torch.from_numpy(embedded["test"][0])
        head = head_loss_and_accuracy(network, rows, sets["test"][0].labels, learner.compute.device)
        scores["test_accuracy"] = head[1]
        scores["zeroshot_map_test_accuracy"] = accuracy(zeroshot, *embedded["test"])
    return scores


def _count_epochs(out: Path) -> int:
    return len((out / METRICS).read_text().splitlines()) if (out / METRICS).is_file() else 0


def _make_run_folder(out: Path, overwrite: bool) -> None:
    try:
        if overwrite and out.exists():
            shutil.rmtree(out)
        out.mkdir(parents=True)
    except FileExistsError as error:  # since this training began
        raise UsageError(f"{out}: another training has begun there; give another --out") from error
    except OSError as error:
        raise UsageError(f"{out}: cannot be written ({error.strerror or error}); give another --out") from error


def _describe(config: RunConfig, clips: ClipSplit, compute: Compute, workers: Workers) -> str:
    """The data set, the network and the hardware of a run in one line."""
    precision = str(compute.dtype).removeprefix("torch.")
    processes = f", {workers.count} processes" if workers.count > 1 else ""
    return (
        f"{config.dataset}: {len(config.split.seen)} of {len(config.classes)} classes; {len(clips.train)} clips to "
        f"train, {len(clips.validation)} to validate, {len(clips.test)} to test; {config.network.name}, objective "
        f"{config.objective}, on {compute.device} in {precision}{processes}"
    )


def _tell(summary: dict[str, Any], out: Path) -> dict[str, Any]:
    """Print the summary as a table and the next commands. Returns the summary."""
    grid = Table()
    grid.add_column("what")
    grid.add_column("value", justify="right")
    for name, value in summary.items():
        if name != "out" and value is not None:
            shown = f"{value:.1%}" if name.endswith("accuracy") else f"{value:g}"
            grid.add_row(name.replace("_", " "), shown)
    show(grid, f"run {out}")
    if (out / CURVES).is_file():
        say(f"curves: {out / CURVES}")
    say(f"next: python -m training.evaluate {out}    (scores, confusion matrix, map of the embeddings)")
    say(f"      python -m export.onnx {out} --out bundles/{out.name}    (a bundle to serve, label and show)")
    return summary


main = partial(run_command, Options, train, "python -m training.run")

if __name__ == "__main__":
    raise SystemExit(main())
