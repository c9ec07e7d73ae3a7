"""Measure what a resampler costs and what it does to embeddings: this project's filter bank beside soxr's qualities.

    python -m benchmarks.resamplers bundles/yamnet bundles/yamnet-compact --recordings DIR

Each resampler converts each clip to the model's rate. The embeddings are compared with those after soxr's very high
quality. All resamplers take turns and use one thread.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import soxr
import tyro
from numpy.typing import NDArray

from benchmarks.inputs import bundle_name, check_range, input_clips, open_bundles
from benchmarks.study import Study, TextTable, digits
from benchmarks.turns import TimedJob, percentiles, time_jobs
from serving.audio import cut_windows, to_mono
from serving.audio.resampling import resample
from serving.command_line import run_command
from serving.cosine import row_cosines
from serving.embedder import Embedder
from serving.pooling import pool

Wave = NDArray[np.float32]
Resampler = Callable[[Wave, int, int], Wave]  # wave, its rate and the wanted rate -> wave at the wanted rate

REFERENCE = "soxr VHQ"
WARM_UP = 2
CLIPS_A_JOB = 8  # so that a job lasts some milliseconds


@dataclass(frozen=True)
class Options:
    """Measure milliseconds a clip of each resampler, and how much it changes embeddings."""

    bundles: Annotated[tuple[Path, ...], tyro.conf.Positional] = ()
    """bundle folders; their FP32 models run on ONNX Runtime"""
    recordings: Path | None = None
    """the first sound files of this folder and its subfolders, unchanged; default: synthesised 44.1 kHz clips"""
    clips: int = 32
    """how many clips"""
    seconds: float = 5.0
    """length of the synthesised clips, in seconds"""
    repeats: int = 20
    """how often each resampler is timed"""
    out: Path = Path("runs/resamplers")
    """folder for resamplers.json, .csv and .md, which are replaced"""


@dataclass(frozen=True)
class ResamplerRow:
    """One resampler.

    ms              median of a clip
    worst, median   1 - cosine of a clip's embedding with that after `REFERENCE`, over clips and bundles
    same_first      share of clips whose first-ranked class stays the same
    """

    name: str
    ms: float
    worst: float
    median: float
    same_first: float


def resamplers() -> dict[str, Resampler]:
    """The resamplers by name."""

    def by_soxr(quality: str, wave: Wave, rate_hz: int, target_hz: int) -> Wave:
        return soxr.resample(wave, rate_hz, target_hz, quality=quality)

    found: dict[str, Resampler] = {"filter bank": resample}
    return found | {f"soxr {name}": partial(by_soxr, name) for name in ("VHQ", "HQ", "MQ", "LQ")}


def compare_embeddings(
    embedders: Sequence[Embedder], waves: Sequence[tuple[Wave, int]]
) -> dict[str, tuple[NDArray[np.float64], float]]:
    """For each resampler the cosines with `REFERENCE` [n_clips * n_bundles], and the share of unchanged first ranks."""
    cosines: dict[str, list[NDArray[np.float64]]] = {name: [] for name in resamplers()}
    same: dict[str, list[float]] = {name: [] for name in resamplers()}
    for embedder in embedders:
        window = embedder.manifest.window

        def embed(by: Resampler, wave: Wave, rate_hz: int, embedder=embedder, window=window) -> NDArray[np.float32]:
            return pool(embedder.run(cut_windows(by(wave, rate_hz, window.rate_hz), window)))

        rows = {name: np.stack([embed(by, *clip) for clip in waves]) for name, by in resamplers().items()}
        first = {name: embedder.zeroshot.scores(row).argmax(axis=1) for name, row in rows.items()}
        for name, row in rows.items():
            cosines[name].append(row_cosines(rows[REFERENCE], row))
            same[name].append(float(np.mean(first[name] == first[REFERENCE])))
    return {name: (np.concatenate(cosines[name]), float(np.mean(same[name]))) for name in cosines}


def resampler_job(by: Resampler, waves: Sequence[tuple[Wave, int]], target_hz: int) -> TimedJob:
    """Resample CLIPS_A_JOB clips, in each turn the next ones."""

    def work(clips: Sequence[tuple[Wave, int]]) -> None:
        for wave, rate_hz in clips:
            by(wave, rate_hz, target_hz)

    return TimedJob(lambda turn: [waves[(turn * CLIPS_A_JOB + i) % len(waves)] for i in range(CLIPS_A_JOB)], work)


def measure_resamplers(options: Options) -> dict[str, Any]:
    """Time and compare all resamplers, write the files, and return what is printed as JSON."""
    check_range("--clips", options.clips, 1, 10_000)
    check_range("--seconds", options.seconds, 0.1, 600)
    check_range("--repeats", options.repeats, 1, 10**6)
    bundles = open_bundles(options.bundles)
    clips = input_clips(options.recordings, options.seconds, options.clips)
    waves = [(to_mono(wave, rate_hz, rate_hz), rate_hz) for wave, rate_hz in clips.decode()]
    study = Study("resamplers", options.out)
    compared = compare_embeddings([Embedder.load(bundle.folder, "onnxruntime") for bundle in bundles], waves)
    target_hz = bundles[0].manifest.window.rate_hz
    jobs = {name: resampler_job(by, waves, target_hz) for name, by in resamplers().items()}
    durations_ns = time_jobs(jobs, options.repeats, WARM_UP)
    rows = [
        ResamplerRow(
            name,
            percentiles(durations_ns[name]).p50_ms / CLIPS_A_JOB,
            float(max(0.0, 1 - cosines.min())),
            float(max(0.0, 1 - np.median(cosines))),
            same,
        )
        for name, (cosines, same) in compared.items()
    ]
    record = study.record(
        bundles=[bundle_name(bundle) for bundle in bundles],
        clips={
            "source": clips.source,
            "distinct": len(waves),
            "rates_hz": sorted({rate_hz for _, rate_hz in waves}),
        },
        rows=[asdict(row) for row in rows],
    )
    notes = [
        f"{len(waves)} clips, {'/'.join(map(str, record['clips']['rates_hz']))} Hz to {target_hz} Hz, {clips.source}; "
        f"median of {options.repeats} jobs of {CLIPS_A_JOB} clips, taking turns, in one thread",
        f"1 - cosine of FP32 embeddings of {', '.join(record['bundles'])} with those after {REFERENCE}, and the share "
        "of clips whose first-ranked class is the same",
    ]
    study.write(record, rows, [resampler_table(rows)], notes)
    return record


def resampler_table(rows: Sequence[ResamplerRow]) -> TextTable:
    """Cost and effect of each resampler."""
    head = ("resampler", "ms a clip", "1 - worst cosine", "1 - median cosine", "same first rank")
    lines = [
        [row.name, digits(row.ms), f"{row.worst:.1e}", f"{row.median:.1e}", f"{100 * row.same_first:.1f} %"]
        for row in rows
    ]
    return TextTable("resamplers", head, lines)


main = partial(run_command, Options, measure_resamplers, "python -m benchmarks.resamplers")

if __name__ == "__main__":
    raise SystemExit(main())
