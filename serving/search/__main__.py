"""Search an index of embedded sounds by a sound, by words, or by both.

python -m serving.search sounds.index --bundle bundles/first --sound dog.ogg
python -m serving.search sounds.index --bundle bundles/first --words "rain on a tin roof" --and thunder --not wind
"""

import csv
import time
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro
from rich.table import Table
from rich.text import Text

from serving.command_line import run_command, say, say_unknown_words, show
from serving.embedder import Embedder
from serving.errors import AudioWarning, UsageError
from serving.files.atomic_write import write_atomically
from serving.files.csv_cells import table_row
from serving.files.new_folder import make_folder_of, refuse_unwritable
from serving.search.query import check_phrases
from serving.search.search_index import Found, SearchIndex
from serving.search.vector_search import check_top
from serving.trust_option import Trusted

COLUMNS = ("path", "start_s", "end_s", "score", "start_at", "end_at", "recorded_at")


@dataclass(frozen=True)
class SearchOptions:
    """Search an index of embedded sounds by a sound, by words, or by both."""

    index: Annotated[Path, tyro.conf.Positional]
    """the index's folder, made by python -m serving.index"""
    bundle: Path
    """folder of the bundle that embedded the sounds"""
    sound: Path | None = None
    """a recording: find sounds like it"""
    words: str | None = None
    """find sounds that words describe: a class of the bundle, or any English words"""
    both: Annotated[tuple[str, ...], tyro.conf.UseAppendAction, tyro.conf.arg(name="and")] = ()
    """more words for what has to be heard at the same time; may be repeated"""
    without: Annotated[tuple[str, ...], tyro.conf.UseAppendAction, tyro.conf.arg(name="not")] = ()
    """words for what must not be heard; may be repeated"""
    top: int = 10
    """most results"""
    out: Path | None = None
    """CSV file for the results"""
    backend: str = "auto"
    """of the model: auto, onnxruntime, openvino or tensorrt"""
    trust: Trusted = ()
    overwrite: bool = False
    """replace --out if it is there"""


def check_search_options(options: SearchOptions) -> None:
    """UsageError: nothing is looked for, a flag is out of range, or --out cannot be written. LabelError: no words."""
    check_top(options.top)
    if options.sound is None and options.words is None:
        raise UsageError("search: got nothing to look for; give --sound FILE or --words TEXT")
    check_phrases(_phrases(options))
    if options.out is not None:
        if options.out.is_dir() or (options.out.exists() and not options.overwrite):
            raise UsageError(f"{options.out}: exists already; give another --out, or --overwrite to replace it")
        refuse_unwritable(options.out.parent, "--out")


def _phrases(options: SearchOptions) -> list[str]:
    return [*([] if options.words is None else [options.words]), *options.both, *options.without]


def work(options: SearchOptions) -> dict[str, Any]:
    """Search, show the results, and return them for the JSON line."""
    check_search_options(options)
    started = time.perf_counter()
    index = SearchIndex.open(options.index)
    opened = time.perf_counter()
    embedder = Embedder.load(options.bundle, options.backend, trusted=options.trust)
    loaded = time.perf_counter()
    if options.out is not None:
        make_folder_of(options.out, "--out")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", AudioWarning)
        found = index.find(embedder, options.sound, options.words, options.both, options.without, options.top)
    ended = time.perf_counter()
    for warning in caught:
        say(str(warning.message))
    unknown = embedder.labels.unknown_words(_phrases(options))
    say_unknown_words(unknown)
    _show(options, index, found)
    if options.out is not None:
        _write(options.out, found)
    return {
        "rows": len(index),
        "recordings": index.manifest.recordings,
        "results": [asdict(each) for each in found],
        "unknown_words": unknown,
        "milliseconds": {
            "open": round(1000 * (opened - started), 3),
            "load_bundle": round(1000 * (loaded - opened), 3),
            "find": round(1000 * (ended - loaded), 3),
        },
        **({"out": str(options.out)} if options.out else {}),
    }


def _show(options: SearchOptions, index: SearchIndex, found: Sequence[Found]) -> None:
    has_times = any(each.start_at for each in found)
    table = Table()
    for name in ("file", "start s", "end s", "score", *(["time"] if has_times else [])):
        table.add_column(name, justify="left" if name in ("file", "time") else "right", overflow="fold")
    for each in found:
        cells = [f"{each.start_s:.2f}", f"{each.end_s:.2f}", f"{each.score:.3f}"]
        table.add_row(Text(each.path), *cells, *([each.start_at or ""] if has_times else []))
    show(table, f"{options.index}: the best {len(found)} of {len(index)} rows")


def _write(path: Path, found: Sequence[Found]) -> None:
    def write(temporary: Path) -> None:
        with temporary.open("w", newline="", encoding="utf-8", errors="backslashreplace") as file:
            rows = csv.writer(file, lineterminator="\n")
            rows.writerow(COLUMNS)
            for each in found:
                rows.writerow(table_row(getattr(each, name) for name in COLUMNS))

    try:
        write_atomically(path, write)
    except OSError as error:
        raise UsageError(f"{path}: cannot be written ({error.strerror or error}); give another --out") from error


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command. Returns the exit code."""
    return run_command(SearchOptions, work, "python -m serving.search", argv)


if __name__ == "__main__":
    raise SystemExit(main())
