"""Measure what more clips cost: time and memory of 100, 1,000 and more files, embedded in bulk.

    python -m benchmarks.scaling bundles/first
    python -m benchmarks.scaling bundles/first --clips 100,1000,10000

The same 32 files are repeated. Two ways: Embedder.embed_files in this process, and python -m serving.embed in a
process of its own, from its start to the finished Parquet file. Resident memory is looked at all the time; the most
counts. Cost is linear and memory flat where neither grows with the number of clips.
"""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import tyro
from matplotlib.figure import Figure
from rich.progress import Progress

from benchmarks.clips import clip_files, gather_clips, told
from benchmarks.flags import at_least, numbers
from benchmarks.machine import this_machine
from benchmarks.report import COLOURS, make_folder, save_figure, shown, style, write_report
from benchmarks.server_process import resident_mb
from serving.command import progress_console, run_command
from serving.cores import usable_cores
from serving.embedder import Embedder
from serving.errors import UsageError

WAYS = ("embed_files", "serving.embed")
LOOK_S = 0.02  # between two looks at the memory
MOST_CLIPS = 1_000_000


@dataclass(frozen=True)
class Options:
    """Measure time and resident memory by the number of clips."""

    bundle: Annotated[Path, tyro.conf.Positional]
    """the bundle folder"""
    clips: str = "100,1000"
    """how many files, with commas between"""
    backend: str = "auto"
    """auto, onnxruntime, openvino or tensorrt"""
    seconds: float = 5.0
    """length of the synthesised 44.1 kHz clips, in seconds; recordings keep theirs"""
    recordings: Path | None = None
    """repeat the first 32 sound files of this folder and its subfolders; default: synthesised clips"""
    threads: int | None = None
    """as serving.embed's; default: the physical cores that this process may use"""
    out: Path = Path("runs/scaling")
    """where scaling.json, .csv, .md and .png go, replacing older ones"""


@dataclass(frozen=True)
class ScalingRow:
    """One way with so many clips.

    seconds    of all of them; serving.embed's include its start
    most_mb    of resident memory, in MB of 1 000 000 bytes; None where it cannot be seen
    """

    way: str
    clips: int
    seconds: float
    ms_a_clip: float
    clips_per_second: float
    most_mb: float | None


@contextmanager
def watch(pid: int) -> Iterator[list[float]]:
    """A list that gets the resident memory of a process in MB, again and again until the block ends."""
    seen: list[float] = []
    done = threading.Event()

    def look() -> None:
        while not done.wait(LOOK_S):
            if (resident := resident_mb(pid)) is not None:
                seen.append(resident)

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield seen
    finally:
        done.set()
        thread.join()


def here(embedder: Embedder, paths: Sequence[Path]) -> tuple[float, float | None]:
    """Seconds and the most resident MB of embed_files."""
    with watch(os.getpid()) as seen:
        start = time.perf_counter()
        embedder.embed_files(paths)
        return time.perf_counter() - start, max(seen, default=resident_mb(os.getpid()))


def command(options: Options, folder: Path, threads: int, out: Path) -> tuple[float, float | None]:
    """Seconds and the most resident MB of python -m serving.embed. UsageError where it fails."""
    arguments = [str(options.bundle), str(folder), "--out", str(out), "--backend", options.backend]
    line = [sys.executable, "-m", "serving.embed", *arguments, "--threads", str(threads)]
    start = time.perf_counter()
    with subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        with watch(process.pid) as seen:
            _, errors = process.communicate()
        seconds = time.perf_counter() - start
    if process.returncode:
        raise UsageError(f"serving.embed ended with {process.returncode}: {errors.strip().splitlines()[-1:]}")
    return seconds, max(seen, default=None)


def growth(rows: Sequence[ScalingRow]) -> dict[str, dict[str, float | None]]:
    """For each way: the last row's time a clip, and its memory, as shares of the first row's."""
    found: dict[str, dict[str, float | None]] = {}
    for way in WAYS:
        first, *_, last = [row for row in rows if row.way == way] * 2
        found[way] = {
            "time_a_clip": last.ms_a_clip / first.ms_a_clip,
            "memory": last.most_mb / first.most_mb if last.most_mb and first.most_mb else None,
        }
    return found


