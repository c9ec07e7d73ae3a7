"""Measure how much of this machine's arithmetic the networks use: achieved GFLOP/s beside a measured peak.

    python -m benchmarks.efficiency bundles/yamnet bundles/yamnet-compact bundles/vggish

A FLOP is a multiplication or an addition. Each multiply-accumulate of a convolution or matrix product in the graph
counts as two; nothing else counts. The peak is the fastest FP32 matrix product measured here with the same threads, by
NumPy's BLAS and, if it is installed, by PyTorch. All jobs take turns.
"""

import importlib
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
import onnx
import tyro
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from benchmarks.bundle_parts import CPU_BACKENDS, count_work, front_end_graph, network_graph, open_graph, why_missing
from benchmarks.inputs import bundle_name, check_range, open_bundles
from benchmarks.study import ACCENT, BLUE, GREY, Study, TextTable, digits, style_axes
from benchmarks.turns import TimedJob, time_jobs
from serving.bundle.bundle import Bundle
from serving.command_line import run_command
from serving.cores import usable_cores

GEMM_SIZES = (1024, 2048)  # of the square matrices; the fastest product is the peak
WARM_UP = 3
PARTS = ("front end", "network")
COLOURS: dict[str, str] = dict(zip(CPU_BACKENDS, (BLUE, ACCENT), strict=True))


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
    """threads of every runtime; default: the physical cores that this process may use"""
    out: Path = Path("runs/efficiency")
    """folder for efficiency.json, .csv, .md and .png, which are replaced"""


class PartKey(NamedTuple):
    """What was timed: a part of a bundle's model on a backend."""

    bundle: str
    part: str
    backend: str


@dataclass(frozen=True)
class EfficiencyRow:
    """One part of a model on one backend.

    macs           multiply-accumulates for one window
    p50_ms         of a batch
    gflops         achieved, 10^9 FLOP a second
    share_of_peak  of the fastest matrix product
    """

    bundle: str
    network: str
    part: str
    backend: str
    macs: int
    p50_ms: float
    gflops: float
    share_of_peak: float

    @property
    def label(self) -> str:
        """Network, part and backend."""
        return f"{self.network} {self.part}, {self.backend}"


def matrix_products() -> dict[str, tuple[int, Callable[[], object]]]:
    """Square FP32 products by library and size: (FLOP, call)."""
    products: dict[str, tuple[int, Callable[[], object]]] = {}
    for size in GEMM_SIZES:
        left, right = np.random.default_rng(0).standard_normal((2, size, size), np.float32)
        products[f"NumPy {size}"] = 2 * size**3, partial(np.matmul, left, right, out=np.empty_like(left))
        if find_spec("torch"):
            products[f"PyTorch {size}"] = 2 * size**3, _torch_product(left, right)
    return products


def _torch_product(left: NDArray[np.float32], right: NDArray[np.float32]) -> Callable[[], object]:
    torch = importlib.import_module("torch")  # optional: this benchmark also runs without it
    a, b = torch.from_numpy(left), torch.from_numpy(right)
    return partial(torch.mm, a, b, out=torch.empty_like(a))


def part_jobs(
    bundles: Sequence[Bundle], batch: int, threads: int, folder: Path
) -> tuple[dict[PartKey, TimedJob], dict[PartKey, int]]:
    """Front end and network of each bundle on each backend that works here, and the multiply-accumulates of a window.

    folder  temporary, for the networks without their front ends
    """
    jobs: dict[PartKey, TimedJob] = {}
    macs: dict[PartKey, int] = {}
    rng = np.random.default_rng(0)
    for i, bundle in enumerate(bundles):
        waves = 0.1 * rng.standard_normal((batch, bundle.manifest.window.samples), np.float32)
        inputs = {"front end": waves}
        for part, graph in zip(PARTS, (front_end_graph(bundle), network_graph(bundle)), strict=True):
            path = folder / f"{i}-{part}.onnx"
            onnx.save(graph, str(path))
            for backend in CPU_BACKENDS:
                if why_missing(backend, []) is not None:
                    continue
                runtime = open_graph(path, backend, threads, folder)
                if part == "front end" and "network" not in inputs:
                    inputs["network"] = runtime(waves)  # [batch, frames, 64]
                key = PartKey(bundle_name(bundle), part, backend)
                macs[key] = count_work(graph).macs
                jobs[key] = TimedJob(lambda turn, given=inputs[part]: given, runtime)
    return jobs, macs


