"""Measure how much of this machine's arithmetic the networks use: achieved GFLOP/s beside a measured peak.

    python -m benchmarks.efficiency bundles/yamnet bundles/yamnet-compact bundles/vggish

A FLOP is a multiplication or an addition: two for each multiply-accumulate, counted in the graphs (convolutions and
matrix products; nothing else counts). The peak is the fastest matrix product found here, in FP32 and with the same
threads, of NumPy's BLAS and, where it is installed, of PyTorch. All take turns.
"""

import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
import onnx
import tyro
from numpy.typing import NDArray
from rich.progress import Progress
from threadpoolctl import threadpool_limits

from benchmarks.efficiency_report import HEAD, EfficiencyRow, plot_efficiency, table_lines
from benchmarks.flags import at_least
from benchmarks.graphs import count_work, front_end_graph, network_graph
from benchmarks.machine import this_machine
from benchmarks.report import make_folder, write_report
from benchmarks.runtimes import CPU_RUNTIMES, missing, open_graph
from benchmarks.timing import Job, time_in_turns
from serving.bundle import Bundle, open_bundle
from serving.command import progress_console, run_command
from serving.cores import usable_cores
from serving.errors import UsageError

GEMM_SIZES = (1024, 2048)  # of square matrices: the best counts
WARM_UP = 3
PARTS = ("front end", "network")


@dataclass(frozen=True)
class Options:
    """Measure GFLOP/s of each bundle's front end and network in FP32 on each CPU backend, beside a matrix product."""

    bundles: Annotated[tuple[Path, ...], tyro.conf.Positional] = ()
    """bundle folders"""
    batch: int = 8
    """windows in one call"""
    repeats: int = 20
    """how often each job is timed"""
    threads: int | None = None
    """of every runtime; default: the physical cores that this process may use"""
    out: Path = Path("runs/efficiency")
    """where efficiency.json, .csv, .md and .png go, replacing older ones"""


class Key(NamedTuple):
    """What was timed: a part of a bundle's model on a backend."""

    bundle: str
    part: str
    backend: str


def gemm_jobs() -> dict[str, tuple[int, Callable[[], object]]]:
    """Square products in FP32 by library and size: (FLOP, call)."""
    jobs: dict[str, tuple[int, Callable[[], object]]] = {}
    for size in GEMM_SIZES:
        left, right = np.random.default_rng(0).standard_normal((2, size, size), np.float32)
        out = np.empty_like(left)
        jobs[f"NumPy {size}"] = 2 * size**3, partial(np.matmul, left, right, out=out)
        if find_spec("torch"):
            jobs[f"PyTorch {size}"] = 2 * size**3, _torch_product(left, right)
    return jobs


def _torch_product(left: NDArray[np.float32], right: NDArray[np.float32]) -> Callable[[], object]:
    import importlib

    torch = importlib.import_module("torch")  # only where it is installed: nothing here needs it
    a, b = torch.from_numpy(left), torch.from_numpy(right)
    return partial(torch.mm, a, b, out=torch.empty_like(a))


def model_jobs(
    bundles: Sequence[Bundle], batch: int, threads: int, folder: Path
) -> tuple[dict[Key, Job], dict[Key, int]]:
    """Front end and network of each bundle on each backend that works here, and the multiply-accumulates of a window.

    folder  a temporary one, for the networks without their front ends
    """
    jobs: dict[Key, Job] = {}
    macs: dict[Key, int] = {}
    rng = np.random.default_rng(0)
    for i, bundle in enumerate(bundles):
        window = bundle.manifest.window
        waves = 0.1 * rng.standard_normal((batch, window.samples), np.float32)
        graphs = dict(zip(PARTS, (front_end_graph(bundle), network_graph(bundle)), strict=True))
        given = {"front end": waves}
        for part, graph in graphs.items():
            path = folder / f"{i}-{part}.onnx"
            onnx.save(graph, str(path))
            for backend in CPU_RUNTIMES:
                if missing(backend, []) is None:
                    runtime = open_graph(path, backend, threads, folder)
                    if part == "front end" and "network" not in given:
                        given["network"] = runtime(waves)  # [batch, frames, 64]
                    key = Key(bundle.folder.resolve().name, part, backend)
                    macs[key] = count_work(graph).macs
                    jobs[key] = Job(lambda turn, batch=given[part]: batch, runtime)
    return jobs, macs


