"""Measure the time between a sound file and its embedding, by stage, for every backend and precision.

    python -m benchmarks.latency bundles/first
    python -m benchmarks.latency bundles/first --threads 1,2 --backends onnxruntime,openvino --precisions fp32

Stages: decode (bytes to samples), resample (mono, 16 kHz, cut into windows), front end (log-mel, timed alone, as this
backend computes it for this precision), network (derived: median of the model minus median of its front end), pooling
(windows to clips). The percentiles are those of the whole way from bytes to embeddings, one batch after the other.
Every job starts with the runtimes' threads idle, and all configurations take turns, so that a drift in the machine's
speed affects all of them alike. Parity is the lowest cosine of any window with ONNX Runtime's FP32 embeddings.
"""

import json
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro

from benchmarks.bundle_parts import MEASURED_BACKENDS, REFERENCE_BACKEND, open_model
from benchmarks.inputs import bundle_name, check_range, input_clips, parse_names, parse_numbers
from benchmarks.latency_jobs import Settings, StagedClips, open_embedders, stage_jobs
from benchmarks.latency_report import latency_tables, plot_latency, stage_rows, summarise_rows
from benchmarks.study import Study
from benchmarks.turns import time_jobs
from serving.bundle.bundle import Bundle, open_bundle
from serving.bundle.bundle_files import BF16, PRECISIONS
from serving.command_line import run_command
from serving.cores import usable_cores
from serving.cosine import worst_cosine
from serving.embedder import Embedder
from serving.errors import BundleError, UsageError

WARM_UP = 3  # rounds: the runtimes allocate memory and start threads in the first one or two
LARGEST_BATCH = 1024  # clips
MOST_SECONDS = 3600  # of sound in one batch: 0.6 GB of samples
MOST_THREADS = 1024


@dataclass(frozen=True)
class Options:
    """Measure p50, p95 and p99 in milliseconds by stage, backend, precision, batch and threads, and clips a second."""

    bundle: Annotated[Path, tyro.conf.Positional]
    """the bundle folder that export.onnx wrote"""
    backends: str | None = None
    """onnxruntime, openvino, onnxruntime-cuda, onnxruntime-tensorrt, tensorrt, separated by commas; default: all that
    work on this machine"""
    precisions: str | None = None
    """fp32, fp16, int8, separated by commas, and bf16: fp32 on OpenVINO in bfloat16; default: all that the bundle has
    and this CPU computes"""
    batch: str = "1,8,32"
    """clips in one call, separated by commas; the model gets as many windows at once as in serving"""
    threads: str | None = None
    """threads of one inference, separated by commas; default: the physical cores that this process may use"""
    repeats: int = 30
    """how often each job is timed at each batch size, after 3 rounds of warm-up; use 100 or more for a p99"""
    seconds: float = 5.0
    """length of the synthesised 44.1 kHz clips, in seconds; recordings keep their own"""
    recordings: Path | None = None
    """measure on the first 32 sound files of this folder and its subfolders, unchanged; default: synthesised clips"""
    out: Path | None = None
    """folder for latency.json, .csv, .md and .png, which are replaced; default: runs/latency-BUNDLE"""


def check_options(options: Options, bundle: Bundle) -> Settings:
    """The configurations to measure. UsageError: a flag is out of its range."""
    batches = parse_numbers("--batch", options.batch, "1,8,32", int, LARGEST_BATCH)
    check_range("--repeats", options.repeats, 1, 10**6)
    if not 0 < options.seconds * batches[-1] <= MOST_SECONDS:
        most = f"{MOST_SECONDS / batches[-1]:g} in batches of {batches[-1]}"
        raise UsageError(f"--seconds: got {options.seconds:g}; wanted more than 0 and at most {most}")
    threads = [usable_cores()]
    if options.threads:
        threads = parse_numbers("--threads", options.threads, "1,2", int, MOST_THREADS)
    backends = parse_names("--backends", options.backends or ",".join(MEASURED_BACKENDS), MEASURED_BACKENDS)
    precisions = [*bundle.manifest.models, BF16]
    if options.precisions:
        precisions = parse_names("--precisions", options.precisions, [*PRECISIONS, BF16])
        for precision in precisions:
            bundle.model(precision)
    return Settings(backends, precisions, batches, threads)


def describe_runtimes(embedders: Sequence[tuple[str, Embedder]]) -> dict[str, str]:
    """Backend -> its version and each device that it ran on: "2026.4.1, CPU, f32; CPU, bf16"."""
    found: dict[str, list[str]] = {}
    for backend, each in embedders:
        parts = found.setdefault(backend, [f"{each.runtime.version}, {each.runtime.providers[0]}"])
        if (device := each.runtime.providers[0]) not in "; ".join(parts):
            parts.append(device)
    return {backend: "; ".join(parts) for backend, parts in found.items()}


