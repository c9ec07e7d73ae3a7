"""Measure time and memory of 100, 1,000 and more files, embedded in bulk.

    python -m benchmarks.scaling bundles/first
    python -m benchmarks.scaling bundles/first --clips 100,1000,10000

The same 32 files are repeated. Two ways are measured: Embedder.embed_files in this process, and python -m serving.embed
in a process of its own, from its start to the finished Parquet file. Resident memory is sampled all the time; its
maximum counts. Cost is linear and memory constant where neither grows with the number of clips.
"""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import tyro
from matplotlib.figure import Figure
from rich.progress import Progress

from benchmarks.host import resident_mb
from benchmarks.inputs import InputClips, bundle_name, check_range, input_clips, parse_numbers
from benchmarks.study import ACCENT, BLUE, Study, TextTable, digits, style_axes
from serving.command_line import progress_console, run_command
from serving.cores import usable_cores
from serving.embedder import Embedder
from serving.errors import UsageError

WAYS = ("embed_files", "serving.embed")
SAMPLE_S = 0.02  # between two readings of the memory
MOST_CLIPS = 1_000_000


@dataclass(frozen=True)
class Options:
    """Measure time and resident memory by the number of clips."""

    bundle: Annotated[Path, tyro.conf.Positional]
    """the bundle folder"""
    clips: str = "100,1000"
    """how many files, separated by commas"""
    backend: str = "auto"
    """auto, onnxruntime, openvino or tensorrt"""
    seconds: float = 5.0
    """length of the synthesised 44.1 kHz clips, in seconds; recordings keep their own"""
    recordings: Path | None = None
    """repeat the first 32 sound files of this folder and its subfolders; default: synthesised clips"""
    threads: int | None = None
    """as for serving.embed; default: the physical cores that this process may use"""
    out: Path = Path("runs/scaling")
    """folder for scaling.json, .csv, .md and .png, which are replaced"""


@dataclass(frozen=True)
class ScalingRow:
    """One way with one number of clips.

    seconds    for all clips; those of serving.embed include its start
    most_mb    maximum of resident memory, in MB of 1 000 000 bytes; None where it cannot be read
    """

    way: str
    clips: int
    seconds: float
    ms_a_clip: float
    clips_per_second: float
    most_mb: float | None


@contextmanager
def sampled_memory(pid: int) -> Iterator[list[float]]:
    """A list that grows by the resident memory of a process in MB until the block ends."""
    samples: list[float] = []
    done = threading.Event()

    def sample() -> None:
        while not done.wait(SAMPLE_S):
            if (resident := resident_mb(pid)) is not None:
                samples.append(resident)

    thread = threading.Thread(target=sample, daemon=True)
    thread.start()
    try:
        yield samples
    finally:
        done.set()
        thread.join()


def run_in_process(embedder: Embedder, paths: Sequence[Path]) -> tuple[float, float | None]:
    """Seconds and maximum resident MB of embed_files."""
    with sampled_memory(os.getpid()) as samples:
        start = time.perf_counter()
        embedder.embed_files(paths)
        return time.perf_counter() - start, max(samples, default=resident_mb(os.getpid()))


def run_bulk_command(options: Options, paths: Sequence[Path], threads: int) -> tuple[float, float | None]:
    """Seconds and maximum resident MB of python -m serving.embed. UsageError: it fails."""
    folder = paths[0].parent
    arguments = [str(options.bundle), str(folder), "--out", str(folder / "embeddings.parquet")]
    arguments += ["--backend", options.backend, "--threads", str(threads)]
    line = [sys.executable, "-m", "serving.embed", *arguments]
    start = time.perf_counter()
    with subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        with sampled_memory(process.pid) as samples:
            _, errors = process.communicate()
        seconds = time.perf_counter() - start
    if process.returncode:
        raise UsageError(f"serving.embed ended with {process.returncode}: {errors.strip().splitlines()[-1:]}")
    return seconds, max(samples, default=None)


