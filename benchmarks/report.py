"""What a measurement leaves behind: a table for people, a picture, and a JSON file."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from rich.table import Table

from benchmarks.machine import Machine
from benchmarks.timing import percentiles
from serving.command import console
from serving.errors import UsageError

# From the bottom of a bar to its top: what one clip goes through. "model" is front end and network together.
PARTS = {"decode": "#c9ced6", "resample": "#8a8f98", "front_end": "#8fbcff", "network": "#1f6feb"}
ACCENT = "#d4572a"
PRECISION = "fp32"  # of embedder.onnx and frontend.onnx


@dataclass(frozen=True)
class Row:
    """One stage at one batch size.

    batch                clips in one call
    windows              windows in one call, the mean where clips differ in length
    clip_seconds         median length of the clips
    runtime, precision   that ran the graph; None for the stages without one
    worst_cosine         the bundle's parity, its worst row against PyTorch; None for the stages without the model
    n                    durations behind the percentiles; None: derived from the medians of other rows
    p50_ms .. p99_ms     of the whole batch, not of one clip
    clips_per_second     batch / median; None for the stages where it is no use
    """

    stage: str
    batch: int
    windows: float
    clip_seconds: float
    runtime: str | None
    precision: str | None
    worst_cosine: float | None
    n: int | None
    p50_ms: float
    p95_ms: float | None
    p99_ms: float | None
    clips_per_second: float | None


def make_rows(
    durations_ns: Mapping[tuple[str, int], NDArray[np.int64]],
    windows: float,
    clip_seconds: float,
    runtime: str,
    worst_cosine: float,
) -> list[Row]:
    """A row for each stage and batch, and after each model the row of its network, derived.

    durations_ns            [n] nanoseconds, by stage and batch
    windows, clip_seconds   of one clip
    """
    rows: list[Row] = []

    def add(stage: str, batch: int, n: int | None, p50: float, p95: float | None, p99: float | None) -> None:
        ran = (None, None) if stage in ("decode", "resample") else (runtime, PRECISION)
        parity = worst_cosine if stage in ("model", "network", "whole") else None
        rate = 1000 * batch / p50 if stage in ("model", "whole") else None
        rows.append(Row(stage, batch, batch * windows, clip_seconds, *ran, parity, n, p50, p95, p99, rate))

    for (stage, batch), samples in durations_ns.items():
        found = percentiles(samples)
        add(stage, batch, found.n, found.p50_ms, found.p95_ms, found.p99_ms)
        if stage == "model":
            front_end = percentiles(durations_ns["front_end", batch])
            add("network", batch, None, found.p50_ms - front_end.p50_ms, None, None)
    return rows


def stage_table(rows: Sequence[Row], title: str) -> Table:
    """A table with a section for each batch size."""
    table = Table(title=title, title_justify="left")
    for column in ("batch", "stage", "p50 ms", "p95 ms", "p99 ms", "n", "clips/s", "parity"):
        table.add_column(column, justify="left" if column == "stage" else "right", no_wrap=True)
    for i, row in enumerate(rows):
        if i and row.batch != rows[i - 1].batch:
            table.add_section()
        table.add_row(
            str(row.batch),
            row.stage.replace("_", " "),
            *(_shown(value) for value in (row.p50_ms, row.p95_ms, row.p99_ms)),
            "-" if row.n is None else str(row.n),
            _shown(row.clips_per_second),
            "" if row.worst_cosine is None else f"{row.worst_cosine:.7f}",
        )
    return table


def _shown(value: float | None) -> str:
    """Three digits that tell, in six places: 1.23, 12.34, 123.4, 1234.5."""
    return "" if value is None else f"{value:.{1 if abs(value) >= 100 else 2}f}"


def plot_stages(rows: Sequence[Row], title: str, notes: str, out: Path) -> None:
    """Left, where the milliseconds of a clip go, by batch; right, clips a second by batch. Written as PNG.

    rows   of `PARTS`, "model" and "whole", each at the same batch sizes
    """
    found = {(row.stage, row.batch): row for row in rows}
    batches = sorted({row.batch for row in rows})
    places = range(len(batches))
    figure = Figure(figsize=(9, 4.2), layout="constrained")
    figure.suptitle(title, fontsize=11)
    left, right = figure.subplots(1, 2)

    bottoms = [0.0] * len(batches)
    for part, colour in PARTS.items():
        # A difference of two medians can fall below zero; a bar cannot.
        heights = [max(0.0, found[part, batch].p50_ms / batch) for batch in batches]
        left.bar(places, heights, 0.55, bottom=bottoms, color=colour, label=part.replace("_", " "))
        bottoms = [low + height for low, height in zip(bottoms, heights, strict=True)]
    whole = [found["whole", batch] for batch in batches]
    a_clip = [row.p50_ms / row.batch for row in whole]
    left.plot(places, a_clip, "D", color=ACCENT, markersize=5, label="whole, measured")
    for place, row, bar in zip(places, whole, bottoms, strict=True):
        height = max(bar, row.p50_ms / row.batch)
        left.annotate(
            f"{_shown(row.p50_ms)} ms", (place, height), (0, 7), textcoords="offset points", ha="center", fontsize=9
        )
    left.set_ylim(0, 1.5 * max(*bottoms, *a_clip))  # room for the legend
    left.set(title="a clip's time by stage", ylabel="ms a clip (median of the batch / clips)")
    handles, labels = left.get_legend_handles_labels()
    left.legend(handles, labels, frameon=False, ncols=2, loc="upper right", fontsize=9)

    for stage, label, colour in (
        ("model", "model alone (front end + network)", PARTS["network"]),
        ("whole", "file bytes to embeddings", ACCENT),
    ):
        rates = [found[stage, batch].clips_per_second or 0.0 for batch in batches]
        right.plot(places, rates, "o-", color=colour, label=label)
        for place, rate in zip(places, rates, strict=True):
            above = stage == "model"
            right.annotate(
                _shown(rate), (place, rate), (0, 7 if above else -15), textcoords="offset points", ha="center",
                color=colour, fontsize=9,
            )  # fmt: skip
    right.set_ylim(0, 1.5 * max(row.clips_per_second or 0.0 for row in rows))
    right.set(title="throughput", ylabel="clips a second")
    right.legend(frameon=False, loc="upper right", fontsize=9)

    for panel in (left, right):
        panel.set_xticks(places, [str(batch) for batch in batches])
        panel.set_xlim(-0.6, len(batches) - 0.4)
        panel.set_xlabel("batch, clips" + (" (above each bar: the whole batch)" if panel is left else ""))
        panel.set_axisbelow(True)
        panel.grid(axis="y", alpha=0.25)
        panel.spines[["top", "right"]].set_visible(False)
    figure.supxlabel(notes, fontsize=7.5, color="#5b616b", x=0.01, ha="left", wrap=True)
    replace_file(out, lambda path: figure.savefig(path, dpi=130, format="png"))


def write_json(content: dict[str, Any], out: Path) -> None:
    """Write an object as an indented JSON file."""
    replace_file(out, lambda path: path.write_text(json.dumps(content, indent=1) + "\n"))


def make_folder(out: Path) -> None:
    """Make the folder unless it is there. UsageError where that cannot be."""
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"{out}: cannot be made a folder ({error.strerror}); give another --out") from error


def replace_file(out: Path, write: Callable[[Path], object]) -> None:
    """Let `write` fill a temporary file beside `out`, then rename it; a failure leaves what was there.

    errors   UsageError: the place cannot be written
    """
    temporary = out.with_name(f".{out.name}.tmp")
    try:
        write(temporary)
        temporary.replace(out)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise UsageError(f"{out}: cannot be written ({error.strerror}); give another --out") from error


def report(rows: Sequence[Row], result: dict[str, Any], machine: Machine, out: Path) -> None:
    """Write latency.json and latency.png into the folder `out`, and show the table with all that it depends on."""
    bundle, clips, repeats = result["bundle"], result["clips"], result["settings"]["repeats"]
    parity = bundle["parity"]
    least, median, most = clips["seconds"]
    span = f"{median:g} s" if least == most else f"{least:g} to {most:g} s (median {median:g})"
    rates = "/".join(str(rate_hz) for rate_hz in clips["rates_hz"])
    model = next(row for row in rows if row.stage == "model")
    title = f"{bundle['name']} ({bundle['network']}, {model.precision}): {model.runtime}"
    few = f", so p99 of {repeats} is nearly the slowest" if repeats < 100 else ""
    load = result["machine"]["load_average_before"]
    busy = " (busy with other work: expect longer times)" if load > machine.cores / 2 else ""
    notes = (
        f"{clips['distinct']} clips of {span}, {rates} Hz, {clips['source']}",
        f"n = {repeats} after {result['settings']['warm_up']} rounds of warm-up, each from rest{few}; "
        "network = median of model - median of front end",
        f"parity: worst cosine {parity['worst_cosine']:.7f} against {parity['reference']}",
        f"{machine}; load average before: {load:g}{busy}",
    )
    write_json(result, out / "latency.json")
    plot_stages(rows, title, "\n".join(notes), out / "latency.png")
    console.print(stage_table(rows, title))
    for line in (*notes, f"written: {out / 'latency.json'}, {out / 'latency.png'}"):
        console.print(line, soft_wrap=True, highlight=False, markup=False)
