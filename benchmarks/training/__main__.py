"""Measure training: samples a second by stage, beside the plain recipe that decodes in every epoch.

    python -m benchmarks.training --network yamnet

Stages: decode (file to mono 16 kHz, one thread), log-mel, windows (random crops out of the cache, gain, mixup; the
plain recipe has no cache, and crops after its log-mel), step (forward, backward, optimiser), epoch (all that a whole
epoch takes, its checkpoint too; ours from the cache, which is made once by decode and log-mel). The same files, the
same network and batch size; both recipes and all stages take turns.
"""

import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray
from rich.progress import Progress

from benchmarks.clips import clip_files, gather_clips, told
from benchmarks.flags import at_least
from benchmarks.machine import this_machine
from benchmarks.report import BLUE, make_folder, save_figure, shown, style, write_report
from benchmarks.timing import Job, time_in_turns
from benchmarks.training.ours import CLASSES, Ours
from benchmarks.training.plain import Plain
from serving.command import progress_console, run_command
from serving.cores import usable_cores
from serving.errors import UsageError
from training.networks import NETWORKS, NetworkConfig

STAGES = ("decode", "log-mel", "windows", "step", "epoch")
WARM_UP = 1


@dataclass(frozen=True)
class Options:
    """Measure how many samples a second training does, by stage, beside the plain recipe; on the CPU."""

    network: str = "yamnet-compact"
    """yamnet, yamnet-compact or vggish"""
    clips: int = 64
    """files of an epoch"""
    rounds: int = 5
    """how often each stage is timed"""
    batch_size: int = 32
    """windows in a step"""
    seconds: float = 5.0
    """length of the synthesised 44.1 kHz clips, in seconds; recordings keep theirs"""
    recordings: Path | None = None
    """measure on the first sound files of this folder and its subfolders, as they are; default: synthesised clips"""
    threads: int | None = None
    """of PyTorch, and workers of the plain recipe's DataLoader; default: the physical cores"""
    out: Path = Path("runs/training-speed")
    """where training.json, .csv, .md and .png go, replacing older ones"""


@dataclass(frozen=True)
class TrainingRow:
    """One stage: samples a second of ours and of the plain recipe, and how many times ours is faster.

    The plain recipe has no windows stage: None.
    """

    stage: str
    ours_per_second: float
    plain_per_second: float | None
    times: float | None


def check(options: Options) -> None:
    """UsageError for a flag out of its range, with what it takes."""
    if options.network not in NETWORKS:
        raise UsageError(f"--network: got {options.network}; wanted one of {', '.join(NETWORKS)}")
    for flag, value, least, most in (
        ("--clips", options.clips, 2, 100_000),
        ("--rounds", options.rounds, 1, 10_000),
        ("--batch-size", options.batch_size, 2, 4096),
        ("--seconds", options.seconds, 0.1, 600),
        ("--threads", options.threads, 1, 1024),
    ):
        at_least(flag, value, least, most)


def make_jobs(ours: Ours, plain: Plain) -> dict[tuple[str, str], Job]:
    """By (recipe, stage). Both recipes step on the same batches."""
    waves = ours.decode()
    batches = ours.batches()
    plain_batches = [(log_mel, targets[0]) for log_mel, targets in batches]
    return {
        ("ours", "decode"): Job(lambda turn: None, lambda _: ours.decode()),
        ("plain", "decode"): Job(lambda turn: None, lambda _: plain.decode()),
        ("ours", "log-mel"): Job(lambda turn: waves, ours.log_mel),
        ("plain", "log-mel"): Job(lambda turn: waves, plain.log_mel),
        ("ours", "windows"): Job(lambda turn: None, lambda _: ours.batches()),
        ("ours", "step"): Job(lambda turn: batches, ours.steps),
        ("plain", "step"): Job(lambda turn: plain_batches, plain.steps),
        ("ours", "epoch"): Job(lambda turn: None, lambda _: ours.epoch()),
        ("plain", "epoch"): Job(lambda turn: None, lambda _: plain.epoch()),
    }


def count_samples(files: int, windows: int, crops: int) -> dict[tuple[str, str], int]:
    """What each job goes through: files before windows are cut, windows after; crops in a plain epoch."""
    after = ("windows", "step", "epoch")
    counts = {(recipe, stage): windows if stage in after else files for recipe in ("ours", "plain") for stage in STAGES}
    return counts | {("plain", "epoch"): crops}


