"""Fetch a data set from its authors' archive: ESC-50, ESC-10 (a part of ESC-50) or FSC22.

    python -m training.data.download --dataset ESC-50 --data-dir data/ESC-50

    data/ESC-50.zip.part        the archive as far as it has come; the next call goes on from there
    data/ESC-50.zip.part.json   where it is from, which version of it, whether it is whole
    data/.ESC-50.unpacking      the unpacked archive until every file has been checked; then renamed to data/ESC-50

None of the three stays when the data set is there. A download goes on from its middle where the server can prove
that its file is still the same one (If-Range), and starts over where it cannot. GitHub makes its archives as they
are sent, tells no size and promises no ranges: be ready for a cut connection to start those over.
"""

import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rich.table import Table

from serving.command import run_command, say, show
from serving.errors import DataError, UsageError
from training.data.clips import FSC22_META, load_clips
from training.data.fetch import Part, fetch, open_part
from training.data.unpack import BROKEN_ARCHIVE, extract


@dataclass(frozen=True)
class Source:
    """Where a data set comes from.

    holds       what it is, for people
    license     as its authors state it
    size_bytes  of the archive, about: GitHub does not tell
    clips       that it is known to hold
    folder      inside the archive: what becomes the data set's folder
    layout      what must lie in that folder, for who unpacks it by hand
    """

    url: str
    holds: str
    license: str
    size_bytes: int
    clips: int
    folder: str
    layout: tuple[str, ...]


_ESC50 = Source(
    url="https://github.com/karolpiczak/ESC-50/archive/refs/heads/master.zip",
    holds="2000 recordings of 50 kinds of everyday sound",
    license="CC BY-NC 3.0",
    size_bytes=600_000_000,
    clips=2000,
    folder="ESC-50-master",
    layout=("meta/esc50.csv", "audio"),
)
SOURCES: dict[str, Source] = {
    "ESC-50": _ESC50,
    "ESC-10": replace(
        _ESC50,
        holds="400 recordings of 10 kinds of everyday sound, inside the archive of ESC-50",
        license="CC BY 3.0 (ESC-10's recordings; the rest of the archive is CC BY-NC 3.0)",
        clips=400,
    ),
    "FSC22": Source(
        url="https://github.com/IRMIOT/FSC22/archive/refs/heads/main.zip",
        holds="2025 recordings of 27 kinds of forest sound",
        license="CC0 1.0, some recordings CC BY (the archive's LICENSE names each)",
        size_bytes=600_000_000,
        clips=2025,
        folder="FSC22-main",
        layout=(FSC22_META, "Audios"),
    ),
}


def download(dataset: str, data_dir: Path, source: Source | None = None) -> Path:
    """Put a data set's recordings into `data_dir`; nothing to do where they are already. Progress goes to stderr.

    source   None takes the data set's own from SOURCES
    returns  data_dir, which load_clips reads; it appears whole or not at all
    errors   UsageError: the data set has no archive to fetch
             DataError: no network, a refusal by the server, a broken or unsafe archive, no room or no permission on
             the disk, or a `data_dir` that holds something else. What had come by then is kept for the next call,
             except an archive that came whole and cannot be used.
    """
    if source is None and dataset not in SOURCES:
        raise UsageError(f"dataset: got {dataset}, which has no archive to fetch; wanted one of {', '.join(SOURCES)}")
    source = source or SOURCES[dataset]
    there = f"{data_dir}: {dataset} is there already; nothing to fetch"
    try:
        if _is_there(dataset, data_dir):
            say(there)
            return data_dir
        place = data_dir.resolve()
        place.parent.mkdir(parents=True, exist_ok=True)
        with open_part(place.with_name(f"{place.name}.zip.part")) as part:
            if _is_there(dataset, data_dir):  # another process was first
                part.remove()
                say(there)
                return data_dir
            say(f"{dataset}: {source.holds}; license {source.license}; from {source.url}")
            if not part.is_whole(source.url):
                fetch(dataset, source.url, source.size_bytes, part, _by_hand(source, data_dir))
            _unpack(dataset, source, part, data_dir)
            part.remove()
    except OSError as error:
        raise DataError(
            f"{error.filename or data_dir.parent}: cannot be written ({error.strerror or error}); make room, or give "
            f"yourself the right to write there, or give another --data-dir"
        ) from error
    return data_dir


def _is_there(dataset: str, data_dir: Path) -> bool:
    if not data_dir.exists() or (data_dir.is_dir() and not any(data_dir.iterdir())):
        return False
    try:
        load_clips(dataset, data_dir)
    except DataError as error:
        raise DataError(
            f"{data_dir}: is there already, but is no whole {dataset} ({_without_advice(error)}); "
            f"move it away to have {dataset} fetched, or give another --data-dir"
        ) from error
    return True


def _without_advice(error: DataError) -> str:
    return str(error).rpartition("; ")[0] or str(error)


def _by_hand(source: Source, data_dir: Path) -> str:
    wanted = " and ".join(str(data_dir / name) for name in source.layout)
    return f"fetch it by hand and unpack its folder {source.folder} as {data_dir}, so that {wanted} are there"


def _unpack(dataset: str, source: Source, part: Part, data_dir: Path) -> None:
    """Unpack the archive beside data_dir, check every file, see that it loads, and rename it to data_dir."""
    place = data_dir.resolve()
    temporary = place.with_name(f".{place.name}.unpacking")
    if temporary.exists():  # of a call that was killed
        shutil.rmtree(temporary)
    try:
        temporary.mkdir()
        extract(part.path, source.folder, temporary)
        table = load_clips(dataset, temporary)
        if place.exists():
            place.rmdir()  # empty, or _is_there had refused it
        temporary.rename(place)
    except (*BROKEN_ARCHIVE, DataError) as error:
        part.remove()
        reason = _without_advice(error) if isinstance(error, DataError) else " ".join(str(error).split())
        raise DataError(
            f"{source.url}: what came is no archive of {dataset} ({reason.replace(str(temporary), source.folder)}); "
            f"it has been removed: try again, or {_by_hand(source, data_dir)}"
        ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    if len(table.clips) != source.clips:
        say(f"{data_dir}: has {len(table.clips)} clips, where {source.clips} were known; its authors have changed it")


@dataclass(frozen=True)
class Options:
    """Fetch a data set's recordings from its authors' archive; nothing to do where they are already."""

    dataset: str = "ESC-50"
    """ESC-50, ESC-10 or FSC22: archives of about 600 MB each"""
    data_dir: Path | None = None
    """where to put the recordings; default: data/DATASET"""


def _work(options: Options) -> dict[str, Any]:
    started = time.perf_counter()
    folder = download(options.dataset, options.data_dir or Path("data") / options.dataset)
    table = load_clips(options.dataset, folder)
    result = {
        "dataset": options.dataset,
        "data_dir": str(folder),
        "clips": len(table.clips),
        "classes": len(table.classes),
        "license": SOURCES[options.dataset].license,
        "url": SOURCES[options.dataset].url,
        "seconds": round(time.perf_counter() - started, 1),
    }
    grid = Table("what", "value")
    for name in ("clips", "classes", "license", "url"):
        grid.add_row(name, str(result[name]))
    show(grid, f"{options.dataset} in {folder}")
    return result


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; 0 on success, 2 on wrong input."""
    return run_command(Options, _work, "python -m training.data.download", argv)


if __name__ == "__main__":
    raise SystemExit(main())