def measure(options: Options) -> dict[str, Any]:
    """Run all, write the files, and return what is printed as JSON."""
    counts = numbers("--clips", options.clips, "100,1000", int, MOST_CLIPS)
    at_least("--seconds", options.seconds, 0.1, 600)
    at_least("--threads", options.threads, 1, 1024)
    load_before = os.getloadavg()[0]
    threads = options.threads or usable_cores()
    clips = gather_clips(options.recordings, options.seconds)
    embedder = Embedder.load(options.bundle, options.backend, threads=threads)
    make_folder(options.out)
    rows: list[ScalingRow] = []
    with Progress(console=progress_console) as progress:
        bar = progress.add_task("embedding", total=2 * sum(counts))
        with clip_files(clips) as paths:
            embedder.embed_files(paths)  # warm-up
        for count in counts:
            with clip_files(clips, count) as paths:
                for way in WAYS:
                    parquet = paths[0].parent / "embeddings.parquet"
                    if way == "embed_files":
                        seconds, most = here(embedder, paths)
                    else:
                        seconds, most = command(options, paths[0].parent, threads, parquet)
                    rows.append(ScalingRow(way, count, seconds, 1000 * seconds / count, count / seconds, most))
                    progress.advance(bar, count)
    rows.sort(key=lambda row: (WAYS.index(row.way), row.clips))
    machine = this_machine()
    result = {
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": asdict(machine) | {"load_average_before": round(load_before, 2)},
        "bundle": {"name": options.bundle.resolve().name, "network": embedder.manifest.network},
        "settings": {"threads": threads, "backend": embedder.backend},
        "clips": {"source": told(options.recordings, options.seconds), "distinct": len(clips)},
        "rows": [asdict(row) for row in rows],
        "growth": growth(rows),
        "out": str(options.out),
    }
    notes = [
        f"{len(clips)} distinct clips, repeated; {told(options.recordings, options.seconds)}; {embedder.backend}, "
        f"{threads} threads",
        "embed_files: in this process, after a warm-up; serving.embed: a process of its own, from its start to the "
        "finished Parquet file",
        f"{machine}; load average before: {load_before:.2f}",
    ]
    title = f"{options.bundle.resolve().name} ({embedder.manifest.network}): cost by the number of clips"
    plot = partial(plot_scaling, rows, title, notes)
    write_report("scaling", rows, result, title, HEAD, table_lines(rows), plot, notes, options.out)
    return result


HEAD = ("way", "clips", "seconds", "ms a clip", "clips/s", "most MB")


def table_lines(rows: Sequence[ScalingRow]) -> list[list[str]]:
    """The cells under `HEAD`."""
    return [
        [row.way, str(row.clips)]
        + [shown(value) for value in (row.seconds, row.ms_a_clip, row.clips_per_second, row.most_mb)]
        for row in rows
    ]


def plot_scaling(rows: Sequence[ScalingRow], title: str, notes: Sequence[str], out: Path) -> None:
    """Left the time, on two logarithmic scales; right the memory. Written as PNG."""
    figure = Figure(figsize=(9, 4), layout="constrained")
    figure.suptitle(title, fontsize=11)
    left, right = figure.subplots(1, 2)
    for way, colour in zip(WAYS, COLOURS, strict=False):
        mine = [row for row in rows if row.way == way]
        clips = [row.clips for row in mine]
        left.plot(clips, [row.seconds for row in mine], "o-", color=colour, label=way)
        right.plot(clips, [row.most_mb or 0.0 for row in mine], "o-", color=colour, label=way)
    left.set(xlabel="clips", ylabel="seconds", xscale="log", yscale="log")
    right.set(xlabel="clips", ylabel="most resident memory, MB", xscale="log")
    right.set_ylim(0, 1.2 * max(row.most_mb or 1.0 for row in rows))
    left.yaxis.set_major_formatter("{x:g}")
    left.yaxis.set_minor_formatter("")
    for axes in (left, right):
        counts = sorted({row.clips for row in rows})
        axes.set_xticks(counts, [f"{count:,}" for count in counts], minor=False)
        axes.set_xticks([], minor=True)
        axes.legend(frameon=False, fontsize=9)
        style(axes)
    save_figure(figure, notes, out)


def main(argv: Sequence[str] | None = None) -> int:
    """The command."""
    return run_command(Options, measure, "python -m benchmarks.scaling", argv)


if __name__ == "__main__":
    raise SystemExit(main())