def make_rows(
    durations_ns: Mapping[tuple[str, str], NDArray[np.int64]], counts: Mapping[tuple[str, str], int]
) -> list[TrainingRow]:
    """A row for each stage, by medians. counts: samples that each job goes through."""
    rates = {key: 1e9 * counts[key] / float(np.median(values)) for key, values in durations_ns.items()}
    return [
        TrainingRow(
            stage,
            rates["ours", stage],
            rates.get(("plain", stage)),
            rates["ours", stage] / rates["plain", stage] if ("plain", stage) in rates else None,
        )
        for stage in STAGES
    ]


def measure(options: Options) -> dict[str, Any]:
    """Time every stage, write the files, and return what is printed as JSON."""
    check(options)
    load_before = os.getloadavg()[0]
    threads = options.threads or usable_cores()
    torch.set_num_threads(threads)
    make_folder(options.out)
    clips = gather_clips(options.recordings, options.seconds, options.clips)
    with clip_files(clips, options.clips) as paths, tempfile.TemporaryDirectory(prefix="unheard-training-") as folder:
        ours = Ours(options.network, paths, options.batch_size, Path(folder))
        network = NetworkConfig(options.network, CLASSES, 0.2)
        plain = Plain(network, paths, ours.frames, options.batch_size, threads, Path(folder))
        jobs = make_jobs(ours, plain)
        with Progress(console=progress_console, auto_refresh=False) as progress:
            bar = progress.add_task("warm-up, then timing", total=WARM_UP + options.rounds)
            on_round = partial(progress.update, bar, advance=1, refresh=True)
            durations_ns = time_in_turns(jobs, options.rounds, WARM_UP, on_round)
        samples = ours.samples
    rows = make_rows(durations_ns, count_samples(options.clips, samples, plain.samples))
    machine = this_machine()
    result = {
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": asdict(machine) | {"torch": torch.__version__, "load_average_before": round(load_before, 2)},
        "network": options.network,
        "settings": {"threads": threads, "rounds": options.rounds, "batch_size": options.batch_size},
        "clips": {"source": told(options.recordings, options.seconds), "files": options.clips, "windows": samples},
        "rows": [asdict(row) for row in rows],
        "out": str(options.out),
    }
    notes = [
        f"{options.clips} files, {samples} windows, in batches of {options.batch_size}; a sample is a file until its "
        f"log-mel, a window after; {told(options.recordings, options.seconds)}",
        f"median of {options.rounds} rounds, taking turns, {threads} threads; ours decodes and makes log-mels once, "
        "the plain recipe in each epoch",
        f"{machine}; PyTorch {torch.__version__}; load average before: {load_before:.2f}",
    ]
    title = f"training {options.network}: samples a second by stage"
    plot = partial(plot_training, rows, title, notes)
    write_report("training", rows, result, title, HEAD, table_lines(rows), plot, notes, options.out)
    return result


HEAD = ("stage", "ours, samples/s", "plain recipe, samples/s", "times")


def table_lines(rows: Sequence[TrainingRow]) -> list[list[str]]:
    """The cells under `HEAD`."""
    return [
        [
            row.stage,
            shown(row.ours_per_second),
            shown(row.plain_per_second),
            "-" if row.times is None else f"{row.times:.1f}x",
        ]
        for row in rows
    ]


def plot_training(rows: Sequence[TrainingRow], title: str, notes: Sequence[str], out: Path) -> None:
    """Two bars a stage, on a logarithmic scale. Written as PNG."""
    figure = Figure(figsize=(9, 4.2), layout="constrained")
    axes = figure.subplots()
    axes.set_title(title, fontsize=11)
    for offset, label, colour, values in (
        (-0.19, "ours", BLUE, [row.ours_per_second for row in rows]),
        (0.19, "plain recipe", "#b6bcc5", [row.plain_per_second for row in rows]),
    ):
        places = [place + offset for place, value in enumerate(values) if value]
        heights = [value for value in values if value]
        axes.bar(places, heights, 0.36, color=colour, label=label)
        for place, height in zip(places, heights, strict=True):
            axes.annotate(shown(height), (place, height), (0, 4), textcoords="offset points", ha="center", fontsize=8)
    axes.set_xticks(range(len(rows)), [row.stage for row in rows])
    axes.set(ylabel="samples a second", yscale="log")
    axes.legend(frameon=False, fontsize=9)
    style(axes)
    save_figure(figure, notes, out)


def main(argv: Sequence[str] | None = None) -> int:
    """The command."""
    return run_command(Options, measure, "python -m benchmarks.training", argv)


if __name__ == "__main__":
    raise SystemExit(main())
