"""Measure memory, speed and exactness of embedding long recordings.

    python -m benchmarks.long_recordings bundles/first
    python -m benchmarks.long_recordings bundles/first --hours 0.1

Each format gets a long recording, which is written block by block, and a recording of ten seconds. Each is embedded in
a process of its own; what the long one takes more, at its peak, is the memory that the length costs. The same sound
in files of five seconds gives the speed of short files. The rows of a recording of --whole-minutes are compared with
those of the same file decoded whole, resampled at once and cut into windows at once.
"""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import soundfile
import tyro
from numpy.typing import NDArray
from rich.table import Table

from benchmarks.host import read_host
from benchmarks.looped_recordings import write_mp3, write_ogg
from benchmarks.study import make_folder, write_json, write_text
from serving.audio import cut_windows, read_audio, to_mono
from serving.command_line import run_command, say, show
from serving.embedder import Embedder
from serving.errors import UsageError

RATE_HZ = 48_000
BLOCK_S = 20  # seconds of sound that are repeated: the cost does not depend on what sounds
SHORT_S = 5.0
N_SHORT = 100
TEN_S = 10.0
LOOP_S = 60.0


@dataclass(frozen=True)
class LongFormat:
    """A format of long recordings. share: of --hours; the others are written as `file_format` and `subtype`."""

    name: str
    suffix: str
    file_format: str
    subtype: str
    share: float


FORMATS = (
    LongFormat("WAV (RF64), 16 bit", ".wav", "RF64", "PCM_16", 1.0),
    LongFormat("W64, 16 bit", ".w64", "W64", "PCM_16", 1 / 8),
    LongFormat("FLAC, 16 bit", ".flac", "FLAC", "PCM_16", 1 / 8),
    LongFormat("MP3", ".mp3", "MP3", "MPEG_LAYER_III", 1 / 8),
    LongFormat("OGG Vorbis", ".ogg", "OGG", "VORBIS", 1 / 8),
    LongFormat("M4A (AAC)", ".m4a", "", "", 1 / 8),
)


@dataclass(frozen=True)
class Options:
    """Measure memory, speed and exactness of embedding long recordings, all 48 kHz stereo."""

    bundle: Annotated[Path, tyro.conf.Positional]
    """the bundle folder"""
    hours: float = 24.0
    """length of the WAV file in hours; the other formats get an eighth of it"""
    whole_minutes: float = 20.0
    """length of the recording that is also decoded whole, in minutes: that takes 25 MB a minute and more"""
    backend: str = "auto"
    """auto, onnxruntime, openvino or tensorrt"""
    formats: str = ""
    """suffixes of the formats, separated by commas, such as wav,flac; default: all; m4a needs the extra `formats`"""
    folder: Path | None = None
    """folder for the recordings, which are removed afterwards; default: the system's temporary folder"""
    out: Path = Path("runs/long-recordings")
    """folder for long-recordings.json and long-recordings.md"""
    work: Literal["all", "embed", "compare"] = "all"
    """embed, compare: measure one file, --folder, in this process; used by the command itself"""


@dataclass(frozen=True)
class LongRow:
    """One format.

    megabytes    size of the long file
    peak_mb      maximum of resident memory with it; more_mb: minus that with a recording of ten seconds
    hours_a_second, short_hours_a_second   hours of sound embedded in a second, of the long file and of short ones
    worst        greatest absolute difference of an embedding from whole decoding; None: not measured
    """

    format: str
    hours: float
    megabytes: float
    peak_mb: float
    more_mb: float
    hours_a_second: float
    short_hours_a_second: float
    worst: float | None


