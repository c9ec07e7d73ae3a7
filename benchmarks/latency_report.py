"""The rows of a latency measurement, their tables and their figures."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from numpy.typing import NDArray

from benchmarks.latency_jobs import COMMON_STAGES, StageKey
from benchmarks.study import TextTable, digits, style_axes
from benchmarks.turns import percentiles

STAGES = ("decode", "resample", "front_end", "network", "pooling")  # in the order in which a clip goes through them
STAGE_COLOURS = dict(zip(STAGES, ("#c9ced6", "#8a8f98", "#8fbcff", "#1f6feb", "#d4572a"), strict=True))


@dataclass(frozen=True)
class StageRow:
    """One stage at one batch size.

    stage                one of `STAGES`; or model: front end and network; or whole: file bytes to embeddings
    backend, precision   of the configuration; None for the stages without a model
    threads              of one inference; None: the stage runs in one thread
    batch                clips in one call
    windows              windows in one call; their mean where clips differ in length
    n                    durations behind the percentiles; None: derived from the medians of other rows
    p50_ms .. p99_ms     of the whole batch
    clips_per_second     batch / median
    worst_cosine         lowest cosine of a window's embedding with that of ONNX Runtime in FP32
    """

    stage: str
    backend: str | None
    precision: str | None
    threads: int | None
    batch: int
    windows: float
    n: int | None
    p50_ms: float
    p95_ms: float | None
    p99_ms: float | None
    clips_per_second: float
    worst_cosine: float | None


@dataclass(frozen=True)
class LatencySummary:
    """One configuration at one batch size: the medians of its stages, and the percentiles of the whole, in ms.

    front_end, network   None where the model cannot be split
    model                front end and network
    sum_of_stages        decode, resample, model and pooling, each timed alone; the whole is timed by itself
    """

    batch: int
    backend: str
    precision: str
    threads: int
    decode: float
    resample: float
    front_end: float | None
    network: float | None
    pooling: float
    model: float
    sum_of_stages: float
    whole_p50: float
    whole_p95: float
    whole_p99: float
    clips_per_second: float
    worst_cosine: float

    @property
    def label(self) -> str:
        """The configuration with its threads, like "openvino fp32 x2"."""
        return f"{self.backend} {self.precision} x{self.threads}"


def stage_rows(
    durations_ns: Mapping[StageKey, NDArray[np.int64]],
    windows: float,
    worst_cosines: Mapping[tuple[str, str, int], float],
) -> list[StageRow]:
    """A row for each key; after each model whose front end was timed, the derived row of its network.

    windows         of one clip
    worst_cosines   by (backend, precision, threads)
    """
    rows: list[StageRow] = []
    for key, samples in durations_ns.items():
        cosine = worst_cosines.get((key.backend or "", key.precision or "", key.threads or 0))

        def add(stage: str, n: int | None, p50: float, p95: float | None, p99: float | None) -> None:
            numbers = (key.batch, key.batch * windows, n, p50, p95, p99, 1000 * key.batch / max(p50, 1e-9), cosine)  # noqa: B023
            rows.append(StageRow(stage, key.backend, key.precision, key.threads, *numbers))  # noqa: B023

        found = percentiles(samples)
        add(key.stage, found.n, found.p50_ms, found.p95_ms, found.p99_ms)
        front_end = durations_ns.get(key._replace(stage="front_end"))
        if key.stage == "model" and front_end is not None:
            add("network", None, found.p50_ms - percentiles(front_end).p50_ms, None, None)
    return rows


def summarise_rows(rows: Sequence[StageRow]) -> list[LatencySummary]:
    """One summary for each "whole" row."""
    medians = {StageKey(row.stage, row.batch, row.backend, row.precision, row.threads): row.p50_ms for row in rows}

    def summarise(whole: StageRow) -> LatencySummary:
        key = StageKey("model", whole.batch, whole.backend, whole.precision, whole.threads)
        decode, resample, pooling = (medians[StageKey(stage, whole.batch)] for stage in COMMON_STAGES)
        return LatencySummary(
            whole.batch, whole.backend or "", whole.precision or "", whole.threads or 0,
            decode=decode,
            resample=resample,
            front_end=medians.get(key._replace(stage="front_end")),
            network=medians.get(key._replace(stage="network")),
            pooling=pooling,
            model=medians[key],
            sum_of_stages=decode + resample + medians[key] + pooling,
            whole_p50=whole.p50_ms,
            whole_p95=whole.p95_ms or 0.0,
            whole_p99=whole.p99_ms or 0.0,
            clips_per_second=whole.clips_per_second,
            worst_cosine=whole.worst_cosine or 0.0,
        )  # fmt: skip

    return sorted((summarise(row) for row in rows if row.stage == "whole"), key=lambda each: (each.batch, each.threads))


def latency_tables(summaries: Sequence[LatencySummary], network: str) -> list[TextTable]:
    """The stages, and the whole."""
    stages = [
        [each.label, str(each.batch)]
        + [digits(value) for value in (each.decode, each.resample, each.front_end, each.network)]
        + [f"{each.pooling:.3f}"]
        for each in summaries
    ]
    whole = [
        [each.label, str(each.batch)]
        + [digits(value) for value in (each.whole_p50, each.whole_p95, each.whole_p99, each.clips_per_second)]
        + [f"{each.worst_cosine:.7f}"]
        for each in summaries
    ]
    head = ("configuration", "batch")
    return [
        TextTable(f"{network}: median of each stage, ms of the batch", (*head, *map(_in_words, STAGES)), stages),
        TextTable("bytes to embeddings, ms of the batch", (*head, "p50", "p95", "p99", "clips/s", "parity"), whole),
    ]


def plot_latency(panels: Mapping[str, Sequence[LatencySummary]]) -> Figure:
    """The stages of every configuration at its largest batch, a panel for each bundle. panels: by the bundle's name."""
    largest = {name: largest_batch(summaries) for name, summaries in panels.items()}
    figure = Figure(figsize=(9, 1.2 + sum(0.9 + 0.26 * len(rows) for rows in largest.values())), layout="constrained")
    all_axes = figure.subplots(len(panels), 1, squeeze=False)[:, 0]
    for axes, (name, summaries) in zip(all_axes, largest.items(), strict=True):
        _plot_stages(axes, summaries, f"{name}, batches of {summaries[0].batch}")
    keys: list[Any] = [Patch(color=colour, label=_in_words(stage)) for stage, colour in STAGE_COLOURS.items()]
    keys.append(
        Line2D([], [], color="black", marker="D", markersize=4, linestyle="none", label="whole, timed by itself")
    )
    figure.legend(handles=keys, loc="outside upper center", ncols=6, frameon=False, fontsize=9,
                  title="Time of a clip by stage, for each backend, precision and number of threads",
                  title_fontsize=12)  # fmt: skip
    return figure


