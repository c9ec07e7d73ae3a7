"""Draw the curves of few examples as a PNG."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib
import numpy as np

matplotlib.use("agg")
from matplotlib import pyplot
from matplotlib.axes import Axes
from numpy.typing import NDArray

from benchmarks.few_shot.curves import Values
from benchmarks.few_shot.methods import DESCRIPTION
from serving.atomic_write import write_atomically

STYLES = ("-", "-", "--", "-", "-", ":", ":")


def draw_curves(
    path: Path,
    curves: Mapping[str, Values],
    counts: Sequence[int],
    reviews: Mapping[str, Values],
    with_others: Mapping[str, Values],
    budgets: Sequence[int],
) -> None:
    """Draw accuracy by number of examples, and by number of sounds that were labelled.

    curves   method -> [draws, n_counts];  reviews, with_others   choice -> [draws, n_budgets], see `review_curves`
    """
    figure, panels = pyplot.subplots(1, 3, figsize=(17, 5), layout="constrained")
    left, middle, right = panels
    places = np.arange(len(counts))
    for (name, values), style in zip(curves.items(), STYLES, strict=False):
        _line(left, places, values, name, style)
    left.set_xticks(places, [str(count) for count in counts])
    left.set_xlabel("examples of each class")
    left.set_title("Unseen classes after a few examples")
    for axes, choices, title in (
        (middle, reviews, "Which sounds to label"),
        (right, with_others, "Which sounds to label, with other classes among them"),
    ):
        for name, values in choices.items():
            _line(axes, np.array(budgets), values, name, "-")
        axes.set_xlabel("sounds that a person was asked about")
        axes.set_title(title)
    for axes in panels:
        axes.set_ylabel("accuracy (%)")
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8, loc="lower right")
    write_atomically(path, lambda temporary: figure.savefig(temporary, format="png", dpi=110))
    pyplot.close(figure)


def _line(axes: Axes, places: NDArray[np.integer], values: Values, name: str, style: str) -> None:
    """A method's mean with a band of one standard error."""
    known = ~np.isnan(values).any(axis=0)
    mean = 100 * values[:, known].mean(axis=0)
    error = 100 * values[:, known].std(axis=0, ddof=1) / np.sqrt(len(values)) if len(values) > 1 else 0 * mean
    if name == DESCRIPTION:
        error = 0 * mean
    (line,) = axes.plot(places[known], mean, style, marker="o", markersize=3, label=name)
    axes.fill_between(places[known], mean - error, mean + error, alpha=0.2, color=line.get_color())
