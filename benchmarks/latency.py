"""Measure where the milliseconds between a sound file and its embedding go, on this machine.

    python -m benchmarks.latency bundles/first

Stages: decode (bytes to samples), resample (mono, 16 kHz, cut into windows), front_end (frontend.onnx alone), model
(embedder.onnx: front end and network), network (derived: the median of model less that of front_end), and whole
(bytes to embeddings, one after the other in one thread as one request is served). Each starts with the runtime's
threads at rest, so a server under constant load can differ. Writes latency.json and latency.png.
"""

import io
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Annotated, Any, TypeVar

import numpy as np
import soundfile
import tyro
from numpy.typing import NDArray
from rich.progress import Progress

from benchmarks.machine import this_machine
from benchmarks.report import make_folder, make_rows, report
from benchmarks.timing import Job, time_in_turns
from serving.audio import FORMATS, SUFFIXES, decode_audio
from serving.backends.onnxruntime import OnnxRuntime
from serving.bundle import Bundle
from serving.command import progress_console, run_command
from serving.embedder import MAX_BATCH, Embedder, pool_clips, usable_cores
from serving.errors import AudioError, BundleError, DataError, UsageError

RATE_HZ = 44_100  # of the synthesised clips
WARM_UP = 3  # rounds: the runtime settles its memory and threads in the first one or two
LARGEST_BATCH = 1024  # clips
MOST_SECONDS = 3600  # of sound in one batch: 0.6 GB of samples
DISTINCT = 32  # clips to take in turn, so that no result rests on one of them
DISTINCT_SECONDS = 600  # of synthesised sound in all of them

Thing = TypeVar("Thing")


@dataclass(frozen=True)
class Options:
    """Measure p50, p95 and p99 in milliseconds by stage and batch, and clips a second."""

    bundle: Annotated[Path, tyro.conf.Positional]
    """the bundle folder that export.onnx wrote"""
    batch: str = "1,8,32"
    """clips in one call, with commas between; the model gets at most 32 windows at once, as in serving"""
    repeats: int = 30
    """how often each stage is timed at each batch, after 3 rounds of warm-up; take 100 or more for a p99"""
    seconds: float = 5.0
    """length of the synthesised 44.1 kHz clips, in seconds; recordings keep theirs"""
    recordings: Path | None = None
    """measure on the first 32 sound files of this folder and its subfolders, as they are; default: synthesised clips"""
    threads: int | None = None
    """of one inference; default: the cores that this process may use"""
    out: Path | None = None
    """where latency.json and latency.png go, replacing older ones; default: runs/latency-BUNDLE"""


@dataclass(frozen=True)
class Clips:
    """The same clips as each stage takes them.

    encoded   file bytes
    decoded   (wave [n_samples, n_channels] float32, rate in Hz)
    windows   [n_windows, samples] float32
    """

    encoded: list[bytes]
    decoded: list[tuple[NDArray[np.float32], int]]
    windows: list[NDArray[np.float32]]

    @property
    def seconds(self) -> list[float]:
        """The length of each."""
        return [len(wave) / rate_hz for wave, rate_hz in self.decoded]


def check(options: Options) -> list[int]:
    """The batch sizes, smallest first. UsageError for a flag out of its range, with what it takes."""
    try:
        batches = sorted({int(part) for part in options.batch.split(",")})
    except ValueError:
        batches = [0]
    if not 1 <= batches[0] <= batches[-1] <= LARGEST_BATCH:
        raise UsageError(f"--batch: got {options.batch}; wanted clips, 1 to {LARGEST_BATCH}, with commas: 1,8,32")
    if not options.repeats >= 1:
        raise UsageError(f"--repeats: got {options.repeats}; wanted 1 or more")
    if not 0 < options.seconds * batches[-1] <= MOST_SECONDS:
        most = f"{MOST_SECONDS / batches[-1]:g} in batches of {batches[-1]}"
        raise UsageError(f"--seconds: got {options.seconds:g}; wanted more than 0 and at most {most}")
    if options.threads is not None and not options.threads >= 1:
        raise UsageError(f"--threads: got {options.threads}; wanted 1 or more")
    return batches


def synthesise(seconds: float, rng: np.random.Generator) -> bytes:
    """A tone in noise: a 16-bit mono WAV file of at least one sample at 44.1 kHz."""
    time = np.arange(max(1, round(seconds * RATE_HZ))) / RATE_HZ
    wave = 0.3 * np.sin(2 * np.pi * rng.uniform(200, 4_000) * time) + 0.1 * rng.standard_normal(len(time))
    file = io.BytesIO()
    soundfile.write(file, wave, RATE_HZ, format="WAV", subtype="PCM_16")
    return file.getvalue()


def read_recordings(folder: Path) -> dict[str, bytes]:
    """Path and bytes of the first sound files below `folder`. DataError: no such folder, or none in it."""
    if not folder.is_dir():
        raise DataError(f"--recordings: {folder}: no such folder; give one with {FORMATS} files")
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
    if not paths:
        raise DataError(f"--recordings: {folder}: has no {FORMATS} file; give a folder with some")
    try:
        return {str(path): path.read_bytes() for path in paths[:DISTINCT]}
    except OSError as error:
        raise AudioError(f"{error.filename}: cannot be read ({error.strerror}); make it readable") from error


