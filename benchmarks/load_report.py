"""What a load leaves behind: a table for people, load.csv, load.md and load.json for programs, load.png."""

import csv
import io
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from rich.table import Table

from benchmarks.loops import Run, Sample
from benchmarks.report import ACCENT, replace_file, write_json
from serving.command import console

BLUE = "#1f6feb"
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


def load_table(rows: Sequence[LoadRow], title: str) -> Table:
    """A line a load."""
    table = Table(title=title, title_justify="left")
    for column in ("load", "answered/s", "p50 ms", "p95 ms", "p99 ms", "429", "429 p50 ms", "failed", "MB"):
        table.add_column(column, justify="left" if column == "load" else "right", no_wrap=True)
    knee = find_knee(rows)
    for row in rows:
        table.add_row(
            load_of(row) + (" (knee)" if row is knee else ""),
            *(_shown(value) for value in (row.per_second, row.p50_ms, row.p95_ms, row.p99_ms)),
            str(row.refused),
            _shown(row.refused_p50_ms),
            str(row.failed),
            _shown(row.resident_mb),
        )
    return table


def load_of(row: LoadRow) -> str:
    """What was asked of the server, in words."""
    return f"{row.connections} at a time" if row.loop == "closed" else f"{row.rate:g} a second"


def _shown(value: float | None) -> str:
    return "-" if value is None else f"{value:.{1 if abs(value) >= 100 else 2}f}"


def to_csv(rows: Sequence[LoadRow]) -> str:
    """A header and a line a load."""
    out = io.StringIO()
    writer = csv.DictWriter(out, [field.name for field in fields(LoadRow)], lineterminator="\n")
    writer.writeheader()
    writer.writerows(asdict(row) for row in rows)
    return out.getvalue()


def to_markdown(rows: Sequence[LoadRow], notes: Sequence[str]) -> str:
    """The table for a README, with what it depends on below."""
    head = "| load | answered/s | p50 ms | p95 ms | p99 ms | 429 | 429 p50 ms | failed |"
    knee = find_knee(rows)
    lines = [
        f"| {load_of(row)}{' (knee)' if row is knee else ''} | "
        + " | ".join(_shown(value) for value in (row.per_second, row.p50_ms, row.p95_ms, row.p99_ms))
        + f" | {row.refused} | {_shown(row.refused_p50_ms)} | {row.failed} |"
        for row in rows
    ]
    return "\n".join([head, "|---|" + "---:|" * 7, *lines, "", *(f"- {note}" for note in notes), ""])


def plot_load(rows: Sequence[LoadRow], title: str, notes: Sequence[str], out: Path) -> None:
    """Throughput against p99, by connections and by rate, the knee marked. Written as PNG."""
    figure = Figure(figsize=(7.5, 4.8), layout="constrained")
    figure.suptitle(title, fontsize=11)
    axes = figure.subplots()
    for loop, colour, told in (
        ("closed", BLUE, "closed loop, connections"),
        ("open", ACCENT, "open loop, requests a second"),
    ):
        shown = [row for row in rows if row.loop == loop and row.p99_ms]
        if shown:
            axes.plot(
                [row.per_second for row in shown],
                [row.p99_ms or 0.0 for row in shown],
                "o-" if loop == "closed" else "s",
                color=colour,
                label=told,
            )
            for row in shown:
                _label(axes, row, colour)
    knee = find_knee(rows)
    if knee and knee.p99_ms:
        told = f"knee: {knee.connections} connections, {_shown(knee.per_second)}/s at p99 {_shown(knee.p99_ms)} ms"
        axes.plot(knee.per_second, knee.p99_ms, "o", markersize=15, fillstyle="none", color=BLUE, label=told)
    axes.set(xlabel="answered, requests a second", ylabel="p99 of the answered, ms", yscale="log")
    axes.set_xlim(0, 1.15 * max((row.per_second for row in rows), default=1.0) or 1.0)
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(frameon=False, fontsize=9)
    figure.supxlabel("\n".join(notes), fontsize=7.5, color="#5b616b", x=0.01, ha="left", wrap=True)
    replace_file(out, lambda path: figure.savefig(path, dpi=130, format="png"))


def _label(axes: Axes, row: LoadRow, colour: str) -> None:
    told = f"{row.connections}" if row.loop == "closed" else f"{row.rate:.0f}"
    axes.annotate(
        told, (row.per_second, row.p99_ms or 0.0), (6, 5), textcoords="offset points", color=colour, fontsize=9
    )


def write_report(rows: Sequence[LoadRow], result: dict[str, Any], title: str, notes: Sequence[str], out: Path) -> None:
    """Write load.json, load.csv, load.md and load.png into the folder `out`, and show the table."""
    write_json(result, out / "load.json")
    replace_file(out / "load.csv", lambda path: path.write_text(to_csv(rows)))
    replace_file(out / "load.md", lambda path: path.write_text(to_markdown(rows, notes)))
    plot_load(rows, title, notes, out / "load.png")
    console.print(load_table(rows, title))
    for line in (*notes, f"written: {out}/load.json, load.csv, load.md, load.png"):
        console.print(line, soft_wrap=True, highlight=False, markup=False)