def make_rows(
    durations_ns: Mapping[Any, NDArray[np.int64]],
    macs: Mapping[Key, int],
    networks: Mapping[str, str],
    batch: int,
    peak_gflops: float,
) -> list[EfficiencyRow]:
    """A row for each key, by medians. networks: of the bundles."""
    rows = []
    for key, count in macs.items():
        nanoseconds = float(np.median(durations_ns[key]))
        gflops = 2 * count * batch / nanoseconds
        rows.append(
            EfficiencyRow(
                key.bundle, networks[key.bundle], key.part, key.backend, count, nanoseconds / 1e6, gflops,
                gflops / peak_gflops,
            )
        )  # fmt: skip
    return rows


def measure(options: Options) -> dict[str, Any]:
    """Time everything, write the files, and return what is printed as JSON."""
    if not options.bundles:
        raise UsageError("BUNDLES: got none; wanted bundle folders, made with: python -m export.onnx")
    at_least("--batch", options.batch, 1, 1024)
    at_least("--repeats", options.repeats, 1)
    at_least("--threads", options.threads, 1, 1024)
    load_before = os.getloadavg()[0]
    bundles = [open_bundle(folder) for folder in options.bundles]
    threads = options.threads or usable_cores()
    make_folder(options.out)
    with threadpool_limits(threads), tempfile.TemporaryDirectory(prefix="unheard-efficiency-") as folder:
        products = gemm_jobs()
        models, macs = model_jobs(bundles, options.batch, threads, Path(folder))
        jobs: dict[Any, Job] = {
            name: Job(lambda turn: None, lambda _, work=work: work()) for name, (_, work) in products.items()
        }
        with Progress(console=progress_console, auto_refresh=False) as progress:
            bar = progress.add_task("warm-up, then timing", total=WARM_UP + options.repeats)
            on_round = partial(progress.update, bar, advance=1, refresh=True)
            durations_ns = time_in_turns(jobs | models, options.repeats, WARM_UP, on_round)
    peaks = {name: flop / float(np.median(durations_ns[name])) for name, (flop, _) in products.items()}
    fastest = max(peaks, key=lambda name: peaks[name])
    networks = {bundle.folder.resolve().name: bundle.manifest.network for bundle in bundles}
    rows = make_rows(durations_ns, macs, networks, options.batch, peaks[fastest])
    machine = this_machine()
    result = {
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": asdict(machine) | {"load_average_before": round(load_before, 2)},
        "settings": {"threads": threads, "batch": options.batch, "repeats": options.repeats},
        "peaks_gflops": peaks,
        "peak": fastest,
        "peak_gflops": peaks[fastest],
        "rows": [asdict(row) for row in rows],
        "out": str(options.out),
    }
    notes = [
        f"batches of {options.batch} windows, {threads} threads, median of {options.repeats}, taking turns",
        f"peak: {peaks[fastest]:.0f} GFLOP/s, a product of square matrices, {fastest} ("
        + ", ".join(f"{name}: {value:.0f}" for name, value in peaks.items())
        + ")",
        f"{machine}; load average before: {load_before:.2f}",
    ]
    title = f"achieved GFLOP/s in FP32, {threads} threads"
    plot = partial(plot_efficiency, rows, peaks[fastest], title, notes)
    write_report("efficiency", rows, result, title, HEAD, table_lines(rows, options.batch), plot, notes, options.out)
    return result


def main(argv: Sequence[str] | None = None) -> int:
    """The command."""
    return run_command(Options, measure, "python -m benchmarks.efficiency", argv)


if __name__ == "__main__":
    raise SystemExit(main())
