"""Draw the curves of few examples as a PNG."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib
import numpy as np

matplotlib.use("agg")
from matplotlib import pyplot
from matplotlib.axes import Axes

from benchmarks.few_shot.curves import Values
from benchmarks.few_shot.methods import DESCRIPTION
from serving.atomic_write import write_atomically

STYLES = ("-", "-", "--", "-", "-", ":", ":")


def draw_curves(
    path: Path,
    curves: Mapping[str, Values],
    counts: Sequence[int],
    reviews: Mapping[str, Values],
    budgets: Sequence[int],
) -> None:
    """Draw accuracy by number of examples on the left, and by number of reviewed sounds on the right.

    curves   method -> [draws, n_counts];  reviews   choice -> [draws, n_budgets]
    """
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(12, 5), layout="constrained")
    places = np.arange(len(counts))
    for (name, values), style in zip(curves.items(), STYLES, strict=False):
        _line(left, places, values, name, style)
    left.set_xticks(places, [str(count) for count in counts])
    left.set_xlabel("examples of each class")
    left.set_title("Unseen classes after a few examples")
    for name, values in reviews.items():
        _line(right, np.array(budgets), values, name, "-")
    right.set_xlabel("sounds that a person labelled, of 10 classes together")
    right.set_title("Which sounds to label")
    for axes in (left, right):
        axes.set_ylabel("accuracy (%)")
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8, loc="lower right")
    write_atomically(path, lambda temporary: figure.savefig(temporary, format="png", dpi=110))
    pyplot.close(figure)


def _line(axes: Axes, places: Values, values: Values, name: str, style: str) -> None:
    """A method's mean with a band of one standard error."""
    known = ~np.isnan(values).any(axis=0)
    mean = 100 * values[:, known].mean(axis=0)
    error = 100 * values[:, known].std(axis=0, ddof=1) / np.sqrt(len(values)) if len(values) > 1 else 0 * mean
    if name == DESCRIPTION:
        error = 0 * mean
    (line,) = axes.plot(places[known], mean, style, marker="o", markersize=3, label=name)
    axes.fill_between(places[known], mean - error, mean + error, alpha=0.2, color=line.get_color())
