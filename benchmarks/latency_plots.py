"""Four pictures of a latency measurement: latency and throughput by batch, the stages, parity against speed."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.latency_rows import STAGES, Summary
from benchmarks.report import COLOURS, save_figure, shown, style

# From the bottom of a bar to its end: what one clip goes through.
STAGE_COLOURS = dict(zip(STAGES, ("#c9ced6", "#8a8f98", "#8fbcff", "#1f6feb", "#d4572a"), strict=True))
MARKS = {"fp32": "o", "fp16": "s", "int8": "^", "bf16": "D"}
LINES = ("-", "--", ":", "-.")  # by thread count
LEAST_DISTANCE = 1e-8  # of a cosine from 1 that is drawn: below lies rounding


def plot_latency(summaries: Sequence[Summary], title: str, notes: Sequence[str], out: Path) -> None:
    """Draw all four and write them as one PNG."""
    figure = Figure(figsize=(12, 9.5), layout="constrained")
    (latency, throughput), (stages, parity) = figure.subplots(2, 2)
    _by_batch(latency, summaries, lambda each: each.whole_p50 / each.batch, "ms a clip (median of the batch / clips)")
    latency.set(title="latency by batch", yscale="log")
    latency.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    latency.yaxis.set_minor_formatter(lambda value, _: f"{value:g}")
    _by_batch(throughput, summaries, lambda each: each.clips_per_second, "clips a second, one after the other")
    throughput.set(title="throughput by batch")
    throughput.set_ylim(0, 1.1 * max(each.clips_per_second for each in summaries))
    largest = [each for each in summaries if each.batch == summaries[-1].batch]
    _stages(stages, largest)
    _parity(parity, largest)
    handles, labels = latency.get_legend_handles_labels()
    figure.legend(
        handles, labels, loc="outside upper center", ncols=min(6, len(labels)), frameon=False, fontsize=9,
        title=f"{title} (backend, precision, threads)", title_fontsize=12,
    )  # fmt: skip
    save_figure(figure, notes, out)


def _styles(summaries: Sequence[Summary]) -> dict[str, dict[str, Any]]:
    """Colour by backend, mark by precision, line and filling by thread count: the same in all panels."""
    backends = list(dict.fromkeys(each.backend for each in summaries))
    threads = sorted({each.threads for each in summaries})
    return {
        each.label: {
            "color": COLOURS[backends.index(each.backend) % len(COLOURS)],
            "marker": MARKS[each.precision],
            "linestyle": LINES[threads.index(each.threads) % len(LINES)],
            "fillstyle": "full" if each.threads == threads[-1] else "none",
        }
        for each in summaries
    }


def _by_batch(axes: Axes, summaries: Sequence[Summary], value: Callable[[Summary], float], unit: str) -> None:
    batches = sorted({each.batch for each in summaries})
    for label, look in _styles(summaries).items():
        mine = [each for each in summaries if each.label == label]
        places = [batches.index(each.batch) for each in mine]
        axes.plot(places, [value(each) for each in mine], label=label)[0].set(markersize=5, **look)
    axes.set_xticks(range(len(batches)), [str(batch) for batch in batches])
    axes.set(xlabel="batch, clips", ylabel=unit)
    style(axes)


def _stages(axes: Axes, summaries: Sequence[Summary]) -> None:
    """Where the milliseconds of a clip go, a bar for each configuration."""
    places = range(len(summaries))
    left = [0.0] * len(summaries)
    for stage, colour in STAGE_COLOURS.items():
        widths = []
        for each in summaries:
            value = getattr(each, stage)
            if stage == "network" and value is None:
                value = each.model
            # A difference of two medians can fall below zero; a bar cannot.
            widths.append(max(0.0, value or 0.0) / each.batch)
        axes.barh(places, widths, 0.6, left=left, color=colour, label=stage.replace("_", " "))
        left = [start + width for start, width in zip(left, widths, strict=True)]
    whole = [each.whole_p50 / each.batch for each in summaries]
    axes.plot(whole, places, "D", color="black", markersize=4, linestyle="none", label="whole, measured")
    for place, value, end in zip(places, whole, left, strict=True):
        axes.annotate(f"{shown(value)} ms", (max(value, end), place), (7, 0), textcoords="offset points", va="center",
                      fontsize=8)  # fmt: skip
    axes.set_yticks(places, [each.label for each in summaries], fontsize=8)
    axes.invert_yaxis()
    axes.set_xlim(0, 1.18 * max(*left, *whole))
    axes.set(title=f"a clip's time by stage, in batches of {summaries[0].batch}", xlabel="ms a clip")
    style(axes)
    axes.legend(frameon=False, fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.12), ncols=6, columnspacing=1.0)


def _parity(axes: Axes, summaries: Sequence[Summary]) -> None:
    """How far the embeddings are from those of ONNX Runtime in FP32, against how many clips a second."""
    looks = _styles(summaries)
    for each in summaries:
        distance = max(LEAST_DISTANCE, 1 - each.worst_cosine)
        point = axes.plot(each.clips_per_second, distance)[0]
        point.set(markersize=8, **(looks[each.label] | {"linestyle": "none"}))
    most = max(each.clips_per_second for each in summaries)
    axes.set_xlim(0, 1.1 * most)
    axes.set_ylim(LEAST_DISTANCE / 3, 3 * max(LEAST_DISTANCE, *(1 - each.worst_cosine for each in summaries)))
    axes.set(
        title="parity against speed (lower right is best)",
        xlabel=f"clips a second, in batches of {summaries[0].batch}",
        ylabel=f"1 - worst cosine (drawn from {LEAST_DISTANCE:g})",
        yscale="log",
    )
    style(axes)
