"""Stretches of recordings that are known, and which sounds of the recordings lie within them."""

from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Iterable
from operator import itemgetter

MOSTLY = 0.5  # a sound is known if more than this share of it is


class Stretches:
    """Stretches of recordings. Those of one recording may overlap.

    stretches   (recording, start, end) of each, in seconds
    """

    def __init__(self, stretches: Iterable[tuple[str, float, float]]):
        found: dict[str, list[tuple[float, float]]] = defaultdict(list)
        for recording, start_s, end_s in stretches:
            found[recording].append((start_s, end_s))
        self._joined = {recording: _joined(each) for recording, each in found.items()}

    def __len__(self) -> int:
        """Number of recordings that have stretches."""
        return len(self._joined)

    def hold(self, recording: str, start_s: float, end_s: float) -> bool:
        """Whether the stretches have more than MOSTLY of a sound."""
        joined = self._joined.get(recording, ())
        first = bisect_right(joined, start_s, key=itemgetter(1))  # the first that ends after the sound's start
        last = bisect_left(joined, end_s, key=itemgetter(0))  # the first that begins after its end
        known_s = sum(min(end_s, end) - max(start_s, start) for start, end in joined[first:last])
        return known_s > MOSTLY * (end_s - start_s)


def _joined(stretches: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Stretches of one recording without overlaps, in order."""
    joined: list[tuple[float, float]] = []
    for start, end in sorted(stretches):
        if not start < end:
            continue  # holds nothing
        if joined and start <= joined[-1][1]:
            joined[-1] = joined[-1][0], max(end, joined[-1][1])
        else:
            joined.append((start, end))
    return joined
