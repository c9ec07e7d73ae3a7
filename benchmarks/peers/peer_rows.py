"""What was measured of each peer, how Unheard compares with the others, and their tables and figure."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from numpy.typing import NDArray

from benchmarks.peers.peer import Peer
from benchmarks.study import ACCENT, BLUE, GREY, PALE, TextTable, digits, style_axes
from benchmarks.turns import percentiles

SETTLING = 3  # single clips in a row that do not count: they find the caches as another peer left them


@dataclass(frozen=True)
class PeerRow:
    """One way from files to embeddings, and the fields of `Computation`.

    clips_per_second   in bulk, by the fastest of its ways, whose name is `bulk`; the median over rounds
    p50_ms .. p99_ms   of a single clip, file to embedding, one after the other; n durations
    rest_p50_ms        of a single clip that starts from rest
    worst_cosine       of its embeddings with those of its bundle in FP32 on ONNX Runtime; None: other weights
    """

    name: str
    network: str
    ours: bool
    precision: str
    clips_per_second: float
    bulk: str
    n: int
    p50_ms: float
    p95_ms: float
    p99_ms: float
    rest_p50_ms: float
    worst_cosine: float | None
    layers: int
    windows: int
    window_s: float
    network_macs: int
    front_end_macs: int | None
    resampler: str
    front_end: str
    runtime: str
    weights: str


@dataclass(frozen=True)
class PeerRatio:
    """One of Unheard's rows against another's: above 1, Unheard is faster in throughput or in median latency."""

    ours: str
    peer: str
    throughput: float
    latency: float
    rest_latency: float


def peer_row(
    peer: Peer, bulk_ns: Mapping[str, NDArray[np.floating]], one_ns: NDArray[np.number], worst_cosine: float | None
) -> PeerRow:
    """The row of a peer.

    bulk_ns  nanoseconds a clip of each bulk job, by way
    one_ns   [n_rounds, n_clips] nanoseconds of single clips; the first of a round starts from rest
    """
    rates = {way: 1e9 / float(np.median(samples)) for way, samples in bulk_ns.items()}
    fastest = max(rates, key=lambda way: rates[way])
    single = percentiles(one_ns[:, SETTLING:])
    return PeerRow(
        peer.name, peer.network, peer.ours, peer.precision, rates[fastest], fastest, single.n, single.p50_ms,
        single.p95_ms, single.p99_ms, percentiles(one_ns[:, 0]).p50_ms, worst_cosine, **asdict(peer.computation),
    )  # fmt: skip


def peer_ratios(rows: Sequence[PeerRow]) -> list[PeerRatio]:
    """Each of Unheard's rows against each of the others."""
    return [
        PeerRatio(
            mine.name,
            other.name,
            mine.clips_per_second / other.clips_per_second,
            other.p50_ms / mine.p50_ms,
            other.rest_p50_ms / mine.rest_p50_ms,
        )
        for mine in rows
        if mine.ours
        for other in rows
        if not other.ours
    ]


def best_rows(rows: Sequence[PeerRow]) -> list[PeerRow]:
    """For each of Unheard's networks the fastest row in bulk in FP32, and in each lower precision that is faster."""
    best: list[PeerRow] = []
    ours = sorted((row for row in rows if row.ours), key=lambda row: row.clips_per_second)
    for network in dict.fromkeys(row.network for row in rows if row.ours):
        fastest = {row.precision: row for row in ours if row.network == network}  # the last row of each precision
        least = fastest["fp32"].clips_per_second if "fp32" in fastest else 0.0
        best += [row for row in ours if row in fastest.values() and row.clips_per_second >= least]
    return best


def speed_table(rows: Sequence[PeerRow]) -> TextTable:
    """Throughput, latency and parity of each peer."""
    head = ("files to embeddings", "clips/s", "p50 ms", "p95 ms", "p99 ms", "p50 from rest", "parity")
    lines = [
        [
            row.name,
            *(digits(value) for value in (row.clips_per_second, row.p50_ms, row.p95_ms, row.p99_ms, row.rest_p50_ms)),
            "-" if row.worst_cosine is None else f"{row.worst_cosine:.7f}",
        ]
        for row in rows
    ]
    return TextTable("Unheard and other packages", head, lines)


