"""The row of a load, the verdict on an overload, and their table and figure."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from benchmarks.http_client import LoadRun, Sample
from benchmarks.study import ACCENT, BLUE, TextTable, digits, style_axes

FAIR_RATIO = 3.0  # largest p99 of the accepted requests under overload, relative to p99 at capacity
PROMPT_MS = 50.0  # largest median time until a refusal
KNEE_SHARE = 0.95  # of the greatest throughput: the knee is the smallest load that reaches it


@dataclass(frozen=True)
class LoadRow:
    """One load.

    loop                closed: `connections` with one request at a time each; open: `rate` requests arrive a second
    requests            with any kind of answer
    per_second          requests answered 200, each second
    p50_ms .. p99_ms    of those answered 200; None where there are none
    refused             answered 429; refused_p50_ms and retry_after_s are medians over them
    failed              any other answer, or none
    late_p99_ms         delay of the load program itself before it sent a request
    resident_mb         of the server after this load; None where it runs on another machine
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

    @property
    def label(self) -> str:
        """The load in words."""
        return f"{self.connections} at a time" if self.loop == "closed" else f"{self.rate:g} a second"


def load_row(
    run: LoadRun, resident_mb: float | None, connections: int | None = None, rate: float | None = None
) -> LoadRow:
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
        p50_ms=_percentile_ms(answered, 50),
        p95_ms=_percentile_ms(answered, 95),
        p99_ms=_percentile_ms(answered, 99),
        refused=len(refused),
        refused_p50_ms=_percentile_ms(refused, 50),
        retry_after_s=float(np.median(waits)) if waits else None,
        failed=len(run.samples) - len(answered) - len(refused),
        late_p99_ms=round(1000 * float(np.percentile([sample.late_s for sample in run.samples] or [0.0], 99)), 3),
        resident_mb=None if resident_mb is None else round(resident_mb, 1),
    )


def _percentile_ms(samples: Sequence[Sample], which: float) -> float | None:
    return round(1000 * float(np.percentile([s.seconds for s in samples], which)), 3) if samples else None


def count_statuses(run: LoadRun) -> dict[str, int]:
    """How many answers had each status; "none" counts the requests without one."""
    return {str(code) if code else "none": n for code, n in sorted(Counter(s.status for s in run.samples).items())}


def find_knee(rows: Sequence[LoadRow]) -> LoadRow | None:
    """The smallest load with nearly the greatest throughput: with more connections, requests only wait longer."""
    closed = [row for row in rows if row.loop == "closed"]
    most = max((row.per_second for row in closed), default=0.0)
    return next((row for row in closed if row.per_second >= KNEE_SHARE * most > 0), None)


def judge_overload(capacity: LoadRow, overloaded: LoadRow) -> dict[str, Any]:
    """Whether an overloaded server stays fair to accepted requests and refuses the others promptly.

    capacity  the largest closed loop;  overloaded  an open loop beyond its throughput
    """
    ratio = overloaded.p99_ms / capacity.p99_ms if overloaded.p99_ms and capacity.p99_ms else None
    refused_ms = overloaded.refused_p50_ms
    return {
        "times": round((overloaded.rate or 0.0) / capacity.per_second, 2),
        "p99_ratio": None if ratio is None else round(ratio, 2),
        "refused_p50_ms": refused_ms,
        "failed": overloaded.failed,
        "passed": ratio is not None
        and ratio <= FAIR_RATIO
        and refused_ms is not None
        and refused_ms < PROMPT_MS
        and overloaded.failed == 0,
    }


def describe_overload(overload: Mapping[str, Any]) -> str:
    """The verdict in one sentence."""
    return (
        f"{overload['times']:g} times the capacity: p99 of the accepted requests is {overload['p99_ratio']} times that "
        f"at capacity, the others got 429 after {overload['refused_p50_ms']} ms (median), {overload['failed']} failed: "
        f"{'passed' if overload['passed'] else 'FAILED'}"
    )


def load_table(rows: Sequence[LoadRow], title: str) -> TextTable:
    """A line for each load; the knee is marked."""
    knee = find_knee(rows)
    lines = [
        [
            row.label + (" (knee)" if row is knee else ""),
            *(digits(value) for value in (row.per_second, row.p50_ms, row.p95_ms, row.p99_ms)),
            str(row.refused),
            digits(row.refused_p50_ms),
            str(row.failed),
            digits(row.resident_mb),
        ]
        for row in rows
    ]
    head = ("load", "answered/s", "p50 ms", "p95 ms", "p99 ms", "429", "429 p50 ms", "failed", "MB")
    return TextTable(title, head, lines)


def plot_load(rows: Sequence[LoadRow], title: str) -> Figure:
    """Throughput against p99, by connections and by rate; the knee is circled."""
    figure = Figure(figsize=(7.5, 4.8), layout="constrained")
    axes = figure.subplots()
    for loop, colour, mark, label in (
        ("closed", BLUE, "o-", "closed loop; numbers: simultaneous connections"),
        ("open", ACCENT, "s", "open loop; numbers: arrivals a second"),
    ):
        drawn = [row for row in rows if row.loop == loop and row.p99_ms]
        places = [row.per_second for row in drawn], [row.p99_ms or 0.0 for row in drawn]
        if drawn:
            axes.plot(*places, mark, color=colour, label=label)
        for row, x, y in zip(drawn, *places, strict=True):
            number = f"{row.connections}" if loop == "closed" else f"{row.rate:.0f}"
            axes.annotate(number, (x, y), (7, 6), textcoords="offset points", color=colour, fontsize=9)
    knee = find_knee(rows)
    if knee and knee.p99_ms:
        label = (
            f"knee: {knee.connections} connections, {digits(knee.per_second)} a second, p99 {digits(knee.p99_ms)} ms"
        )
        axes.plot(knee.per_second, knee.p99_ms, "o", markersize=15, fillstyle="none", color=BLUE, label=label)
    axes.set(title=title, xlabel="answered requests a second", ylabel="p99 of answered requests, ms", yscale="log")
    axes.margins(y=0.12)
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_formatter("{x:g}")
    axes.set_xlim(0, 1.15 * max((row.per_second for row in rows), default=1.0) or 1.0)
    style_axes(axes)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(frameon=False, fontsize=9, loc="upper left")
    return figure
