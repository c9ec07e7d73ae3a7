"""Make an index of embedded sounds, to search it by sounds and by words.

    python -m serving.index sounds.parquet --bundle bundles/first --out sounds.index

sounds.parquet is what serving.embed wrote, or serving.label --embeddings. The work is in serving.search.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from serving.bundle.bundle import open_bundle
from serving.command_line import run_command, say
from serving.search.index_builder import build_index
from serving.trust_option import Trusted


@dataclass(frozen=True)
class IndexOptions:
    """Make an index of embedded sounds, to search it by sounds and by words."""

    sounds: Annotated[Path, tyro.conf.Positional]
    """the Parquet file that serving.embed wrote, or serving.label --embeddings: one row for each recording or window"""
    out: Path
    """the index's folder"""
    bundle: Path | None = None
    """the bundle that embedded them: with what is stored of its map, words are found ten times as fast"""
    overwrite: bool = False
    """replace the index if it is there"""
    trust: Trusted = ()


def work(options: IndexOptions) -> dict[str, Any]:
    """Write the index, and return the result that is printed as JSON."""
    started = time.perf_counter()
    bundle = None if options.bundle is None else open_bundle(options.bundle, options.trust)
    made = build_index(options.sounds, options.out, bundle, options.overwrite)
    size = sum(file.size for file in made.files.values())
    seconds = time.perf_counter() - started
    say(f"{options.out}: {made.rows} rows, {size / 1e6:.1f} MB, in {seconds:.1f} s")
    if made.left_out:
        say(f"{made.left_out} rows were left out, because they are silent")
    return {
        "out": str(options.out),
        "rows": made.rows,
        "left_out": made.left_out,
        "bytes": size,
        "seconds": round(seconds, 3),
        "embedding_space": made.embedding_space,
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command. Returns the exit code."""
    return run_command(IndexOptions, work, "python -m serving.index", argv)


if __name__ == "__main__":
    raise SystemExit(main())
