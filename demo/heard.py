"""What is heard when: windows with their labels, joined to stretches of one label."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

NOTHING = ""  # the label of a window that is silent or like none of the labels


@dataclass(frozen=True)
class Heard:
    """A stretch of sound that has one label. probability: the mean of those of its windows, weighted by duration."""

    label: str
    start_s: float
    end_s: float
    probability: float


def heard(
    starts_s: NDArray[np.floating] | Sequence[float],
    ends_s: NDArray[np.floating] | Sequence[float],
    labels: Sequence[str],
    probabilities: NDArray[np.floating] | Sequence[float],
) -> list[Heard]:
    """Join neighbouring windows of one label. The arguments have one item for each window, in order of time.

    starts_s, ends_s   in seconds; windows may overlap
    labels             NOTHING ends a stretch, and makes none
    """
    joined: list[Heard] = []
    previous = NOTHING
    for start, end, label, share in zip(map(float, starts_s), map(float, ends_s), labels, probabilities, strict=True):
        if label != NOTHING and label == previous and start <= joined[-1].end_s + 1e-6:
            last = joined.pop()
            before, more = last.end_s - last.start_s, max(end - last.end_s, 0.0)
            mean = (before * last.probability + more * float(share)) / max(before + more, 1e-9)
            joined.append(Heard(label, last.start_s, max(end, last.end_s), mean))
        elif label != NOTHING:
            joined.append(Heard(label, start, end, float(share)))
        previous = label
    return joined


def for_drawing(stretches: Sequence[Heard], axis_s: float, most: int) -> list[Heard]:
    """Stretches that fit a picture: if there are more than `most`, each of `most` equal parts of the axis gets the
    label that is heard longest in it.
    """
    if len(stretches) <= most:
        return list(stretches)
    cell_s = axis_s / most
    longest: dict[int, tuple[float, Heard]] = {}
    for stretch in stretches:
        for cell in range(int(stretch.start_s / cell_s), min(math.ceil(stretch.end_s / cell_s), most)):
            overlap = min(stretch.end_s, (cell + 1) * cell_s) - max(stretch.start_s, cell * cell_s)
            if overlap > longest.get(cell, (0.0,))[0]:
                longest[cell] = overlap, stretch
    cells = sorted(longest)
    chosen = [longest[cell][1] for cell in cells]
    starts = [cell * cell_s for cell in cells]
    ends = [(cell + 1) * cell_s for cell in cells]
    return heard(starts, ends, [each.label for each in chosen], [each.probability for each in chosen])


def clock(seconds: float) -> str:
    """A time in a recording, rounded to seconds: 0:05, 12:34, 1:02:03."""
    whole = math.floor(seconds + 0.5)
    minutes, rest = divmod(whole, 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}" if minutes >= 60 else f"{minutes}:{rest:02}"
