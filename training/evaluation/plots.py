"""Figures of a run and of its evaluation: matplotlib objects, to save as PNG or to pass to TensorBoard.

pyplot is not used, so that drawing works in threads and on machines without a display.
"""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.patheffects import withStroke
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from training.evaluation.scoring import Gzsl, area_under_tradeoff
from training.fit.checkpoint import save_whole
from training.fit.recipe import Epoch

DPI = 130
GREY, BLUE, ACCENT, INK = "#8a8f98", "#1f6feb", "#d4572a", "#24292f"
MANY_CLASSES = 15  # with more classes, cells and fonts are smaller


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure as PNG, as a whole. RunError if the folder cannot be written."""
    save_whole(path, lambda temporary: figure.savefig(temporary, format="png"))


def draw_curves(history: Sequence[Epoch], best: int) -> Figure:
    """Loss and accuracy by epoch, of training and (if there are clips for it) validation; the best epoch is marked."""
    epochs = [done.epoch for done in history]
    figure = Figure(figsize=(9, 3.6), dpi=DPI, layout="constrained")
    panels = figure.subplots(1, 2)
    for panel, name in zip(panels, ("loss", "accuracy"), strict=True):
        for part, colour in (("train", GREY), ("validation", BLUE)):
            values = [getattr(done, f"{part}_{name}") for done in history]
            if None in values:
                continue
            label = "train, augmented" if part == "train" else part
            panel.plot(epochs, values, color=colour, label=label, marker="o" if len(history) == 1 else None)
        panel.axvline(best, color=ACCENT, linestyle=":", label=f"best epoch, {best}")
        panel.set(xlabel="epoch", title=name)
        panel.xaxis.set_major_locator(MaxNLocator(integer=True))
        _plain(panel)
    panels[0].set_ylim(bottom=0)
    panels[1].set_ylim(0, 1.02)
    panels[1].legend(frameon=False, loc="lower right")
    return figure


def draw_confusion(counts: NDArray[np.integer], names: Sequence[str]) -> Figure:
    """Confusion matrix: counts in the cells, coloured by their share of the true class.

    counts   [C, C], rows true, columns predicted (sklearn.metrics.confusion_matrix)
    names    [C]
    """
    totals = counts.sum(axis=1, keepdims=True)
    shares = counts / np.maximum(totals, 1)  # max: a class without clips is an empty row
    many = len(names) > MANY_CLASSES
    size, letters = ((11, 10), 6.0) if many else ((7.6, 6.6), 9.0)
    figure = Figure(figsize=size, dpi=DPI, layout=ConstrainedLayoutEngine(h_pad=0.1, w_pad=0.1))
    panel = figure.subplots()
    image = panel.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for row, column in np.argwhere(counts):
        colour = "white" if shares[row, column] > 0.5 else INK
        number = str(counts[row, column])
        panel.text(column, row, number, ha="center", va="center", color=colour, fontsize=letters, gid="count")
    places = np.arange(len(names))
    shown = [name.replace("_", " ") for name in names]
    turn, side, mode = (90, "center", "default") if many else (45, "right", "anchor")
    # A name is no formula: matplotlib fails on "$x%$" otherwise.
    panel.set_xticks(places, shown, rotation=turn, ha=side, rotation_mode=mode, parse_math=False)
    panel.set_yticks(places, shown, parse_math=False)
    panel.tick_params(length=0, labelsize=letters + 1.5)
    panel.set_xticks(places[:-1] + 0.5, minor=True)
    panel.set_yticks(places[:-1] + 0.5, minor=True)
    panel.grid(which="minor", color="#d8dce2", linewidth=0.4)
    panel.tick_params(which="minor", length=0)
    panel.spines[:].set_visible(False)
    right = int(np.trace(counts))
    panel.set(xlabel="predicted", ylabel="true")
    panel.set_title(f"{right} of {int(counts.sum())} clips correct, {right / max(1, counts.sum()):.1%}", fontsize=11)
    bar = figure.colorbar(image, ax=panel, shrink=0.5, aspect=30)
    bar.outline.set_visible(False)
    bar.set_label("share of the true class")
    return figure


def draw_zero_shot(scores: Mapping[str, tuple[float, float]], chance: float, controls: Collection[str] = ()) -> Figure:
    """Mean top-1 accuracy on unseen classes of each method as a bar with its standard error, and a line at chance.

    scores     name -> (mean, standard error), 0 to 1, from top to bottom;  controls: names that are drawn in grey
    """
    figure = Figure(figsize=(9, 1.1 + 0.42 * len(scores)), dpi=DPI, layout="constrained")
    panel = figure.subplots()
    means = np.array([mean for mean, _ in scores.values()])
    errors = np.array([error for _, error in scores.values()])
    colours = [GREY if name in controls else BLUE for name in scores]
    places = np.arange(len(scores))
    panel.barh(places, means, color=colours, height=0.7)
    panel.errorbar(means, places, xerr=errors, fmt="none", ecolor=INK, elinewidth=1.2, capsize=3)
    for place, mean, error in zip(places, means, errors, strict=True):
        label = f"{100 * mean:.1f} ± {100 * error:.1f} %"
        panel.annotate(
            label, (mean + error, place), (5, 0), textcoords="offset points", va="center",
            fontsize=9, color=INK, path_effects=[withStroke(linewidth=3, foreground="white")],
        )  # fmt: skip
    panel.axvline(chance, color=ACCENT, linestyle="--", linewidth=1.2)
    panel.annotate(f"chance, {chance:.0%}", (chance, 1.0), (4, 2), xycoords=("data", "axes fraction"),
                   textcoords="offset points", color=ACCENT, fontsize=9, va="bottom")  # fmt: skip
    panel.set_yticks(places, [f"{name} (control)" if name in controls else name for name in scores])
    panel.invert_yaxis()
    panel.set(xlim=(0, 1), xlabel="unseen top-1, mean and standard error")
    panel.xaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    _plain(panel)
    panel.grid(axis="y", visible=False)
    return figure


def draw_tradeoff(curve: Sequence[Gzsl], chosen: Gzsl | None = None) -> Figure:
    """Generalised zero-shot: accuracy on seen classes over accuracy on unseen classes, for all offsets.

    curve    from `scoring.tradeoff`;  chosen: the point of an offset that was calibrated on other clips
    The best harmonic mean H is marked; each faint line joins points of equal H.
    """
    figure = Figure(figsize=(5.6, 6.0), dpi=DPI, layout="constrained")
    panel = figure.subplots()
    for level in (0.2, 0.4, 0.6, 0.8):
        across = np.linspace(level / (2 - level), 1, 200)  # starts where the other accuracy is 1
        panel.plot(across, level * across / (2 * across - level), color="#d8dce2", linewidth=0.8, zorder=0)
        panel.annotate(f"H {level:.0%}", (0.99, level / (2 - level)), fontsize=8, color=GREY, ha="right", va="center",
                       path_effects=[withStroke(linewidth=3, foreground="white")])  # fmt: skip
    seen, unseen = [point.seen for point in curve], [point.unseen for point in curve]
    best = max(curve, key=lambda point: point.harmonic_mean)
    area = area_under_tradeoff(list(curve))
    panel.plot(unseen, seen, color=BLUE, linewidth=1.8, label=f"area under the curve {area:.3f}")
    panel.fill_between(unseen, seen, color=BLUE, alpha=0.08, linewidth=0)
    marks = [(best, "o", ACCENT, "best harmonic mean")]
    if chosen is not None:
        marks.append((chosen, "D", INK, "at the calibrated offset"))
    for point, marker, colour, what in marks:
        label = f"{what} {point.harmonic_mean:.1%}"
        panel.plot(point.unseen, point.seen, marker, color=colour, markersize=8, label=label, clip_on=False)
    panel.set(xlim=(0, 1), ylim=(0, 1), xlabel="accuracy on unseen classes", ylabel="accuracy on seen classes")
    for axis in (panel.xaxis, panel.yaxis):
        axis.set_major_formatter(lambda value, _: f"{value:.0%}")
    panel.set_aspect("equal")
    _plain(panel)
    figure.legend(loc="outside lower center", fontsize=9, frameon=False)
    return figure


def _plain(panel: Axes) -> None:
    """Faint grid, no frame at the top and on the right."""
    panel.grid(alpha=0.25)
    panel.set_axisbelow(True)
    panel.spines[["top", "right"]].set_visible(False)