def measure(options: Options) -> dict[str, Any]:
    """Run the command."""
    if options.work == "embed":
        return _embed(options)
    if options.work == "compare":
        return _compare(options)
    if not 0 < options.hours <= 1000 or not 0 < options.whole_minutes <= 600:
        raise UsageError("--hours, --whole-minutes: got a number out of range; wanted up to 1000 hours, 600 minutes")
    wanted = options.formats.split(",") if options.formats else [each.suffix[1:] for each in FORMATS]
    unknown = set(wanted) - {each.suffix[1:] for each in FORMATS}
    if unknown:
        raise UsageError(f"--formats: got {', '.join(sorted(unknown))}; wanted some of wav,w64,flac,mp3,ogg,m4a")
    if options.folder is not None and not options.folder.is_dir():
        raise UsageError(f"--folder: got {options.folder}, which is not there; give a folder with room for recordings")
    make_folder(options.out)
    rows: list[LongRow] = []
    for each in FORMATS:
        if each.suffix[1:] in wanted:
            rows.append(_measure_format(each, options))
            record = {"rows": [asdict(row) for row in rows], "host": asdict(read_host()), "bundle": options.bundle.name}
            write_json(record, options.out / "long-recordings.json")
            write_text(_markdown(rows), options.out / "long-recordings.md")
    _show(rows)
    return {"rows": [asdict(row) for row in rows], "out": str(options.out)}


def _measure_format(kind: LongFormat, options: Options) -> LongRow:
    hours = options.hours * kind.share
    with tempfile.TemporaryDirectory(dir=options.folder, prefix="long-recordings-") as name:
        folder = Path(name)
        long, ten, middle = (folder / f"{part}{kind.suffix}" for part in ("long", "ten", "middle"))
        say(f"{kind.name}: writing {hours:g} h")
        write = partial(write_recording, kind)
        write(long, hours * 3600)
        write(ten, TEN_S)
        write(middle, min(options.whole_minutes * 60, hours * 3600))
        (folder / "short").mkdir()
        for i in range(N_SHORT):
            write(folder / "short" / f"{i}{kind.suffix}", SHORT_S)
        say(f"{kind.name}: embedding")
        of_long, of_ten = _run("embed", long, options), _run("embed", ten, options)
        of_short = _run("embed", folder / "short", options)
        worst = _run("compare", middle, options)["worst"]
        return LongRow(
            format=kind.name,
            hours=hours,
            megabytes=long.stat().st_size / 1e6,
            peak_mb=of_long["peak_mb"],
            more_mb=of_long["peak_mb"] - of_ten["peak_mb"],
            hours_a_second=hours / of_long["seconds"],
            short_hours_a_second=N_SHORT * SHORT_S / 3600 / of_short["seconds"],
            worst=worst,
        )


def write_recording(kind: LongFormat, path: Path, seconds: float) -> None:
    """Write `seconds` of repeated noise and tones, block by block; MP3 and OGG in whole minutes, or less than one."""
    looped = {".mp3": write_mp3, ".ogg": write_ogg}.get(kind.suffix)
    if looped:
        minute = np.concatenate(list(_blocks(min(seconds, LOOP_S))))
        looped(path, minute, RATE_HZ, max(1, round(seconds / LOOP_S)))
        return
    write = _write_m4a if kind.suffix == ".m4a" else partial(_write_with_soundfile, kind)
    write(path, _blocks(seconds))