def time_ways(
    options: Options, embedder: Embedder, clips: InputClips, counts: Sequence[int], threads: int
) -> list[ScalingRow]:
    """Both ways with each number of clips, in turns."""
    rows: list[ScalingRow] = []
    with Progress(console=progress_console) as progress:
        bar = progress.add_task("embedding", total=2 * sum(counts))
        with clips.as_files() as paths:
            embedder.embed_files(paths)  # warm-up
        for count in counts:
            with clips.as_files(count) as paths:
                for way in WAYS:
                    in_process = way == WAYS[0]
                    seconds, most_mb = (
                        run_in_process(embedder, paths) if in_process else run_bulk_command(options, paths, threads)
                    )
                    rows.append(ScalingRow(way, count, seconds, 1000 * seconds / count, count / seconds, most_mb))
                    progress.advance(bar, count)
    return sorted(rows, key=lambda row: (WAYS.index(row.way), row.clips))


def growth(rows: Sequence[ScalingRow]) -> dict[str, dict[str, float | None]]:
    """For each way its largest run as a multiple of its smallest: time a clip, and memory."""
    found: dict[str, dict[str, float | None]] = {}
    for way in WAYS:
        same = [row for row in rows if row.way == way]
        first, last = same[0], same[-1]
        found[way] = {
            "time_a_clip": last.ms_a_clip / first.ms_a_clip,
            "memory": last.most_mb / first.most_mb if last.most_mb and first.most_mb else None,
        }
    return found


def measure_scaling(options: Options) -> dict[str, Any]:
    """Run both ways, write the files, and return what is printed as JSON."""
    counts = parse_numbers("--clips", options.clips, "100,1000", int, MOST_CLIPS)
    check_range("--seconds", options.seconds, 0.1, 600)
    check_range("--threads", options.threads, 1, 1024)
    threads = options.threads or usable_cores()
    clips = input_clips(options.recordings, options.seconds)
    embedder = Embedder.load(options.bundle, options.backend, threads=threads)
    study = Study("scaling", options.out)
    rows = time_ways(options, embedder, clips, counts, threads)
    network = embedder.manifest.network
    record = study.record(
        bundle={"name": bundle_name(embedder.bundle), "network": network},
        settings={"threads": threads, "backend": embedder.backend},
        clips={"source": clips.source, "distinct": len(clips)},
        rows=[asdict(row) for row in rows],
        growth=growth(rows),
    )
    notes = [
        f"{len(clips)} distinct clips, repeated; {clips.source}; {network} on {embedder.backend}, {threads} threads",
        "embed_files: in this process, after a warm-up; serving.embed: a process of its own, from its start to the "
        "finished Parquet file",
    ]
    study.write(record, rows, [scaling_table(rows)], notes, lambda: plot_scaling(rows, network))
    return record


def scaling_table(rows: Sequence[ScalingRow]) -> TextTable:
    """A line for each way and number of clips."""
    lines = [
        [f"{row.way}, {row.clips:,} clips"]
        + [digits(value) for value in (row.seconds, row.ms_a_clip, row.clips_per_second, row.most_mb)]
        for row in rows
    ]
    return TextTable("cost by the number of clips", ("way", "seconds", "ms a clip", "clips/s", "most MB"), lines)


def plot_scaling(rows: Sequence[ScalingRow], network: str) -> Figure:
    """Time a clip and memory by the number of clips."""
    figure = Figure(figsize=(9, 4), layout="constrained")
    panels = figure.subplots(1, 2)
    for way, colour, label in zip(
        WAYS, (BLUE, ACCENT), ("Embedder.embed_files", "python -m serving.embed, with its start"), strict=True
    ):
        same = [row for row in rows if row.way == way]
        counts = [row.clips for row in same]
        panels[0].plot(counts, [row.ms_a_clip for row in same], "o-", color=colour, label=label)
        panels[1].plot(counts, [row.most_mb or 0.0 for row in same], "o-", color=colour)
    panels[0].set(title="Time of a clip", ylabel="ms a clip")
    panels[1].set(title="Memory", ylabel="maximum resident memory, MB")
    for axes in panels:
        counts = sorted({row.clips for row in rows})
        axes.set(xlabel="clips", xscale="log")
        axes.set_ylim(0, 1.2 * axes.get_ylim()[1])
        axes.set_xticks(counts, [f"{count:,}" for count in counts], minor=False)
        axes.set_xticks([], minor=True)
        style_axes(axes)
    figure.legend(loc="outside upper center", ncols=2, frameon=False, fontsize=9,
                  title=f"Cost of {network} by the number of clips", title_fontsize=11)  # fmt: skip
    return figure


main = partial(run_command, Options, measure_scaling, "python -m benchmarks.scaling")

if __name__ == "__main__":
    raise SystemExit(main())
