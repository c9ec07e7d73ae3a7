"""One line of the doctor's report."""

from dataclasses import dataclass
from typing import Literal

from serving.errors import UnheardError


@dataclass(frozen=True)
class Finding:
    """What the doctor found about one thing.

    state    ok; absent: not here, and not necessarily needed; broken
    advice   what to do about it; "": nothing
    """

    what: str
    found: str
    state: Literal["ok", "absent", "broken"] = "ok"
    advice: str = ""


def reason_of(error: Exception) -> str:
    """An error in one line. The project's own messages are complete; for other errors the type is added."""
    return str(error) if isinstance(error, UnheardError) else " ".join(f"{type(error).__name__}: {error}".split())
