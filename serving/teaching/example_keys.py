"""The key of an example: the SHA-256 of its recording, and the stretch of it. The same key, the same sound."""


def key_of(sha256: str, start_s: float, end_s: float | None) -> str:
    """The key of a stretch of a recording, to the millisecond. end_s None: to its end."""
    return f"{sha256} {start_s:.3f} {'end' if end_s is None else f'{end_s:.3f}'}"


def recording_of(key: str) -> str:
    """The SHA-256 of a key's recording."""
    return key.partition(" ")[0]
