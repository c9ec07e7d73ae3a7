"""Measure training: samples a second by stage, beside a plain recipe that decodes every file in every epoch.

    python -m benchmarks.training --network yamnet

Stages: decode (file to mono 16 kHz, in one thread), log-mel, windows (random crops from the cache, gain, mixup; the
plain recipe has no cache and crops after its log-mel), step (forward, backward, optimiser), epoch (everything that one
epoch takes, with its checkpoint; ours reads the cache, which decode and log-mel fill once). Both recipes get the same
files, network and batch size, and all stages take turns.
"""

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, astuple, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.inputs import check_range, input_clips
from benchmarks.study import Study, TextTable, digits
from benchmarks.training.recipes import CLASSES, OurRecipe, PlainRecipe
from benchmarks.turns import TimedJob, time_jobs
from serving.command_line import run_command
from serving.cores import usable_cores
from serving.errors import UsageError
from training.compute import ComputeOptions, choose_compute
from training.networks import NETWORKS, NetworkConfig

STAGES = ("decode", "log-mel", "windows", "step", "epoch")
WARM_UP = 1


@dataclass(frozen=True)
class Options:
    """Measure how many samples a second training does, by stage, beside the plain recipe; on the CPU."""

    network: str = "yamnet-compact"
    """yamnet, yamnet-compact or vggish"""
    clips: int = 64
    """files in an epoch"""
    rounds: int = 5
    """how often each stage is timed"""
    batch_size: int = 32
    """windows in a step"""
    precision: str = "fp32"
    """of our recipe: fp32, or mixed with bf16; the plain recipe always has fp32"""
    seconds: float = 5.0
    """length of the synthesised 44.1 kHz clips, in seconds; recordings keep their own"""
    recordings: Path | None = None
    """measure on the first sound files of this folder and its subfolders, unchanged; default: synthesised clips"""
    threads: int | None = None
    """threads of PyTorch, and workers of the plain recipe's DataLoader; default: the physical cores"""
    out: Path = Path("runs/training-speed")
    """folder for training.json, .csv and .md, which are replaced"""


@dataclass(frozen=True)
class TrainingRow:
    """One stage: samples a second of both recipes, and their ratio. None: the plain recipe has no such stage."""

    stage: str
    ours_per_second: float
    plain_per_second: float | None
    times: float | None


def check_options(options: Options) -> None:
    """UsageError: a flag is out of its range."""
    if options.network not in NETWORKS:
        raise UsageError(f"--network: got {options.network}; wanted one of {', '.join(NETWORKS)}")
    for flag, value, least, most in (
        ("--clips", options.clips, 2, 100_000),
        ("--rounds", options.rounds, 1, 10_000),
        ("--batch-size", options.batch_size, 2, 4096),
        ("--seconds", options.seconds, 0.1, 600),
        ("--threads", options.threads, 1, 1024),
    ):
        check_range(flag, value, least, most)


def training_jobs(ours: OurRecipe, plain: PlainRecipe) -> dict[tuple[str, str], TimedJob]:
    """Jobs by (recipe, stage). Both recipes train on the same batches."""
    waves = ours.decode()
    batches = ours.batches()
    plain_batches = [(log_mel, targets[0]) for log_mel, targets in batches]
    return {
        ("ours", "decode"): TimedJob(lambda turn: None, lambda _: ours.decode()),
        ("plain", "decode"): TimedJob(lambda turn: None, lambda _: plain.decode()),
        ("ours", "log-mel"): TimedJob(lambda turn: waves, ours.log_mel),
        ("plain", "log-mel"): TimedJob(lambda turn: waves, plain.log_mel),
        ("ours", "windows"): TimedJob(lambda turn: None, lambda _: ours.batches()),
        ("ours", "step"): TimedJob(lambda turn: batches, ours.steps),
        ("plain", "step"): TimedJob(lambda turn: plain_batches, plain.steps),
        ("ours", "epoch"): TimedJob(lambda turn: None, lambda _: ours.epoch()),
        ("plain", "epoch"): TimedJob(lambda turn: None, lambda _: plain.epoch()),
    }


def count_samples(files: int, windows: int, crops: int) -> dict[tuple[str, str], int]:
    """Samples of each job: files before windows are cut, windows after; the plain recipe's epoch has crops."""
    after = ("windows", "step", "epoch")
    counts = {(recipe, stage): windows if stage in after else files for recipe in ("ours", "plain") for stage in STAGES}
    return counts | {("plain", "epoch"): crops}


def training_rows(
    durations_ns: Mapping[tuple[str, str], NDArray[np.int64]], counts: Mapping[tuple[str, str], int]
) -> list[TrainingRow]:
    """A row for each stage, from medians. counts: samples of each job."""
    rates = {key: 1e9 * counts[key] / float(np.median(values)) for key, values in durations_ns.items()}
    rows = []
    for stage in STAGES:
        mine, plain = rates["ours", stage], rates.get(("plain", stage))
        rows.append(TrainingRow(stage, mine, plain, mine / plain if plain else None))
    return rows


def measure_training(options: Options) -> dict[str, Any]:
    """Time every stage, write the files, and return what is printed as JSON."""
    check_options(options)
    compute = choose_compute(ComputeOptions(device="cpu", precision=options.precision))
    threads = options.threads or usable_cores()
    torch.set_num_threads(threads)
    clips = input_clips(options.recordings, options.seconds, options.clips)
    study = Study("training", options.out)
    with clips.as_files(options.clips) as paths, tempfile.TemporaryDirectory(prefix="unheard-training-") as folder:
        ours = OurRecipe(options.network, paths, options.batch_size, Path(folder), compute)
        network = NetworkConfig(options.network, CLASSES, 0.2)
        plain = PlainRecipe(network, paths, ours.frames, options.batch_size, threads, Path(folder))
        durations_ns = time_jobs(training_jobs(ours, plain), options.rounds, WARM_UP)
        windows, crops = ours.samples, plain.samples
    rows = training_rows(durations_ns, count_samples(options.clips, windows, crops))
    record = study.record(
        network=options.network,
        settings={
            "threads": threads,
            "rounds": options.rounds,
            "batch_size": options.batch_size,
            "precision": options.precision,
        },
        clips={"source": clips.source, "files": options.clips, "windows": windows},
        rows=[asdict(row) for row in rows],
    )
    record["machine"]["torch"] = torch.__version__
    notes = [
        f"{options.clips} files, {windows} windows, batches of {options.batch_size}; {clips.source}",
        "a sample is a file in decode and log-mel, a window in windows, step and epoch",
        f"median of {options.rounds} rounds, taking turns, {threads} threads; ours decodes and computes log-mels once, "
        "the plain recipe in every epoch",
        f"ours in {options.precision}; both keep the memory that a step has freed, as training.run does",
    ]
    study.write(record, rows, [training_table(rows)], notes)
    return record


def training_table(rows: Sequence[TrainingRow]) -> TextTable:
    """A line for each stage."""
    lines = [
        [stage, digits(ours), digits(plain), "-" if times is None else f"{times:.1f}x"]
        for stage, ours, plain, times in map(astuple, rows)
    ]
    return TextTable("training", ("stage", "ours, samples/s", "plain recipe, samples/s", "times"), lines)


main = partial(run_command, Options, measure_training, "python -m benchmarks.training")

if __name__ == "__main__":
    raise SystemExit(main())
