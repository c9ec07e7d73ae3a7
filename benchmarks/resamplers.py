"""Measure what a resampler costs, and what it does to embeddings: the filter bank beside soxr's qualities.

    python -m benchmarks.resamplers bundles/yamnet bundles/yamnet-compact --recordings DIR

Each clip is resampled to the model's rate in each way; the embeddings are compared with those that soxr gives at its
very high quality. All take turns, in one thread.
"""

import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import soxr
import tyro
from matplotlib.figure import Figure
from numpy.typing import NDArray
from rich.progress import Progress

from benchmarks.clips import gather_clips, told
from benchmarks.flags import at_least
from benchmarks.machine import this_machine
from benchmarks.report import BLUE, make_folder, save_figure, shown, style, write_report
from benchmarks.timing import Job, percentiles, time_in_turns
from serving.agreement import row_cosines
from serving.audio import cut_windows, decode_audio, to_mono
from serving.bundle import open_bundle
from serving.command import progress_console, run_command
from serving.embedder import Embedder, pool
from serving.errors import UsageError
from serving.resample import resample

Wave = NDArray[np.float32]

BEST = "soxr VHQ"
WARM_UP = 2
CLIPS_A_JOB = 8  # so that a job lasts some milliseconds
HEAD = ("resampler", "ms a clip", "1 - worst", "1 - median", "same first")


@dataclass(frozen=True)
class Options:
    """Measure milliseconds a clip of each resampler, and how far it moves embeddings."""

    bundles: Annotated[tuple[Path, ...], tyro.conf.Positional] = ()
    """bundle folders; FP32 on ONNX Runtime embeds"""
    recordings: Path | None = None
    """the first sound files of this folder and its subfolders, as they are; default: synthesised 44.1 kHz clips"""
    clips: int = 32
    """how many of them"""
    seconds: float = 5.0
    """length of the synthesised clips, in seconds"""
    repeats: int = 20
    """how often each way is timed"""
    out: Path = Path("runs/resamplers")
    """where resamplers.json, .csv, .md and .png go, replacing older ones"""


@dataclass(frozen=True)
class ResamplerRow:
    """One way.

    ms               median of a clip
    worst, median    1 - cosine of a clip's embedding with that of the best quality, over clips and bundles
    same_first       share of clips whose class ranked first stays the same
    """

    name: str
    ms: float
    worst: float
    median: float
    same_first: float


def ways() -> dict[str, Callable[[Wave, int, int], Wave]]:
    """Name -> wave, its rate and the wanted one -> wave at that rate."""

    def by_soxr(quality: str, wave: Wave, rate_hz: int, target_hz: int) -> Wave:
        return soxr.resample(wave, rate_hz, target_hz, quality=quality)

    found: dict[str, Callable[[Wave, int, int], Wave]] = {"filter bank": resample}
    return found | {f"soxr {name}": partial(by_soxr, name) for name in ("VHQ", "HQ", "MQ", "LQ")}


def compare(embedders: Sequence[Embedder], waves: Sequence[tuple[Wave, int]]) -> dict[str, tuple[NDArray, float]]:
    """Way -> cosines of all clips in all bundles with those of BEST, and the share that is ranked as with it."""
    cosines: dict[str, list[NDArray]] = {name: [] for name in ways()}
    same: dict[str, list[float]] = {name: [] for name in ways()}
    for embedder in embedders:
        window = embedder.manifest.window
        rows = {
            name: np.stack(
                [pool(embedder.run(cut_windows(way(wave, rate_hz, window.rate_hz), window))) for wave, rate_hz in waves]
            )
            for name, way in ways().items()
        }
        first = {name: embedder.zeroshot.scores(row).argmax(axis=1) for name, row in rows.items()}
        for name, row in rows.items():
            cosines[name].append(row_cosines(rows[BEST], row))
            same[name].append(float(np.mean(first[name] == first[BEST])))
    return {name: (np.concatenate(cosines[name]), float(np.mean(same[name]))) for name in cosines}


