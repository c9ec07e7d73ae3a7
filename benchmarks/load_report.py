"""What was measured of each load, what is told of it, and its picture."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.loops import Run, Sample
from benchmarks.report import ACCENT, BLUE, save_figure, shown, style

FAIR = 3.0  # p99 of those accepted under overload, of p99 at capacity
AT_ONCE_MS = 50.0  # in which the others are refused, at the median
NEARLY_ALL = 0.95  # of the greatest throughput: the knee is where the first load reaches that


@dataclass(frozen=True)
class LoadRow:
    """One load.

    loop                closed: so many connections, each with one request at a time; open: so many arrive a second
    connections, rate   of the one or of the other
    requests            that were answered in any way
    per_second          requests answered 200, each second
    p50_ms .. p99_ms    of those answered 200; None where none was
    refused             429; refused_p50_ms of them, retry_after_s the median of their headers
    failed              any other answer than 200 and 429, and none
    late_p99_ms         requests were sent so late by the load program itself
    resident_mb         of the server after this load; None where it is on another machine
    """

    loop: str
    connections: int | None
    rate: float | None
    seconds: float
    requests: int
    per_second: float
    p50_ms: float | None
    p95_ms: float | None
    p99_ms: float | None
    refused: int
    refused_p50_ms: float | None
    retry_after_s: float | None
    failed: int
    late_p99_ms: float
    resident_mb: float | None


def make_row(run: Run, resident_mb: float | None, connections: int | None = None, rate: float | None = None) -> LoadRow:
    """The row of a run with so many connections, or at so many requests a second."""
    answered = [sample for sample in run.samples if sample.status == 200]
    refused = [sample for sample in run.samples if sample.status == 429]
    waits = [sample.retry_after for sample in refused if sample.retry_after is not None]
    return LoadRow(
        loop="open" if connections is None else "closed",
        connections=connections,
        rate=rate,
        seconds=round(run.seconds, 3),
        requests=len(run.samples),
        per_second=round(len(answered) / run.seconds, 2),
        p50_ms=_percentile(answered, 50),
        p95_ms=_percentile(answered, 95),
        p99_ms=_percentile(answered, 99),
        refused=len(refused),
        refused_p50_ms=_percentile(refused, 50),
        retry_after_s=float(np.median(waits)) if waits else None,
        failed=len(run.samples) - len(answered) - len(refused),
        late_p99_ms=round(1000 * float(np.percentile([sample.late_s for sample in run.samples] or [0.0], 99)), 3),
        resident_mb=None if resident_mb is None else round(resident_mb, 1),
    )


def codes(run: Run) -> dict[str, int]:
    """How many answers had each status; "none" for those that never came."""
    return {str(code) if code else "none": n for code, n in sorted(Counter(s.status for s in run.samples).items())}


def _percentile(samples: Sequence[Sample], which: float) -> float | None:
    return round(1000 * float(np.percentile([s.seconds for s in samples], which)), 3) if samples else None


def find_knee(rows: Sequence[LoadRow]) -> LoadRow | None:
    """The least load that reaches nearly the greatest throughput: beyond it requests only wait longer."""
    closed = [row for row in rows if row.loop == "closed"]
    most = max((row.per_second for row in closed), default=0.0)
    return next((row for row in closed if row.per_second >= NEARLY_ALL * most > 0), None)


def overload_of(capacity: LoadRow, overloaded: LoadRow) -> dict[str, Any]:
    """How an overloaded server treats those whom it accepts and those whom it refuses."""
    ratio = overloaded.p99_ms / capacity.p99_ms if overloaded.p99_ms and capacity.p99_ms else None
    refused_ms = overloaded.refused_p50_ms
    return {
        "times": round((overloaded.rate or 0.0) / capacity.per_second, 2),
        "p99_ratio": None if ratio is None else round(ratio, 2),
        "refused_p50_ms": refused_ms,
        "failed": overloaded.failed,
        "passed": ratio is not None
        and ratio <= FAIR
        and refused_ms is not None
        and refused_ms < AT_ONCE_MS
        and overloaded.failed == 0,
    }


def overload_told(overload: Mapping[str, Any]) -> str:
    """The same in a line."""
    word = "passed" if overload["passed"] else "FAILED"
    return (
        f"{overload['times']:g} times the capacity: p99 of those accepted is {overload['p99_ratio']} times that at "
        f"capacity, the others got 429 after {overload['refused_p50_ms']} ms at the median, {overload['failed']} "
        f"failed: {word}"
    )


HEAD = ("load", "answered/s", "p50 ms", "p95 ms", "p99 ms", "429", "429 p50 ms", "failed", "MB")


def table_lines(rows: Sequence[LoadRow]) -> list[list[str]]:
    """A line a load, the knee named: the cells under `HEAD`."""
    knee = find_knee(rows)
    return [
        [
            load_of(row) + (" (knee)" if row is knee else ""),
            *(shown(value) for value in (row.per_second, row.p50_ms, row.p95_ms, row.p99_ms)),
            str(row.refused),
            shown(row.refused_p50_ms),
            str(row.failed),
            shown(row.resident_mb),
        ]
        for row in rows
    ]


def load_of(row: LoadRow) -> str:
    """What was asked of the server, in words."""
    return f"{row.connections} at a time" if row.loop == "closed" else f"{row.rate:g} a second"


def plot_load(rows: Sequence[LoadRow], title: str, notes: Sequence[str], out: Path) -> None:
    """Throughput against p99, by connections and by rate, the knee marked. Written as PNG."""
    figure = Figure(figsize=(7.5, 4.8), layout="constrained")
    figure.suptitle(title, fontsize=11)
    axes = figure.subplots()
    for loop, colour, told in (
        ("closed", BLUE, "closed loop, connections"),
        ("open", ACCENT, "open loop, requests a second"),
    ):
        drawn = [row for row in rows if row.loop == loop and row.p99_ms]
        if drawn:
            axes.plot(
                [row.per_second for row in drawn],
                [row.p99_ms or 0.0 for row in drawn],
                "o-" if loop == "closed" else "s",
                color=colour,
                label=told,
            )
            for row in drawn:
                _label(axes, row, colour)
    knee = find_knee(rows)
    if knee and knee.p99_ms:
        told = f"knee: {knee.connections} connections, {shown(knee.per_second)}/s at p99 {shown(knee.p99_ms)} ms"
        axes.plot(knee.per_second, knee.p99_ms, "o", markersize=15, fillstyle="none", color=BLUE, label=told)
    axes.set(xlabel="answered, requests a second", ylabel="p99 of the answered, ms", yscale="log")
    axes.margins(y=0.12)
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_formatter("{x:g}")
    axes.set_xlim(0, 1.15 * max((row.per_second for row in rows), default=1.0) or 1.0)
    style(axes)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(frameon=False, fontsize=9)
    save_figure(figure, notes, out)


def _label(axes: Axes, row: LoadRow, colour: str) -> None:
    told = f"{row.connections}" if row.loop == "closed" else f"{row.rate:.0f}"
    axes.annotate(
        told, (row.per_second, row.p99_ms or 0.0), (6, 5), textcoords="offset points", color=colour, fontsize=9
    )
