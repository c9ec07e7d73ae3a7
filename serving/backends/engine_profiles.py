"""Optimisation profiles of a TensorRT engine, and how a batch of any size is spread over them."""

from collections.abc import Sequence
from dataclasses import dataclass

from serving.errors import UsageError

MOST_ROWS = 4096  # of one call: 1.3 GB of 4.8 s windows


@dataclass(frozen=True)
class Profile:
    """Batch sizes that an engine takes in one call: the least, the one it is tuned for, the most."""

    least: int
    best: int
    most: int

    def __str__(self) -> str:
        return f"{self.least}:{self.best}:{self.most}"


@dataclass(frozen=True)
class Call:
    """One call of the engine: rows [start, stop) of the batch under a profile, zero-padded to `rows` rows."""

    profile: int
    start: int
    stop: int
    rows: int


def parse_profiles(text: str) -> list[Profile]:
    """Read "1:8:64" or "1:1:1,1:8:64": least, best and most rows of each profile.

    errors   UsageError naming the profile that is none
    """
    profiles = []
    for part in text.split(","):
        numbers = part.strip().split(":")
        sizes = [int(number) for number in numbers if number.isascii() and number.isdecimal()]
        if len(sizes) != 3 or len(numbers) != 3 or not 1 <= sizes[0] <= sizes[1] <= sizes[2] <= MOST_ROWS:
            raise UsageError(
                f"--batch: got {part.strip()!r}; wanted least:best:most rows, rising, 1 to {MOST_ROWS}, like 1:8:64"
            )
        profiles.append(Profile(*sizes))
    if len(set(profiles)) < len(profiles):
        raise UsageError(f"--batch: got {text}; name each profile once")
    return profiles


def spread(profiles: Sequence[Profile], rows: int) -> list[Call]:
    """Cut a batch into calls that the profiles allow.

    Full calls of the largest profile, then the rest in the profile tuned for the size nearest to it. A rest that is
    smaller than every profile allows is padded to the least one.
    """
    widest = max(range(len(profiles)), key=lambda i: profiles[i].most)
    step = profiles[widest].most
    full = rows - rows % step
    calls = [Call(widest, start, start + step, step) for start in range(0, full, step)]
    if full < rows:
        calls.append(_fit(profiles, full, rows))
    return calls


def _fit(profiles: Sequence[Profile], start: int, stop: int) -> Call:
    """The call for rows that fit into the widest profile: the least padding, then the nearest tuned size."""
    rows = stop - start
    padded = {i: max(rows, profile.least) for i, profile in enumerate(profiles) if rows <= profile.most}
    profile = min(padded, key=lambda i: (padded[i], abs(profiles[i].best - rows)))
    return Call(profile, start, stop, padded[profile])