def largest_batch(summaries: Sequence[LatencySummary]) -> list[LatencySummary]:
    """The summaries of the largest batch."""
    return [each for each in summaries if each.batch == max(other.batch for other in summaries)]


def _plot_stages(axes: Axes, summaries: Sequence[LatencySummary], title: str) -> None:
    """A bar of stages for each configuration, and the whole, which is timed by itself, as a diamond."""
    places = range(len(summaries))
    left = [0.0] * len(summaries)
    for stage, colour in STAGE_COLOURS.items():
        widths = []
        for each in summaries:
            value = each.model if stage == "network" and each.network is None else getattr(each, stage)
            widths.append(max(0.0, value or 0.0) / each.batch)  # a difference of two medians can be negative
        axes.barh(places, widths, 0.6, left=left, color=colour)
        left = [start + width for start, width in zip(left, widths, strict=True)]
    whole = [each.whole_p50 / each.batch for each in summaries]
    axes.plot(whole, places, "D", color="black", markersize=4, linestyle="none")
    for place, value, end in zip(places, whole, left, strict=True):
        axes.annotate(f"{digits(value)} ms", (max(value, end), place), (7, 0), textcoords="offset points", va="center",
                      fontsize=8)  # fmt: skip
    axes.set_yticks(places, [each.label for each in summaries], fontsize=8)
    axes.invert_yaxis()
    axes.set_xlim(0, 1.25 * max(*left, *whole))
    axes.set(title=title, xlabel="ms a clip")
    style_axes(axes)


def _in_words(stage: str) -> str:
    return stage.replace("_", " ")
