"""The files of a bulk job in parts: how many files and bytes each has, and what is left of it."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

# Of files: 6 hours of 48 kHz stereo. A part of few long recordings is full before `files_per_part`.
BYTES_PER_PART = 2**32


@dataclass(frozen=True)
class PartSize:
    """How many files a part has, and how many bytes they have in all."""

    files: int
    bytes: int


@dataclass(frozen=True)
class Part:
    """The files of a part that no earlier run finished.

    first   number of the first one in the list of the job's files
    size    its bytes are estimated from the number of the files if earlier runs finished some of the part
    """

    first: int
    names: list[str]
    size: PartSize


def write_list(path: Path, files: Iterable[tuple[str, int]], files_per_part: int) -> list[PartSize]:
    """Cut a job's files into parts, and write their names: one part a line. Returns the parts' sizes.

    files   names, and sizes in bytes
    """
    sizes: list[PartSize] = []
    part: list[str] = []
    n_bytes = 0
    with path.open("w", encoding="utf-8") as lines:

        def end_part() -> None:
            nonlocal part, n_bytes
            lines.write(json.dumps(part) + "\n")
            sizes.append(PartSize(len(part), n_bytes))
            part, n_bytes = [], 0

        for name, size in files:
            part.append(name)
            n_bytes += size
            if len(part) == files_per_part or n_bytes >= BYTES_PER_PART:
                end_part()
        if part:
            end_part()
    return sizes


def sum_of(sizes: Iterable[PartSize]) -> PartSize:
    """Sizes together."""
    both = [(size.files, size.bytes) for size in sizes]
    return PartSize(sum(files for files, _ in both), sum(n_bytes for _, n_bytes in both))