def load_clips(options: Options) -> tuple[list[bytes], list[tuple[NDArray[np.float32], int]]]:
    """The clips to measure on, encoded and decoded. AudioError naming a recording that cannot be decoded."""
    if options.recordings is None:
        rng = np.random.default_rng(0)
        n_clips = max(1, min(DISTINCT, int(DISTINCT_SECONDS / options.seconds)))
        files = {f"clip {i}": synthesise(options.seconds, rng) for i in range(n_clips)}
    else:
        files = read_recordings(options.recordings)
    return list(files.values()), [decode_audio(data, name) for name, data in files.items()]


def embed_clips(embedder: Embedder, encoded: Sequence[bytes]) -> NDArray[np.float32]:
    """The timed whole: bytes of n files -> embeddings [n, 128] float32, their windows joined in one batch."""
    windows = [embedder.windows(*decode_audio(data)) for data in encoded]
    rows = embedder.run(np.concatenate(windows))  # [n_windows of all, 128]
    return pool_clips(rows, [len(part) for part in windows])


def stage_jobs(embedder: Embedder, front_end: OnnxRuntime, clips: Clips, batch: int) -> dict[tuple[str, int], Job]:
    """What is timed at one batch size, by (stage, batch). Every turn takes the next clips, and all stages the same."""

    def next_of(things: Sequence[Thing]) -> Callable[[int], list[Thing]]:
        return lambda turn: [things[(turn * batch + i) % len(things)] for i in range(batch)]

    def next_windows(turn: int) -> NDArray[np.float32]:
        return np.concatenate(next_of(clips.windows)(turn))

    # As in the whole, a clip's samples are let go before the next one's are made.
    def decode(files: list[bytes]) -> None:
        for data in files:
            decode_audio(data)

    def resample(waves: list[tuple[NDArray[np.float32], int]]) -> None:
        for wave, rate_hz in waves:
            embedder.windows(wave, rate_hz)

    def log_mel(windows: NDArray[np.float32]) -> None:
        for i in range(0, len(windows), MAX_BATCH):
            front_end(windows[i : i + MAX_BATCH])

    return {
        ("decode", batch): Job(next_of(clips.encoded), decode),
        ("resample", batch): Job(next_of(clips.decoded), resample),
        ("front_end", batch): Job(next_windows, log_mel),
        ("model", batch): Job(next_windows, embedder.run),
        ("whole", batch): Job(next_of(clips.encoded), lambda files: embed_clips(embedder, files)),
    }


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
    batches = check(options)
    load_before = os.getloadavg()[0]
    threads = options.threads or usable_cores()
    encoded, decoded = load_clips(options)
    embedder = Embedder.load(options.bundle, "onnxruntime", threads=threads)
    parity = read_parity(embedder.bundle)
    # The embedder's own front end runs on one thread: too slow to be taken from the model's time.
    front_end = OnnxRuntime(embedder.bundle.path("frontend.onnx"), threads)
    clips = Clips(encoded, decoded, [embedder.windows(*clip) for clip in decoded])
    name = options.bundle.resolve().name
    out = options.out or Path("runs") / f"latency-{name}"
    make_folder(out)

    jobs = {key: job for batch in batches for key, job in stage_jobs(embedder, front_end, clips, batch).items()}
    # Drawn between rounds only: a thread that redraws would be timed too.
    with Progress(console=progress_console, auto_refresh=False) as progress:
        bar = progress.add_task("warm-up, then timing", total=WARM_UP + options.repeats)
        on_round = partial(progress.update, bar, advance=1, refresh=True)
        durations_ns = time_in_turns(jobs, options.repeats, WARM_UP, on_round)

    runtime = f"{front_end.name} {front_end.version}, {front_end.providers[0]}, {threads} threads"
    seconds = np.percentile(clips.seconds, (0, 50, 100))
    windows = float(np.mean([len(part) for part in clips.windows]))
    rows = make_rows(durations_ns, windows, round(float(seconds[1]), 3), runtime, parity["worst_cosine"])
    machine = this_machine()
    result = {
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": asdict(machine) | {"load_average_before": round(load_before, 2)},
        "bundle": {
            "name": name,
            "network": embedder.manifest.network,
            "embedding_space": embedder.manifest.embedding_space,
            "window_samples": embedder.manifest.window.samples,
            "parity": parity,
        },
        "settings": {"repeats": options.repeats, "warm_up": WARM_UP, "threads": threads, "batches": batches},
        "clips": {
            "source": str(options.recordings or "synthesised, 16-bit WAV"),
            "distinct": len(clips.encoded),
            "seconds": [round(float(value), 3) for value in seconds],
            "rates_hz": sorted({rate_hz for _, rate_hz in clips.decoded}),
        },
        "rows": [asdict(row) for row in rows],
        "out": str(out),
    }
    report(rows, result, machine, out)
    return result


def main(argv: Sequence[str] | None = None) -> int:
    """The command."""
    return run_command(Options, measure, "python -m benchmarks.latency", argv)


if __name__ == "__main__":
    raise SystemExit(main())
