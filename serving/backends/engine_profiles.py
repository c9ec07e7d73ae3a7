"""Optimisation profiles of a TensorRT engine, and how a batch of any size is split into calls of the engine."""

from collections.abc import Sequence
from dataclasses import dataclass

from serving.errors import UsageError

MOST_ROWS = 4096  # rows of one call: 1.3 GB of 4.8 s windows


@dataclass(frozen=True)
class Profile:
    """The batch sizes of one optimisation profile: the smallest, the one it is tuned for, the largest."""

    least: int
    best: int
    most: int

    def __str__(self) -> str:
        return f"{self.least}:{self.best}:{self.most}"


@dataclass(frozen=True)
class EngineCall:
    """One call of the engine: rows [start, stop) of the batch with a profile, zero-padded to `rows` rows."""

    profile: int
    start: int
    stop: int
    rows: int


def parse_profiles(text: str) -> list[Profile]:
    """Parse "1:8:64" or "1:1:1,1:8:64": the least, best and most rows of each profile.

    errors   UsageError: a profile is invalid or repeated
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


def plan_calls(profiles: Sequence[Profile], rows: int) -> list[EngineCall]:
    """Split a batch of `rows` rows into calls that the profiles allow.

    The first calls fill the largest profile. The rest uses the profile that needs the least padding, and among those
    the one tuned for the nearest size. It is padded only if every profile requires more rows.
    """
    widest = max(range(len(profiles)), key=lambda i: profiles[i].most)
    step = profiles[widest].most
    full = rows - rows % step
    calls = [EngineCall(widest, start, start + step, step) for start in range(0, full, step)]
    if full < rows:
        calls.append(_best_call(profiles, full, rows))
    return calls


def _best_call(profiles: Sequence[Profile], start: int, stop: int) -> EngineCall:
    """The call for rows that fit into the largest profile."""
    rows = stop - start
    padded = {i: max(rows, profile.least) for i, profile in enumerate(profiles) if rows <= profile.most}
    profile = min(padded, key=lambda i: (padded[i], abs(profiles[i].best - rows)))
    return EngineCall(profile, start, stop, padded[profile])
