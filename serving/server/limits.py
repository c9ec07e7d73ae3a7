"""What one request may ask of the server."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """The most that one upload may be.

    max_upload_mb  of the request's body, in megabytes of 1 000 000 bytes
    max_seconds    of sound in it
    """

    max_upload_mb: float = 50.0
    max_seconds: float = 300.0

    @property
    def max_upload_bytes(self) -> int:
        return round(self.max_upload_mb * 1_000_000)