def ratio_table(rows: Sequence[PeerRow], ratios: Sequence[PeerRatio]) -> TextTable:
    """A line for each of the others, a column for each of the best rows: throughput, p50 and p50 from rest."""
    best = best_rows(rows)
    found = {(ratio.ours, ratio.peer): ratio for ratio in ratios}
    lines = [
        [
            other.name,
            *(
                f"{ratio.throughput:.1f}, {ratio.latency:.1f}, {ratio.rest_latency:.1f}"
                for ratio in (found[mine.name, other.name] for mine in best)
            ),
        ]
        for other in rows
        if not other.ours
    ]
    head = ["times faster: clips/s, p50, from rest", *(mine.name.removeprefix("Unheard ") for mine in best)]
    return TextTable("how many times faster Unheard is", head, lines)


def computation_table(rows: Sequence[PeerRow]) -> TextTable:
    """What each peer computes for a clip; multiply-accumulates in millions."""
    head = ("", "layers", "windows", "MMAC network", "MMAC front end", "front end", "resampler", "weights", "bulk")
    lines = [
        [
            row.name,
            str(row.layers),
            f"{row.windows} x {row.window_s:.2f} s",
            f"{row.network_macs / 1e6:.0f}",
            "FFT" if row.front_end_macs is None else f"{row.front_end_macs / 1e6:.0f}",
            row.front_end,
            row.resampler,
            row.weights,
            row.bulk,
        ]
        for row in rows
    ]
    return TextTable("what each computes", head, lines)


def plot_peers(rows: Sequence[PeerRow]) -> Figure:
    """Throughput in bulk, and the latency of a single clip on a logarithmic scale."""
    ordered = sorted(rows, key=lambda row: -row.clips_per_second)
    colours = [BLUE if row.ours else PALE for row in ordered]
    places = range(len(ordered))
    figure = Figure(figsize=(12, 2 + 0.3 * len(rows)), layout="constrained")
    bulk, single = figure.subplots(1, 2, sharey=True)
    rates = [row.clips_per_second for row in ordered]
    bulk.barh(places, rates, 0.65, color=colours)
    bulk.set(title="Throughput in bulk", xlabel="clips a second (more is better)", xlim=(0, 1.15 * max(rates)))
    medians = [row.p50_ms for row in ordered]
    ends = [max(row.p99_ms, row.rest_p50_ms) for row in ordered]
    single.barh(places, medians, 0.65, color=colours)
    single.hlines(places, medians, [row.p99_ms for row in ordered], color=GREY, linewidth=1.2)
    single.scatter([row.rest_p50_ms for row in ordered], places, s=12, color=ACCENT, zorder=3)
    single.set(title="Latency of a single clip", xlabel="ms, logarithmic (less is better); numbers: p50", xscale="log")
    single.set_xlim(0.5 * min(medians), 2 * max(ends))
    single.xaxis.set_major_formatter("{x:g}")
    for axes, values, right in ((bulk, rates, rates), (single, medians, ends)):
        for place, value, end in zip(places, values, right, strict=True):
            axes.annotate(digits(value), (end, place), (5, 0), textcoords="offset points", va="center", fontsize=8)
        style_axes(axes)
    bulk.set_yticks(places, [row.name for row in ordered], fontsize=8)
    bulk.invert_yaxis()
    bulk.margins(y=0.01)
    keys = [
        Patch(color=BLUE, label="Unheard"),
        Patch(color=PALE, label="other packages"),
        Line2D([], [], color=GREY, label="p50 (end of the bar) to p99"),
        Line2D([], [], color=ACCENT, marker="o", markersize=4, linestyle="none", label="p50 from rest"),
    ]
    figure.legend(handles=keys, loc="outside upper center", ncols=4, frameon=False, fontsize=9,
                  title="From 44.1 kHz sound files to embeddings", title_fontsize=12)  # fmt: skip
    return figure