def read_parity(bundle: Bundle) -> dict[str, Any]:
    """The bundle's own parity record of ONNX Runtime's FP32 model. BundleError: there is none."""
    path = bundle.path("parity.json")
    try:
        record = json.loads(path.read_bytes())
        measured = [row for row in record["results"] if (row["backend"], row["precision"]) == ("onnxruntime", "fp32")]
        worst = min(float(row["worst_cosine"]) for row in measured)
        return {"reference": record["reference"], "candidate": "onnxruntime, fp32", "worst_cosine": worst}
    except (ValueError, TypeError, KeyError) as error:
        raise BundleError(f"{path}: not a record of parity ({error}); export the bundle again") from error


def measure_latency(options: Options) -> dict[str, Any]:
    """Time every stage, write the files, and return what is printed as JSON."""
    bundle = open_bundle(options.bundle)
    settings = check_options(options, bundle)
    parity = read_parity(bundle)
    source = input_clips(options.recordings, options.seconds)
    decoded = source.decode()
    study = Study("latency", options.out or Path("runs") / f"latency-{bundle_name(bundle)}")
    with tempfile.TemporaryDirectory(prefix="unheard-latency-") as folder:
        cache = Path(folder)
        embedders, not_measured = open_embedders(settings, bundle, study.host.gpus, cache, options.backends is not None)
        clips = StagedClips(
            list(source.encoded.values()), decoded, [embedders[0][1].windows(*clip) for clip in decoded]
        )
        everything = np.concatenate(clips.windows)
        threads = settings.threads[0]
        runtime = open_model(bundle, REFERENCE_BACKEND, "fp32", threads, cache)
        reference = Embedder(bundle, runtime, "fp32", threads).run(everything)
        cosines = {
            (backend, each.precision, each.threads): worst_cosine(each.run(everything), reference)
            for backend, each in embedders
        }
        jobs = stage_jobs(embedders, clips, settings.batches, cache)
        durations_ns = time_jobs(jobs, options.repeats, WARM_UP)
    rows = stage_rows(durations_ns, float(np.mean([len(part) for part in clips.windows])), cosines)
    summaries = summarise_rows(rows)
    manifest = bundle.manifest
    record = study.record(
        bundle={
            "name": bundle_name(bundle),
            "network": manifest.network,
            "embedding_space": manifest.embedding_space,
            "window_samples": manifest.window.samples,
            "parity": parity,
        },
        settings={"repeats": options.repeats, "warm_up": WARM_UP, **asdict(settings)},
        runtimes=describe_runtimes(embedders),
        not_measured=not_measured,
        clips={
            "source": source.source,
            "distinct": len(source),
            "seconds": [round(float(value), 3) for value in np.percentile(clips.seconds, (0, 50, 100))],
            "rates_hz": sorted({rate_hz for _, rate_hz in decoded}),
        },
        rows=[asdict(row) for row in rows],
        summaries=[asdict(each) for each in summaries],
    )
    plot = partial(plot_latency, {bundle_name(bundle): summaries})
    study.write(record, rows, latency_tables(summaries, manifest.network), describe_conditions(record), plot)
    return record


def describe_conditions(record: dict[str, Any]) -> list[str]:
    """What the numbers depend on, one line each."""
    clips, settings, parity = record["clips"], record["settings"], record["bundle"]["parity"]
    least, median, most = clips["seconds"]
    span = f"{median:g} s" if least == most else f"{least:g} to {most:g} s (median {median:g})"
    few = f"; p99 of {settings['repeats']} is close to the slowest" if settings["repeats"] < 100 else ""
    skipped = "; ".join(f"{name} ({why})" for name, why in record["not_measured"].items())
    return [
        f"{clips['distinct']} clips of {span}, {'/'.join(map(str, clips['rates_hz']))} Hz, {clips['source']}",
        f"{settings['repeats']} runs of each job after {settings['warm_up']} rounds of warm-up, taking turns, each "
        f"from rest{few}",
        "network: median of the model minus median of its front end",
        f"parity: lowest cosine of a window with ONNX Runtime in FP32 on these clips; that model's own lowest cosine "
        f"with {parity['reference']} is {parity['worst_cosine']:.7f}",
        *([f"not measured: {skipped}"] if skipped else []),
        "; ".join(f"{name} {version}" for name, version in record["runtimes"].items()),
    ]


main = partial(run_command, Options, measure_latency, "python -m benchmarks.latency")

if __name__ == "__main__":
    raise SystemExit(main())
