"""Bulk embedding with a GPU: files a second from FLAC, in threads and in processes."""

import tempfile
import time
from pathlib import Path

import numpy as np
import soundfile

from benchmarks.gpu.piece import Plot, Table, Tables, number, one_line, parse
from serving.backends.backend_choice import runs_on_gpu
from serving.cores import usable_cores
from serving.embedder import Embedder

RATE_HZ, SECONDS, DISTINCT = 16_000, 5, 64


def write_files(folder: Path) -> list[Path]:
    """Noise of changing loudness, which FLAC compresses about as well as recordings of nature."""
    rng = np.random.default_rng(0)
    paths = []
    for i in range(DISTINCT):
        loudness = 0.05 + 0.05 * np.sin(np.linspace(0, 12 + i, RATE_HZ * SECONDS))
        path = folder / f"{i:03d}.flac"
        soundfile.write(path, loudness * rng.standard_normal(RATE_HZ * SECONDS), RATE_HZ)
        paths.append(path)
    return paths


def main() -> None:
    """Measure and write the table."""
    options = parse("bulk", "bundle")
    tables = Tables(options.json)
    cores = usable_cores()
    backend = "onnxruntime" if options.device == "cuda" else "auto"
    rows: list[list[str]] = []
    rates: dict[str, float] = {}
    with tempfile.TemporaryDirectory(prefix="unheard-bulk-") as folder:
        paths = write_files(Path(folder))
        for precision in ("fp16", "fp32") if options.device == "cuda" else ("fp32",):
            embedder = Embedder.load(options.bundle, backend, precision)
            if options.device == "cuda" and not runs_on_gpu(embedder.runtime):
                raise SystemExit("the CUDA provider does not work here")
            embedder.warm_up()
            embedder.embed_files(paths)
            for processes, few, many in _ways(precision, options.device, options.quick, min(cores, 16)):
                name = f"{precision}, " + ("threads" if processes == 1 else f"{processes} processes")
                try:
                    short, long = (_seconds(embedder, paths * count, processes) for count in (few, many))
                except Exception as error:  # of any kind: the other ways are measured all the same
                    rows.append([name, "-", "-", one_line(error)])
                    tables.put(_table(rows, rates, cores))
                    continue
                files = f"{many * len(paths):,} in {long:.1f} s"
                if long > short:
                    rates[name] = (many - few) * len(paths) / (long - short)
                rate = number(rates[name]) if name in rates else "-"
                rows.append([name, rate, number(many * len(paths) / long), files])
                tables.put(_table(rows, rates, cores))


def _ways(precision: str, device: str, quick: bool, most: int) -> list[tuple[int, int, int]]:
    """Numbers of processes, each with how often the files are given in a short and in a long job."""
    if quick:
        return [(1, 1, 2), (2, 1, 2)]
    if device == "cpu":
        return [(1, 1, 4), (max(2, most), most, 4 * most)]
    two = [(2, 8, 24)] if precision == "fp16" and most > 2 else []  # to see what more of them gain
    return [(1, 8, 24), *two, (most, 60, 260)]


def _table(rows: list[list[str]], rates: dict[str, float], cores: int) -> Table:
    bars = {name: [(0.0, rate)] for name, rate in rates.items()}
    head = ["way", "files/s", "with the start", "files"]
    notes = (
        f"FLAC of {SECONDS} s, {RATE_HZ} Hz; {cores} cores",
        "files/s: from the difference of a long and a short job",
    )
    plot = Plot("bulk", "", "files/s", bars, True)
    return Table("Bulk: Embedder.embed_files", head, rows, notes, plot, rates | {"cores": float(cores)})


def _seconds(embedder: Embedder, paths: list[Path], processes: int) -> float:
    started = time.perf_counter()
    embedder.embed_files(paths, processes=processes)
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
