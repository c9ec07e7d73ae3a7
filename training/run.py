"""Train one network and write a run folder.

    python -m training.run --dataset ESC-10 --data-dir DIR --test-fold 4 --network yamnet-compact --out runs/first

The run folder holds weights.safetensors (best epoch), last.safetensors (for --resume), config.json, metrics.jsonl,
zeroshot.npz (the map to class vectors), summary.json and curves.png.
"""

import json
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from serving.bundle import refuse_existing
from serving.command import console, progress_console, run_command, say
from serving.errors import UsageError
from training.checkpoint import WEIGHTS, load_tensors, save_tensors, write_text
from training.config import RunConfig
from training.data.clips import DATASETS, Clip, ClipTable, load_clips
from training.data.splits import split_classes, split_clips
from training.data.windows import load_frames
from training.frontend import LogMelConfig
from training.loop import ClipSet, Epoch, Recipe, best_epoch, embed_clips, fit, judge
from training.networks import NETWORKS, WINDOW_FRAMES, Network, NetworkConfig, build_network
from training.plots import plot_curves
from training.text import DEFAULT_ENCODER, text_encoder
from training.zeroshot import accuracy, fit_zeroshot

SUMMARY = "summary.json"
ZEROSHOT = "zeroshot.npz"
OBJECTIVE = "classes"  # cross-entropy over the seen classes


@dataclass(frozen=True)
class Options:
    """Train one network on the seen classes of a data set and write a run folder."""

    dataset: str = "ESC-50"
    """ESC-50, ESC-10, FSC22, synthetic, or folder (a folder of class folders)"""
    data_dir: Path | None = None
    """the data set's folder; default: data/DATASET"""
    network: str = "yamnet"
    """yamnet, yamnet-compact or vggish"""
    split: str = "all"
    """which classes to train on: all, random, cat0-4, fold0-4 or fold04-34 (ESC-50), train, val or test (FSC22)"""
    unseen: str | None = None
    """classes to keep unseen, by name, with commas between: dog,rain"""
    test_fold: int | None = None
    """the data set's recording fold held out as the test set"""
    out: Path | None = None
    """the run folder; default: runs/DATASET-NETWORK-SPLIT"""
    epochs: int = Recipe.epochs
    """at most this many passes over the training windows"""
    patience: int | None = Recipe.patience
    """stop after this many epochs without a better validation loss; default: never early"""
    batch_size: int = Recipe.batch_size
    """windows in a step"""
    learning_rate: float = Recipe.learning_rate
    """the largest of the one-cycle schedule"""
    weight_decay: float = Recipe.weight_decay
    """AdamW's"""
    dropout: float | None = None
    """probability in the fully connected layers; default: 0.5 for yamnet-compact, 0.2 for the others"""
    mixup: float = Recipe.mixup
    """alpha of the Beta distribution; 0 is none"""
    gain_db: float = Recipe.gain_db
    """largest random gain, either way, in decibels"""
    text: str = DEFAULT_ENCODER
    """text encoder of the class vectors: glove+minilm, glove or minilm"""
    seed: int = 0
    """of the split, the weights and all that is random"""
    device: str = "auto"
    """auto, cpu, cuda or cuda:N"""
    cache_dir: Path = Path("cache")
    """where log-mels are kept between runs"""
    overwrite: bool = False
    """replace an existing run folder"""
    resume: bool = False
    """continue an interrupted run of the same options"""


def check(options: Options) -> None:
    """UsageError for a flag out of its range, with what it takes."""
    if options.dataset not in DATASETS:
        raise UsageError(f"dataset: got {options.dataset}; wanted one of {', '.join(DATASETS)}")
    if options.network not in NETWORKS:
        raise UsageError(f"network: got {options.network}; wanted one of {', '.join(NETWORKS)}")
    text_encoder(options.text)
    limits = {
        "epochs": options.epochs >= 1,
        "patience": options.patience is None or options.patience >= 1,
        "batch_size": options.batch_size >= 2,
        "learning_rate": options.learning_rate > 0,
        "weight_decay": options.weight_decay >= 0,
        "mixup": options.mixup >= 0,
        "gain_db": options.gain_db >= 0,
        "dropout": options.dropout is None or 0 <= options.dropout < 1,
    }
    for name, good in limits.items():
        if not good:
            raise UsageError(f"--{name.replace('_', '-')}: got {getattr(options, name)}; see --help for its range")


def choose_device(name: str) -> torch.device:
    """The device of a name; auto takes a GPU where there is one."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise UsageError(f"device: got {name}, which this machine does not have; try --device auto") from error
    return device


def train(options: Options) -> dict[str, Any]:
    """Load, train, fit the zero-shot map, and write the run folder. Returns its summary."""
    check(options)
    device = choose_device(options.device)
    out = options.out or Path("runs") / f"{options.dataset}-{options.network}-{options.split}"
    if not options.resume:
        refuse_existing(out, options.overwrite)
    started = time.perf_counter()
    table = load_clips(options.dataset, options.data_dir or Path("data") / options.dataset)
    config = _configure(options, table)
    if options.resume:
        _refuse_other_options(config, RunConfig.load(out))
    clips = split_clips(table, config.split, options.test_fold, options.seed)
    front_end = config.front_end
    frames = load_frames(table.clips, front_end, front_end.network_window(config.window_frames), options.cache_dir)
    rows = {clip.path: row for row, clip in enumerate(table.clips)}
    labels = {table.classes.index(name): label for label, name in enumerate(config.split.seen)}

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
    plot_curves(history, best.epoch, out / "curves.png")
    embedded = {
        part: (embed_clips(network, part_set, device).numpy(), part_set.labels)
        for part, part_set in (("train", training), ("validation", validation), ("test", test))
        if len(part_set.clips)
    }
    zeroshot = fit_zeroshot(
        list(config.split.seen),
        np.ones(len(config.split.seen), dtype=bool),
        text_encoder(options.text),
        embedded["train"],
        embedded["validation"],
    )
    zeroshot.save(out / ZEROSHOT)
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
        summary["test_accuracy"] = judge(network, test, device)[1]
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


def _configure(options: Options, table: ClipTable) -> RunConfig:
    unseen = tuple(name.strip() for name in options.unseen.split(",")) if options.unseen else ()
    classes = split_classes(table, options.split, options.seed, unseen)
    dropout = options.dropout
    if dropout is None:
        dropout = 0.5 if options.network == "yamnet-compact" else 0.2
    return RunConfig(
        dataset=options.dataset,
        data_dir=str((options.data_dir or Path("data") / options.dataset).resolve()),
        split=classes,
        test_fold=options.test_fold,
        seed=options.seed,
        objective=OBJECTIVE,
        network=NetworkConfig(options.network, len(classes.seen), dropout),
        front_end=LogMelConfig(),
        window_frames=WINDOW_FRAMES[options.network],
        recipe=Recipe(
            epochs=options.epochs,
            batch_size=options.batch_size,
            learning_rate=options.learning_rate,
            weight_decay=options.weight_decay,
            mixup=options.mixup,
            gain_db=options.gain_db,
            patience=options.patience,
        ),
        text=options.text,
        classes=list(table.classes),
        license=table.license,
    )


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
