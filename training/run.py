"""Train one network and write a run folder.

    python -m training.run --dataset ESC-10 --data-dir DIR --test-fold 4 --network yamnet-compact --out runs/first

The run folder holds weights.safetensors (best epoch), last.safetensors (for --resume), config.json, metrics.jsonl,
zeroshot.npz (the map to class vectors), summary.json and curves.png.
"""

import json
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from serving.bundle import refuse_existing, refuse_unwritable
from serving.command import console, progress_console, run_command, say
from serving.errors import UsageError
from training.checkpoint import WEIGHTS, load_tensors, save_tensors, save_whole, write_text
from training.config import CONFIG, RunConfig
from training.data.clips import Clip, ClipTable, load_clips
from training.data.download import download
from training.data.splits import split_clips
from training.data.windows import load_frames
from training.loop import ClipSet, Epoch, best_epoch, embed_clips, fit, judge_embeddings
from training.networks import Network, build_network
from training.options import Options, check, choose_device, configure
from training.plots import plot_curves
from training.pretrained import load_pretrained
from training.text import text_encoder
from training.zeroshot import accuracy, class_vectors, fit_zeroshot

SUMMARY = "summary.json"
ZEROSHOT = "zeroshot.npz"


def train(options: Options) -> dict[str, Any]:
    """Load, train, fit the zero-shot map, and write the run folder. Returns its summary."""
    check(options)
    device = choose_device(options.device)
    out = options.out or Path("runs") / f"{options.dataset}-{options.network}-{options.split}"
    if not options.resume:
        refuse_existing(out, options.overwrite, CONFIG)
    for folder, flag in ((out, "--out"), (options.cache_dir, "--cache-dir")):
        refuse_unwritable(folder, flag)  # before hours of work, not after
    started = time.perf_counter()
    if options.download:
        download(options.dataset, options.recordings)
    table = load_clips(options.dataset, options.recordings)
    config = configure(options, table)
    if options.resume:
        _refuse_other_options(config, RunConfig.load(out))
    seen = np.isin(table.classes, config.split.seen)
    vectors = class_vectors(table.classes, seen, text_encoder(options.text))  # a text can be wrong: see it now
    clips = split_clips(table, config.split, options.test_fold, options.seed)
    front_end = config.front_end
    frames = load_frames(table.clips, front_end, front_end.network_window(config.window_frames), options.cache_dir)
    rows = {clip.path: row for row, clip in enumerate(table.clips)}
    # Training counts the seen classes alone; the zero-shot map counts all classes of the data set.
    of_table = np.array([table.classes.index(name) for name in config.split.seen])
    labels = {index: label for label, index in enumerate(of_table.tolist())}

    def clip_set(part: Sequence[Clip]) -> ClipSet:
        return ClipSet(
            frames,
            np.array([rows[clip.path] for clip in part], dtype=np.int64),
            np.array([labels[clip.label] for clip in part], dtype=np.int64),
        )

    training, validation, test = clip_set(clips.train), clip_set(clips.validation), clip_set(clips.test)
    _describe(options, table, config, [len(part) for part in (clips.train, clips.validation, clips.test)], device)
    torch.manual_seed(options.seed)
    network = build_network(config.network)
    if options.init:
        report = load_pretrained(network, options.init)
        for line in (report.line(), *report.warnings):
            say(line)
    if not options.resume:
        _make_run_folder(out)
        config.save(out)
    with _progress() as progress:
        bar = progress.add_task(f"{options.network}", total=options.epochs, numbers="")

        def on_epoch(done: Epoch) -> None:
            numbers = (
                f"loss {done.train_loss:.3f}, validation {done.validation_loss:.3f}, "
                f"accuracy {done.validation_accuracy:.1%}"
            )
            progress.update(bar, completed=done.epoch, numbers=numbers)

        history = fit(
            network, training, validation, config.recipe, options.seed, device, out,
            lambda epoch, share: progress.update(bar, completed=epoch - 1 + share), on_epoch, options.resume,
        )  # fmt: skip

    scale_to_unit_length(network, training, device, out)
    best = best_epoch(history, config.recipe)
    assert best is not None
    save_whole(out / "curves.png", lambda path: plot_curves(history, best.epoch, path))
    embedded = {
        part: (embed_clips(network, part_set, device).numpy(), of_table[part_set.labels])
        for part, part_set in (("train", training), ("validation", validation), ("test", test))
        if len(part_set.clips)
    }
    zeroshot = fit_zeroshot(table.classes, seen, vectors, embedded["train"], embedded["validation"])
    save_whole(out / ZEROSHOT, zeroshot.save)
    summary: dict[str, Any] = {
        "validation_accuracy": best.validation_accuracy,
        "validation_loss": best.validation_loss,
        "epochs": len(history),
        "best_epoch": best.epoch,
        "seconds": round(time.perf_counter() - started, 1),
        "seconds_an_epoch": round(float(np.median([done.seconds for done in history])), 2),
        "samples_per_second": round(float(np.median([done.samples_per_second for done in history])), 1),
        "zeroshot_map_validation_accuracy": accuracy(zeroshot, *embedded["validation"]),
        "out": str(out),
    }
    if len(test.clips):
        head = judge_embeddings(network, torch.from_numpy(embedded["test"][0]), test.labels, device)
        summary["test_accuracy"] = head[1]
        summary["zeroshot_map_test_accuracy"] = accuracy(zeroshot, *embedded["test"])
    write_text(out / SUMMARY, json.dumps(summary, indent=1) + "\n")
    _report(summary)
    return summary


def scale_to_unit_length(network: Network, train: ClipSet, device: torch.device, out: Path) -> None:
    """Scale the embedding so that the training clips' have a mean length of 1, and save the weights again.

    The class scores stay the same. It gives the embeddings of every network one scale, on which an absolute
    difference means something: before, a mean length of 10 was usual, and any bound on it arbitrary.
    """
    if load_tensors(out / WEIGHTS)[1].get("unit_length"):
        return  # a finished run that was resumed
    length = float(embed_clips(network, train, device).norm(dim=1).mean())
    network.scale_embedding(1.0 / max(length, 1e-12))
    save_tensors(out / WEIGHTS, network.state_dict(), {"unit_length": True})


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


def _progress() -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("epoch {task.completed:.1f}/{task.total:.0f}"),
        TextColumn("{task.fields[numbers]}"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=progress_console,
    )


def _describe(options: Options, table: ClipTable, config: RunConfig, counts: list[int], device: torch.device) -> None:
    train, validation, test = counts
    say(
        f"{options.dataset}: {len(config.split.seen)} of {len(table.classes)} classes; "
        f"{train} clips to train, {validation} to validate, {test} to test; {options.network} on {device}"
    )


def _report(summary: dict[str, Any]) -> None:
    grid = Table(title=f"run {summary['out']}", title_justify="left")
    grid.add_column("what")
    grid.add_column("value", justify="right")
    for name, value in summary.items():
        if name != "out":
            shown = f"{value:.1%}" if name.endswith("accuracy") else f"{value:g}"
            grid.add_row(name.replace("_", " "), shown)
    console.print(grid)


def main(argv: Sequence[str] | None = None) -> int:
    """The command."""
    return run_command(Options, train, "python -m training.run", argv)


if __name__ == "__main__":
    raise SystemExit(main())