def measure(options: Options) -> dict[str, Any]:
    """Time and compare all, write the files, and return what is printed as JSON."""
    if not options.bundles:
        raise UsageError("BUNDLES: got none; wanted bundle folders, made with: python -m export.onnx")
    at_least("--clips", options.clips, 1, 10_000)
    at_least("--seconds", options.seconds, 0.1, 600)
    at_least("--repeats", options.repeats, 1, 10**6)
    load_before = os.getloadavg()[0]
    bundles = [open_bundle(folder) for folder in options.bundles]
    files = gather_clips(options.recordings, options.seconds, options.clips)
    decoded = [decode_audio(data, name) for name, data in files.items()]
    waves = [(to_mono(wave, rate_hz, rate_hz), rate_hz) for wave, rate_hz in decoded]
    make_folder(options.out)
    target_hz = bundles[0].manifest.window.rate_hz
    found = compare([Embedder.load(bundle.folder, "onnxruntime") for bundle in bundles], waves)

    def job(way: Callable[[Wave, int, int], Wave]) -> Job:
        def work(clips: Sequence[tuple[Wave, int]]) -> None:
            for wave, rate_hz in clips:
                way(wave, rate_hz, target_hz)

        return Job(lambda turn: [waves[(turn * CLIPS_A_JOB + i) % len(waves)] for i in range(CLIPS_A_JOB)], work)

    with Progress(console=progress_console, auto_refresh=False) as progress:
        bar = progress.add_task("warm-up, then timing", total=WARM_UP + options.repeats)
        on_round = partial(progress.update, bar, advance=1, refresh=True)
        taken = time_in_turns({name: job(way) for name, way in ways().items()}, options.repeats, WARM_UP, on_round)
    rows = [
        ResamplerRow(
            name,
            percentiles(taken[name]).p50_ms / CLIPS_A_JOB,
            float(max(0.0, 1 - cosines.min())),
            float(max(0.0, 1 - np.median(cosines))),
            same,
        )
        for name, (cosines, same) in found.items()
    ]
    machine = this_machine()
    result = {
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": asdict(machine) | {"load_average_before": round(load_before, 2)},
        "bundles": [bundle.folder.resolve().name for bundle in bundles],
        "clips": {
            "source": told(options.recordings, options.seconds),
            "distinct": len(waves),
            "rates_hz": sorted({rate_hz for _, rate_hz in waves}),
        },
        "rows": [asdict(row) for row in rows],
        "out": str(options.out),
    }
    notes = [
        f"{len(waves)} clips, {'/'.join(map(str, result['clips']['rates_hz']))} Hz to {target_hz}, "
        f"{result['clips']['source']}; median of {options.repeats} jobs of {CLIPS_A_JOB} clips, taking turns, in one "
        "thread",
        f"1 - cosine of embeddings of {', '.join(result['bundles'])} in FP32 with those of {BEST}, and the clips whose "
        "class ranked first is the same",
        f"{machine}; load average before: {load_before:.2f}",
    ]
    title = "resamplers: milliseconds a clip"
    write_report("resamplers", rows, result, title, HEAD, lines(rows), partial(plot, rows, title, notes), notes,
                 options.out)  # fmt: skip
    return result


def lines(rows: Sequence[ResamplerRow]) -> list[list[str]]:
    """The cells under HEAD."""
    return [
        [row.name, shown(row.ms), f"{row.worst:.1e}", f"{row.median:.1e}", f"{100 * row.same_first:.1f} %"]
        for row in rows
    ]


def plot(rows: Sequence[ResamplerRow], title: str, notes: Sequence[str], out: Path) -> None:
    """Cost against what it does to the worst embedding. Written as PNG."""
    figure = Figure(figsize=(7, 4.2), layout="constrained")
    figure.suptitle(title, fontsize=12)
    axes = figure.subplots()
    for row in rows:
        place = row.ms, max(row.worst, 1e-9)  # on a logarithmic axis there is no 0
        axes.scatter(*place, color=BLUE)
        axes.annotate(row.name, place, (6, 4), textcoords="offset points", fontsize=9)
    axes.set_yscale("log")
    axes.set_xlim(0, 1.25 * max(row.ms for row in rows))
    axes.set_xlabel("ms a clip (less is better)")
    axes.set_ylabel(f"1 - worst cosine with {BEST}")
    style(axes)
    save_figure(figure, notes, out)


def main(argv: Sequence[str] | None = None) -> int:
    """The command."""
    return run_command(Options, measure, "python -m benchmarks.resamplers", argv)


if __name__ == "__main__":
    raise SystemExit(main())
