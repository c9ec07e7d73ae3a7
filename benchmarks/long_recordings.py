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
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import tyro
from rich.table import Table

from benchmarks.host import read_host
from benchmarks.inputs import check_range, parse_names
from benchmarks.long_formats import FORMATS, RATE_HZ, LongFormat, write_recording
from benchmarks.study import make_folder, write_json, write_text
from serving.audio import cut_windows, read_audio, to_mono
from serving.command_line import run_command, say, show
from serving.embedder import Embedder
from serving.errors import UsageError
from serving.extras import pip_install

SHORT_S = 5.0
N_SHORT = 100
TEN_S = 10.0
LEAST_HOURS = 0.001


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

    hours        of the long file as it was written, which in whole minutes may be others than were asked for
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
    check_range("--hours", options.hours, LEAST_HOURS, 1000)
    check_range("--whole-minutes", options.whole_minutes, 60 * LEAST_HOURS, 600)
    suffixes = [each.suffix[1:] for each in FORMATS]
    wanted = parse_names("--formats", options.formats or ",".join(suffixes), suffixes)
    if "m4a" in wanted and find_spec("av") is None:
        others = ",".join(suffix for suffix in suffixes if suffix != "m4a")
        raise UsageError(f"--formats: m4a cannot be written here: {pip_install('formats')}; or give --formats {others}")
    if options.folder is not None and not options.folder.is_dir():
        raise UsageError(f"--folder: got {options.folder}, which is not there; give a folder with room for recordings")
    Embedder.load(options.bundle, options.backend)  # a wrong one is told before hours of sound are written
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
    with tempfile.TemporaryDirectory(dir=options.folder, prefix="long-recordings-") as name:
        folder = Path(name)
        long, ten, middle = (folder / f"{part}{kind.suffix}" for part in ("long", "ten", "middle"))
        say(f"{kind.name}: writing {options.hours * kind.share:g} h")
        write = partial(write_recording, kind)
        seconds = write(long, options.hours * kind.share * 3600)
        write(ten, TEN_S)
        write(middle, min(options.whole_minutes * 60, seconds))
        (folder / "short").mkdir()
        for i in range(N_SHORT):
            write(folder / "short" / f"{i}{kind.suffix}", SHORT_S)
        say(f"{kind.name}: embedding")
        of_long, of_ten = _run("embed", long, options), _run("embed", ten, options)
        of_short = _run("embed", folder / "short", options)
        worst = _run("compare", middle, options)["worst"]
        return LongRow(
            format=kind.name,
            hours=seconds / 3600,
            megabytes=long.stat().st_size / 1e6,
            peak_mb=of_long["peak_mb"],
            more_mb=of_long["peak_mb"] - of_ten["peak_mb"],
            hours_a_second=seconds / 3600 / of_long["seconds"],
            short_hours_a_second=N_SHORT * SHORT_S / 3600 / of_short["seconds"],
            worst=worst,
        )


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
    "recording": lambda row: f"{row.format}, {row.hours:.5g} h",
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
