"""Measure where the milliseconds between a sound file and its embedding go, for every backend and precision.

    python -m benchmarks.latency bundles/first
    python -m benchmarks.latency bundles/first --threads 1,2 --backends onnxruntime,openvino --precisions fp32

Stages: decode (bytes to samples), resample (mono, 16 kHz, cut into windows), front end (log-mel, alone, as this
backend computes it for this precision), network (derived: the median of the model less that of its front end), pooling
(windows to clips). The percentiles are of the whole, bytes to embeddings, one batch after the other as one request is
served. Each job starts with the runtimes' threads at rest, and all configurations take turns, so that a drift of the
machine hits all alike. Parity is the worst window's cosine with ONNX Runtime's FP32 embeddings of the same clips.
"""

import json
import os
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro
from rich.progress import Progress

from benchmarks.clips import gather_clips, told
from benchmarks.configurations import Settings, make_jobs, open_all
from benchmarks.flags import at_least, names, numbers
from benchmarks.latency_plots import plot_latency
from benchmarks.latency_rows import (
    STAGE_HEAD,
    WHOLE_HEAD,
    Summary,
    make_rows,
    stage_lines,
    summarise,
    whole_lines,
)
from benchmarks.machine import Machine, this_machine
from benchmarks.report import bullets, make_folder, tell, to_csv, to_markdown, to_table, write_json, write_text
from benchmarks.runtimes import REFERENCE, RUNTIMES, open_model
from benchmarks.stages import Clips
from benchmarks.timing import time_in_turns
from serving.agreement import worst_cosine
from serving.audio import decode_audio
from serving.bundle import BF16, PRECISIONS, Bundle, open_bundle
from serving.command import progress_console, run_command
from serving.cores import usable_cores
from serving.embedder import Embedder
from serving.errors import BundleError, UsageError

WARM_UP = 3  # rounds: the runtimes settle their memory and threads in the first one or two
LARGEST_BATCH = 1024  # clips
MOST_SECONDS = 3600  # of sound in one batch: 0.6 GB of samples
MOST_THREADS = 1024


@dataclass(frozen=True)
class Options:
    """Measure p50, p95 and p99 in milliseconds by stage, backend, precision, batch and threads, and clips a second."""

    bundle: Annotated[Path, tyro.conf.Positional]
    """the bundle folder that export.onnx wrote"""
    backends: str | None = None
    """onnxruntime, openvino, onnxruntime-cuda, onnxruntime-tensorrt, tensorrt, with commas between; default: all that
    work on this machine"""
    precisions: str | None = None
    """fp32, fp16, int8, with commas between, and bf16: fp32 with OpenVINO in bfloat16; default: all that the bundle has
    and this CPU computes"""
    batch: str = "1,8,32"
    """clips in one call, with commas between; the model gets as many windows at once as in serving"""
    threads: str | None = None
    """of one inference, with commas between; default: the physical cores that this process may use"""
    repeats: int = 30
    """how often each job is timed at each batch, after 3 rounds of warm-up; take 100 or more for a p99"""
    seconds: float = 5.0
    """length of the synthesised 44.1 kHz clips, in seconds; recordings keep theirs"""
    recordings: Path | None = None
    """measure on the first 32 sound files of this folder and its subfolders, as they are; default: synthesised clips"""
    out: Path | None = None
    """where latency.json, .csv, .md and .png go, replacing older ones; default: runs/latency-BUNDLE"""


def check(options: Options, bundle: Bundle) -> Settings:
    """UsageError for a flag out of its range, with what it takes."""
    batches = numbers("--batch", options.batch, "1,8,32", int, LARGEST_BATCH)
    at_least("--repeats", options.repeats, 1)
    if not 0 < options.seconds * batches[-1] <= MOST_SECONDS:
        most = f"{MOST_SECONDS / batches[-1]:g} in batches of {batches[-1]}"
        raise UsageError(f"--seconds: got {options.seconds:g}; wanted more than 0 and at most {most}")
    threads = numbers("--threads", options.threads, "1,2", int, MOST_THREADS) if options.threads else [usable_cores()]
    backends = names("--backends", options.backends or ",".join(RUNTIMES), RUNTIMES)
    precisions = [*bundle.manifest.models, BF16]
    if options.precisions:
        precisions = names("--precisions", options.precisions, [*PRECISIONS, BF16])
        for precision in precisions:
            bundle.model(precision)
    return Settings(backends, precisions, batches, threads)


def tell_runtimes(embedders: Sequence[tuple[str, Embedder]]) -> dict[str, str]:
    """Backend -> its version and what it ran on, each of them once: "2026.4.1, CPU, f32; CPU, bf16"."""
    providers: dict[str, list[str]] = {}
    for backend, each in embedders:
        told = providers.setdefault(backend, [f"{each.runtime.version}, {each.runtime.providers[0]}"])
        if (other := each.runtime.providers[0]) not in "; ".join(told):
            told.append(other)
    return {backend: "; ".join(told) for backend, told in providers.items()}


def read_parity(bundle: Bundle) -> dict[str, Any]:
    """What ONNX Runtime's FP32 model was compared with, and the worst cosine of its rows. BundleError: nothing."""
    path = bundle.path("parity.json")
    try:
        record = json.loads(path.read_bytes())
        measured = [row for row in record["results"] if (row["backend"], row["precision"]) == ("onnxruntime", "fp32")]
        worst = min(float(row["worst_cosine"]) for row in measured)
        return {"reference": record["reference"], "candidate": "onnxruntime, fp32", "worst_cosine": worst}
    except (ValueError, TypeError, KeyError) as error:
        raise BundleError(f"{path}: not a record of parity ({error}); export the bundle again") from error


