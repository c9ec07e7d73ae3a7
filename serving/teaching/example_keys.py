"""The key of an example: the SHA-256 of its recording, and the stretch of it. The same key, the same sound."""

from math import inf


def key_of(sha256: str, start_s: float, end_s: float | None) -> str:
    """The key of a stretch of a recording, to the millisecond. end_s None: to its end."""
    return f"{sha256} {start_s:.3f} {'end' if end_s is None else f'{end_s:.3f}'}"


def recording_of(key: str) -> str:
    """The SHA-256 of a key's recording."""
    return key.partition(" ")[0]


def stretch_of(key: str) -> tuple[str, float, float]:
    """The SHA-256 of a key's recording, and the start and the end of the stretch in seconds; inf: to its end.

    Without a stretch, as for a sound that was given in Python, it is all of the recording.
    """
    recording, *times = key.split(" ")
    if len(times) != 2:
        return recording, 0.0, inf
    start, end = times
    return recording, float(start), inf if end == "end" else float(end)