def _blocks(seconds: float) -> Iterator[NDArray[np.int16]]:
    """Stereo sound [n_samples, 2] in 16 bits; every second block is half as loud."""
    rng = np.random.default_rng(0)
    time_s = np.arange(BLOCK_S * RATE_HZ) / RATE_HZ
    tone = 0.2 * np.sin(2 * np.pi * (300 + 50 * time_s) * time_s)[:, None]
    loud = (2**15 * (tone + 0.05 * rng.standard_normal((len(time_s), 2)))).astype(np.int16)
    both, left = (loud, loud // 2), round(seconds * RATE_HZ)
    for number in range(-(-left // len(loud))):
        yield both[number % 2][: left - number * len(loud)]


def _write_with_soundfile(kind: LongFormat, path: Path, blocks: Iterator[NDArray[np.int16]]) -> None:
    with soundfile.SoundFile(path, "w", RATE_HZ, 2, kind.subtype, format=kind.file_format) as file:
        for block in blocks:
            file.write(block)


def _write_m4a(path: Path, blocks: Iterator[NDArray[np.int16]]) -> None:
    import av

    with av.open(str(path), "w", format="ipod") as output:
        stream = output.add_stream("aac", rate=RATE_HZ, layout="stereo", bit_rate=128_000)
        fitter = av.AudioResampler("fltp", "stereo", RATE_HZ, 1024)
        at = 0
        for block in blocks:
            frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(block).reshape(1, -1), "s16", "stereo")
            frame.sample_rate, frame.pts, at = RATE_HZ, at, at + len(block)
            for piece in fitter.resample(frame):
                output.mux(stream.encode(piece))
        for piece in fitter.resample(None):
            output.mux(stream.encode(piece))
        output.mux(stream.encode(None))


def _run(work: str, path: Path, options: Options) -> dict[str, Any]:
    """Measure one file in a process of its own."""
    line = [sys.executable, "-m", "benchmarks.long_recordings", str(options.bundle), "--work", work]
    line += ["--folder", str(path), "--backend", options.backend]
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    if done.returncode:
        raise UsageError(f"{path.name}: {(done.stderr.strip().splitlines() or ['ended without a word'])[-1]}")
    return json.loads(done.stdout.splitlines()[-1])


def _embed(options: Options) -> dict[str, Any]:
    """Seconds and peak memory of embedding a file, or all files of a folder, after one call that warms up."""
    assert options.folder
    embedder = Embedder.load(options.bundle, options.backend)
    embedder.embed(np.zeros(RATE_HZ, np.float32), RATE_HZ)
    paths = sorted(options.folder.iterdir()) if options.folder.is_dir() else [options.folder]
    start = time.perf_counter()
    embedder.embed_files(paths)
    seconds = time.perf_counter() - start
    return {"seconds": seconds, "peak_mb": peak_mb()}


def peak_mb() -> float:
    """The maximum of this process's resident memory so far, in MB of 1 000 000 bytes. Linux only."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 / 1e6 for line in lines if line.startswith("VmHWM"))


def _compare(options: Options) -> dict[str, Any]:
    """The greatest difference of the streamed rows from those of whole decoding."""
    assert options.folder
    embedder = Embedder.load(options.bundle, options.backend)
    with embedder.stream(options.folder) as stream:
        streamed = np.concatenate([block.rows for block in stream])
    window = embedder.manifest.window
    whole = cut_windows(to_mono(*read_audio(options.folder), window.rate_hz), window)
    rows = np.concatenate(
        [embedder.run(whole[i : i + embedder.max_batch]) for i in range(0, len(whole), embedder.max_batch)]
    )
    if rows.shape != streamed.shape:
        raise UsageError(f"streaming gave {len(streamed)} windows, whole decoding {len(rows)}")
    return {"worst": float(np.abs(rows - streamed).max())}


COLUMNS: dict[str, Callable[[LongRow], str]] = {
    "recording": lambda row: f"{row.format}, {row.hours:g} h",
    "size, MB": lambda row: f"{row.megabytes:,.0f}",
    "peak memory, MB": lambda row: f"{row.peak_mb:.0f}",
    "above a 10 s file, MB": lambda row: f"{row.more_mb:+.0f}",
    "hours of sound a second": lambda row: f"{row.hours_a_second:.3f}",
    "the same in files of 5 s": lambda row: f"{row.short_hours_a_second:.3f}",
    "worst difference from whole decoding": lambda row: "-" if row.worst is None else f"{row.worst:.1g}",
}


def _markdown(rows: Sequence[LongRow]) -> str:
    lines = ["| " + " | ".join(COLUMNS) + " |", "|" + "---|" * len(COLUMNS)]
    lines += ["| " + " | ".join(cell(row) for cell in COLUMNS.values()) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def _show(rows: Sequence[LongRow]) -> None:
    table = Table(*COLUMNS)
    for row in rows:
        table.add_row(*(cell(row) for cell in COLUMNS.values()))
    show(table, "long recordings")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command. Returns the exit code."""
    return run_command(Options, measure, "python -m benchmarks.long_recordings", argv)


if __name__ == "__main__":
    raise SystemExit(main())