def measure(options: Options) -> dict[str, Any]:
    """Time every stage, write the files, and return what is printed as JSON."""
    load_before = os.getloadavg()[0]
    bundle = open_bundle(options.bundle)
    settings = check(options, bundle)
    parity = read_parity(bundle)
    files = gather_clips(options.recordings, options.seconds)
    decoded = [decode_audio(data, name) for name, data in files.items()]
    machine = this_machine()
    with tempfile.TemporaryDirectory(prefix="unheard-latency-") as folder:
        cache = Path(folder)
        embedders, refused = open_all(settings, bundle, machine.gpus, cache, options.backends is not None)
        clips = Clips(list(files.values()), decoded, [embedders[0][1].windows(*clip) for clip in decoded])
        name = options.bundle.resolve().name
        out = options.out or Path("runs") / f"latency-{name}"
        make_folder(out)
        everything = np.concatenate(clips.windows)
        reference = Embedder(
            bundle, open_model(bundle, REFERENCE, "fp32", settings.threads[0], cache), "fp32", settings.threads[0]
        ).run(everything)
        cosines = {
            (backend, each.precision, each.threads): worst_cosine(each.run(everything), reference)
            for backend, each in embedders
        }
        jobs = make_jobs(embedders, clips, settings.batches, cache)
        # Drawn between rounds only: a thread that redraws would be timed too.
        with Progress(console=progress_console, auto_refresh=False) as progress:
            bar = progress.add_task("warm-up, then timing", total=WARM_UP + options.repeats)
            on_round = partial(progress.update, bar, advance=1, refresh=True)
            durations_ns = time_in_turns(jobs, options.repeats, WARM_UP, on_round)

    rows = make_rows(durations_ns, float(np.mean([len(part) for part in clips.windows])), cosines)
    summaries = summarise(rows)
    result = {
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": asdict(machine) | {"load_average_before": round(load_before, 2)},
        "bundle": {
            "name": name,
            "network": bundle.manifest.network,
            "embedding_space": bundle.manifest.embedding_space,
            "window_samples": bundle.manifest.window.samples,
            "parity": parity,
        },
        "settings": {"repeats": options.repeats, "warm_up": WARM_UP, **asdict(settings)},
        "runtimes": tell_runtimes(embedders),
        "not_measured": refused,
        "clips": {
            "source": told(options.recordings, options.seconds),
            "distinct": len(files),
            "seconds": [round(float(value), 3) for value in np.percentile(clips.seconds, (0, 50, 100))],
            "rates_hz": sorted({rate_hz for _, rate_hz in decoded}),
        },
        "rows": [asdict(row) for row in rows],
        "summaries": [asdict(each) for each in summaries],
        "out": str(out),
    }
    notes = describe(result, machine)
    title = f"{name} ({bundle.manifest.network}): files to embeddings"
    write_json(result, out / "latency.json")
    write_text(to_csv(rows), out / "latency.csv")
    write_text(markdown(summaries, notes), out / "latency.md")
    plot_latency(summaries, title, notes, out / "latency.png")
    written = f"written: {out}/latency.json, latency.csv, latency.md, latency.png"
    tell(
        [
            to_table(f"{title}: stages, medians in ms", STAGE_HEAD, stage_lines(summaries)),
            to_table("the whole, ms of the batch", WHOLE_HEAD, whole_lines(summaries)),
        ],
        [*notes, written],
    )
    return result


def markdown(summaries: Sequence[Summary], notes: Sequence[str]) -> str:
    """Both tables, and what they depend on below."""
    stages = to_markdown(STAGE_HEAD, stage_lines(summaries))
    return f"{stages}\n{to_markdown(WHOLE_HEAD, whole_lines(summaries))}\n{bullets(notes)}"


def describe(result: dict[str, Any], machine: Machine) -> list[str]:
    """What the numbers depend on, a line each."""
    clips, settings, parity = result["clips"], result["settings"], result["bundle"]["parity"]
    least, median, most = clips["seconds"]
    span = f"{median:g} s" if least == most else f"{least:g} to {most:g} s (median {median:g})"
    few = f", so p99 of {settings['repeats']} is nearly the slowest" if settings["repeats"] < 100 else ""
    load = result["machine"]["load_average_before"]
    busy = " (at work until just now: expect longer times where that goes on)" if load > machine.cores / 2 else ""
    refused = "; ".join(f"{name} ({why})" for name, why in result["not_measured"].items())
    return [
        f"{clips['distinct']} clips of {span}, {'/'.join(map(str, clips['rates_hz']))} Hz, {clips['source']}",
        f"n = {settings['repeats']} after {settings['warm_up']} rounds of warm-up, taking turns, each from rest{few}; "
        "network = median of model - median of front end",
        f"parity: worst window's cosine with ONNX Runtime in FP32 on these clips; that one's own, with "
        f"{parity['reference']}, is {parity['worst_cosine']:.7f}",
        *([f"not measured: {refused}"] if refused else []),
        "; ".join(f"{name} {told}" for name, told in result["runtimes"].items()),
        f"{machine}; load average before: {load:g}{busy}",
    ]


def main(argv: Sequence[str] | None = None) -> int:
    """The command."""
    return run_command(Options, measure, "python -m benchmarks.latency", argv)


if __name__ == "__main__":
    raise SystemExit(main())
