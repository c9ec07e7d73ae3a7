"""Read the flag --precision of the export commands."""

from serving.bundle.bundle_files import PRECISIONS
from serving.errors import UsageError


def parse_precisions(text: str) -> list[str]:
    """Read comma-separated precisions in the given order, e.g. "fp32,int8".

    errors   UsageError: a precision is unknown or appears twice
    """
    names = [name.strip() for name in text.split(",")]
    if len(set(names)) < len(names) or not set(names) <= set(PRECISIONS):
        known = ", ".join(PRECISIONS)
        raise UsageError(f"--precision: got {text}; wanted {known}, separated by commas, each at most once")
    return names
