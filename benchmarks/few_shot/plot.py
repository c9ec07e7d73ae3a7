"""Draw the curves of few examples as a PNG."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np

matplotlib.use("agg")
from matplotlib import pyplot
from matplotlib.axes import Axes

from serving.files.atomic_write import write_atomically

STYLES = ("-", "-", "--", "-", "-", ":", ":")
Summary = Sequence[Mapping[str, float] | None]  # mean and standard error of each point; None: there is none


def draw_curves(path: Path, result: Mapping[str, Any], size: int) -> None:
    """Draw accuracy by number of examples, and by number of sounds that were labelled.

    result   of the benchmark;  size: sounds that are labelled in a round
    """
    figure, panels = pyplot.subplots(1, 3, figsize=(17, 5), layout="constrained")
    left, *others = panels
    counts = result["counts"]
    for (name, values), style in zip(result["accuracy"].items(), STYLES, strict=False):
        _line(left, range(len(counts)), values, name, style)
    left.set_xticks(range(len(counts)), [str(count) for count in counts])
    left.set_xlabel("examples of each class")
    left.set_title("Unseen classes after a few examples")
    for axes, key, title in zip(
        others,
        ("review", "review_with_others"),
        ("Which sounds to label", "Which sounds to label, with other classes among them"),
        strict=True,
    ):
        for name, values in result[key].items():
            _line(axes, range(0, size * len(values), size), values, name, "-")
        axes.set_xlabel("sounds that a person was asked about")
        axes.set_title(title)
    for axes in panels:
        axes.set_ylabel("accuracy (%)")
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8, loc="lower right")
    write_atomically(path, lambda temporary: figure.savefig(temporary, format="png", dpi=110))
    pyplot.close(figure)


def _line(axes: Axes, places: Sequence[int], values: Summary, name: str, style: str) -> None:
    """A method's mean with a band of one standard error."""
    known = [(place, each) for place, each in zip(places, values, strict=True) if each is not None]
    where = [place for place, _ in known]
    mean = 100 * np.array([each["mean"] for _, each in known])
    error = 100 * np.array([each["standard_error"] for _, each in known])
    (line,) = axes.plot(where, mean, style, marker="o", markersize=3, label=name)
    axes.fill_between(where, mean - error, mean + error, alpha=0.2, color=line.get_color())