def measure_efficiency(options: Options) -> dict[str, Any]:
    """Time everything, write the files, and return what is printed as JSON."""
    check_range("--batch", options.batch, 1, 1024)
    check_range("--repeats", options.repeats, 1, 10**6)
    check_range("--threads", options.threads, 1, 1024)
    bundles = open_bundles(options.bundles)
    threads = options.threads or usable_cores()
    study = Study("efficiency", options.out)
    with threadpool_limits(threads), tempfile.TemporaryDirectory(prefix="unheard-efficiency-") as folder:
        products = matrix_products()
        parts, macs = part_jobs(bundles, options.batch, threads, Path(folder))
        gemms = {name: TimedJob(lambda turn: None, lambda _, call=call: call()) for name, (_, call) in products.items()}
        jobs: dict[Any, TimedJob] = {**gemms, **parts}
        durations_ns = time_jobs(jobs, options.repeats, WARM_UP)
    peaks = {name: flop / float(np.median(durations_ns[name])) for name, (flop, _) in products.items()}
    fastest = max(peaks, key=lambda name: peaks[name])
    networks = {bundle_name(bundle): bundle.manifest.network for bundle in bundles}
    rows = efficiency_rows(durations_ns, macs, networks, options.batch, peaks[fastest])
    record = study.record(
        settings={"threads": threads, "batch": options.batch, "repeats": options.repeats},
        peaks_gflops=peaks,
        peak=fastest,
        peak_gflops=peaks[fastest],
        rows=[asdict(row) for row in rows],
    )
    all_peaks = ", ".join(f"{name}: {value:.0f}" for name, value in peaks.items())
    notes = [
        f"batches of {options.batch} windows, {threads} threads, median of {options.repeats} runs, taking turns",
        f"peak: {peaks[fastest]:.0f} GFLOP/s, a product of square matrices by {fastest} ({all_peaks})",
    ]
    table = efficiency_table(rows, options.batch)
    study.write(record, rows, [table], notes, lambda: plot_efficiency(rows, peaks[fastest], threads))
    return record


def efficiency_rows(
    durations_ns: Mapping[Any, NDArray[np.int64]],
    macs: Mapping[PartKey, int],
    networks: Mapping[str, str],
    batch: int,
    peak_gflops: float,
) -> list[EfficiencyRow]:
    """A row for each key, from medians. networks: bundle -> network."""
    rows = []
    for key, count in macs.items():
        nanoseconds = float(np.median(durations_ns[key]))
        gflops = 2 * count * batch / nanoseconds
        share = gflops / peak_gflops
        rows.append(EfficiencyRow(key.bundle, networks[key.bundle], key.part, key.backend, count, nanoseconds / 1e6,
                                  gflops, share))  # fmt: skip
    return rows


def efficiency_table(rows: Sequence[EfficiencyRow], batch: int) -> TextTable:
    """Milliseconds and multiply-accumulates are those of one window. batch: windows behind `p50_ms`."""
    lines = [
        [
            row.label,
            f"{row.macs / 1e6:.1f}",
            digits(row.p50_ms / batch),
            f"{row.gflops:.1f}",
            f"{100 * row.share_of_peak:.0f} %",
        ]
        for row in rows
    ]
    return TextTable("achieved GFLOP/s in FP32", ("part, one window", "MMAC", "ms", "GFLOP/s", "of peak"), lines)


def plot_efficiency(rows: Sequence[EfficiencyRow], peak_gflops: float, threads: int) -> Figure:
    """A bar for each part and backend; the peak is a dashed line."""
    figure = Figure(figsize=(9, 2.0 + 0.3 * len(rows)), layout="constrained")
    axes = figure.subplots()
    places = range(len(rows))
    axes.barh(places, [row.gflops for row in rows], 0.65, color=[COLOURS[row.backend] for row in rows])
    for place, row in zip(places, rows, strict=True):
        label = f"{row.gflops:.0f} ({100 * row.share_of_peak:.0f} %)"
        axes.annotate(label, (row.gflops, place), (4, 0), textcoords="offset points", va="center", fontsize=8)
    line = axes.axvline(peak_gflops, color=GREY, linestyle="--", label=f"matrix product: {peak_gflops:.0f} GFLOP/s")
    keys = [Patch(color=COLOURS[name], label=name) for name in CPU_BACKENDS if any(r.backend == name for r in rows)]
    figure.legend(handles=[*keys, line], loc="outside upper center", ncols=3, frameon=False, fontsize=9,
                  title=f"Achieved arithmetic in FP32 with {threads} threads, and its share of the peak",
                  title_fontsize=11)  # fmt: skip
    axes.set_yticks(places, [f"{row.network} {row.part}" for row in rows], fontsize=8)
    axes.invert_yaxis()
    axes.set_xlim(0, 1.15 * max(peak_gflops, *(row.gflops for row in rows)))
    axes.set_xlabel("GFLOP/s (more is better)")
    style_axes(axes)
    return figure


main = partial(run_command, Options, measure_efficiency, "python -m benchmarks.efficiency")

if __name__ == "__main__":
    raise SystemExit(main())
