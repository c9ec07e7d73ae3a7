"""A picture of peers: clips a second in bulk, and milliseconds of a single clip."""

from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure

from benchmarks.peers.rows import PeerRow
from benchmarks.report import ACCENT, BLUE, GREY, save_figure, shown, style


def plot_peers(rows: Sequence[PeerRow], title: str, notes: Sequence[str], out: Path) -> None:
    """Two panels of bars, ours in blue. Written as PNG."""
    ordered = sorted(rows, key=lambda row: -row.clips_per_second)
    colours = [BLUE if row.ours else "#b6bcc5" for row in ordered]
    figure = Figure(figsize=(12, 1.6 + 0.34 * len(rows)), layout="constrained")
    figure.suptitle(title, fontsize=12)
    left, right = figure.subplots(1, 2, sharey=True)
    places = range(len(ordered))
    for axes, values, what in (
        (left, [row.clips_per_second for row in ordered], "clips a second in bulk (more is better)"),
        (
            right,
            [row.p50_ms for row in ordered],
            "ms of one clip after the other: bar p50, line to p99; dot: from rest",
        ),
    ):
        axes.barh(places, values, 0.65, color=colours)
        ends = values
        if axes is right:
            ends = [max(row.p99_ms, row.rest_p50_ms) for row in ordered]
            axes.hlines(places, values, [row.p99_ms for row in ordered], color=GREY, linewidth=1.2)
            axes.scatter([row.rest_p50_ms for row in ordered], places, s=12, color=ACCENT, zorder=3)
        for place, value, end in zip(places, values, ends, strict=True):
            axes.annotate(shown(value), (max(value, end), place), (5, 0), textcoords="offset points", va="center",
                          fontsize=8)  # fmt: skip
        axes.set_xlim(0, 1.15 * max(ends))
        axes.set_xlabel(what)
        style(axes)
    left.set_yticks(places, [row.name for row in ordered], fontsize=8)
    left.invert_yaxis()
    save_figure(figure, notes, out)
