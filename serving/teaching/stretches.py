"""Stretches of recordings that are known, and which sounds of the recordings lie within them."""

from collections import defaultdict
from collections.abc import Iterable

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

    def hold(self, recording: str, start_s: float, end_s: float) -> bool:
        """Whether the stretches have more than MOSTLY of a sound."""
        known_s = sum(max(0.0, min(end_s, end) - max(start_s, start)) for start, end in self._joined.get(recording, ()))
        return known_s > MOSTLY * (end_s - start_s)


def _joined(stretches: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Stretches of one recording without overlaps, in order."""
    joined: list[tuple[float, float]] = []
    for start, end in sorted(stretches):
        if joined and start <= joined[-1][1]:
            joined[-1] = joined[-1][0], max(end, joined[-1][1])
        else:
            joined.append((start, end))
    return joined
