"""What a measurement of compute efficiency leaves behind: a row for each part of a model, a table and a picture."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from matplotlib.figure import Figure

from benchmarks.report import COLOURS, GREY, save_figure, shown, style
from benchmarks.runtimes import CPU_RUNTIMES


@dataclass(frozen=True)
class EfficiencyRow:
    """One part of a model on one backend.

    macs           multiply-accumulates of one window
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


HEAD = ("part, one window", "MMAC", "ms", "GFLOP/s", "of peak")


def table_lines(rows: Sequence[EfficiencyRow], batch: int) -> list[list[str]]:
    """The cells under `HEAD`. batch: windows that p50_ms is of."""
    return [
        [
            f"{row.network} {row.part}, {row.backend}",
            f"{row.macs / 1e6:.1f}",
            shown(row.p50_ms / batch),
            f"{row.gflops:.1f}",
            f"{100 * row.share_of_peak:.0f} %",
        ]
        for row in rows
    ]


def plot_efficiency(
    rows: Sequence[EfficiencyRow], peak_gflops: float, title: str, notes: Sequence[str], out: Path
) -> None:
    """A bar for each part and backend, the peak as a line. Written as PNG."""
    figure = Figure(figsize=(9, 1.8 + 0.3 * len(rows)), layout="constrained")
    axes = figure.subplots()
    axes.set_title(title, fontsize=11)
    colours: dict[str, str] = dict(zip(CPU_RUNTIMES, COLOURS, strict=False))
    places = range(len(rows))
    axes.barh(places, [row.gflops for row in rows], 0.65, color=[colours[row.backend] for row in rows])
    for place, row in zip(places, rows, strict=True):
        axes.annotate(f"{row.gflops:.0f}", (row.gflops, place), (4, 0), textcoords="offset points", va="center",
                      fontsize=8)  # fmt: skip
    axes.axvline(peak_gflops, color=GREY, linestyle="--")
    axes.annotate(f"matrix product: {peak_gflops:.0f}", (peak_gflops, -0.7), (-4, 0), textcoords="offset points",
                  ha="right", va="center", fontsize=8, color=GREY)  # fmt: skip
    axes.set_yticks(places, [f"{row.network} {row.part}, {row.backend}" for row in rows], fontsize=8)
    axes.set_ylim(len(rows) - 0.4, -1.1)
    axes.set_xlim(0, 1.1 * max(peak_gflops, *(row.gflops for row in rows)))
    axes.set_xlabel("GFLOP/s")
    style(axes)
    save_figure(figure, notes, out)
