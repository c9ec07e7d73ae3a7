"""Files that are replaced whole or not at all."""

from collections.abc import Callable
from pathlib import Path


def replace_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` fill a file of the same suffix under a temporary name beside `path`, and rename it.

    Whatever it raises passes through; then the file that was there stays, and nothing else is left behind.
    """
    temporary = path.with_name(f".tmp-{path.name}")
    try:
        write(temporary)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
