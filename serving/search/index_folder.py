"""The index on disk: a folder with the embeddings in their cells, the rows that they stand for, and index.json.

    index.json      what the index was made from, and the stamp of each file; it says what the folder is
    embeddings.f32  the records of the rows (serving.search.records), in the order of their cells
    cells.f32       the records of the cells (serving.search.cells)
    starts.npy      the first row of each cell, and the number of rows
    order.npy       for each record the row of rows.arrow
    rows.arrow      the file, the place and the times of each row, in Arrow's IPC format
    sample.npy      embeddings of rows from the whole index, by which scores are standardised

It is written completely or not at all (serving.files.new_folder). The large files are mapped into memory, and the
numbers in them are followed without a check. So the files are opened only if they are those that were written: by size,
and by time of change or, where that differs (after a copy), by SHA-256.
"""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow

from serving.bulk.file_facts import FileStamp, is_unchanged, stamp_of
from serving.errors import UsageError, one_line
from serving.files.file_record import open_regular

MANIFEST = "index.json"
EMBEDDINGS, CELLS = "embeddings.f32", "cells.f32"
STARTS, ORDER, SAMPLE = "starts.npy", "order.npy", "sample.npy"
ROWS = "rows.arrow"
FILES = (EMBEDDINGS, CELLS, STARTS, ORDER, ROWS, SAMPLE)
FORMAT = 2  # of the folder; another is refused
MAX_MANIFEST_BYTES = 100_000
ANY_TIME = 2**63  # nobody else writes to the files before the folder has its name, so their times decide
MAKE_IT = "make it with: python -m serving.index SOUNDS.parquet --out INDEX"
AGAIN = f"copy the index again, or {MAKE_IT}"

TEXT, NUMBER = pyarrow.string(), pyarrow.float64()
SCHEMA = pyarrow.schema(  # of rows.arrow
    [
        ("path", TEXT),
        ("start_s", NUMBER),
        ("end_s", NUMBER),
        ("recorded_at", TEXT),
        ("start_at", TEXT),
        ("end_at", TEXT),
    ]
)


@dataclass(frozen=True)
class IndexManifest:
    """The content of index.json.

    embedding_space  of all rows
    embedding_size   numbers of an embedding
    rows             in the index
    left_out         rows of the Parquet file that are silent or have no direction
    map_id           of the bundle's map, whose numbers the records have (`ZeroShot.map_id`); None: they have none
    mean             [embedding_size]: subtracted from embeddings before they are compared; zeros without a map
    parquet          path of the Parquet file that the index was made from
    parquet_stamp    by which it is known again
    recordings       the folder to which the rows' paths are relative; None: not known
    files            name -> stamp
    per              what each row is: "clip", a whole recording, or "window"; None: an older index does not say it
    made_ns          all stamps were taken before, in nanoseconds since 1970
    """

    embedding_space: str
    embedding_size: int
    rows: int
    left_out: int
    map_id: str | None
    mean: list[float]
    parquet: str
    parquet_stamp: FileStamp
    recordings: str | None
    files: dict[str, FileStamp]
    made_ns: int
    per: str | None = None


def stamps_of(folder: Path) -> dict[str, FileStamp]:
    """The stamps of an index's files."""
    return {name: stamp_of(folder / name) for name in FILES}


def write_manifest(folder: Path, manifest: IndexManifest) -> None:
    """Write index.json."""
    (folder / MANIFEST).write_text(json.dumps({"format": FORMAT, **asdict(manifest)}, indent=1) + "\n")


def read_manifest(folder: Path) -> IndexManifest:
    """Read index.json. UsageError: the folder is missing, is no index, or one of another format."""
    if not folder.exists():
        raise UsageError(f"{folder}: no such index; {MAKE_IT}")
    try:
        with open_regular(folder / MANIFEST) as file:
            content = json.loads(file.read(MAX_MANIFEST_BYTES))
        if content.get("format") != FORMAT:
            raise UsageError(f"{folder}: has the format {str(content.get('format'))[:20]}, wanted {FORMAT}; {MAKE_IT}")
        return _parse(content)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise UsageError(f"{folder}: is no index, it has no {MANIFEST}; {MAKE_IT}") from error
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise UsageError(f"{folder / MANIFEST}: cannot be read ({one_line(error, 120)}); {MAKE_IT}") from error


def _parse(content: dict[str, Any]) -> IndexManifest:
    """The manifest in a JSON object. KeyError, TypeError, ValueError: it is something else."""
    files = {name: _stamp(content["files"][name]) for name in FILES}
    recordings, map_id, per = content["recordings"], content["map_id"], content.get("per")
    if per not in ("clip", "window", None):
        raise ValueError(f"got per {str(per)[:40]!r}, wanted clip or window")
    manifest = IndexManifest(
        embedding_space=_text(content["embedding_space"]),
        embedding_size=_count(content["embedding_size"]),
        rows=_count(content["rows"]),
        left_out=_count(content["left_out"]),
        map_id=None if map_id is None else _text(map_id),
        mean=[float(number) for number in content["mean"]],
        parquet=_text(content["parquet"]),
        parquet_stamp=_stamp(content["parquet_stamp"]),
        recordings=None if recordings is None else _text(recordings),
        files=files,
        made_ns=_count(content["made_ns"]),
        per=per,
    )
    if not manifest.rows or not manifest.embedding_size or len(manifest.mean) != manifest.embedding_size:
        raise ValueError("it has no rows, or a mean of another size")
    return manifest


def _stamp(content: dict[str, Any]) -> FileStamp:
    times = _count(content["mtime_ns"]), _count(content["ctime_ns"])
    return FileStamp(_count(content["size"]), *times, _text(content["sha256"]))


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"got {str(value)[:40]!r}, wanted a text")
    return value


def _count(value: object) -> int:
    if type(value) is not int or value < 0:
        raise ValueError(f"got {str(value)[:40]!r}, wanted a whole number")
    return value


def check_files(folder: Path, manifest: IndexManifest) -> None:
    """UsageError: a file of the index is missing, cut short or changed, or its Parquet file has changed since."""
    for name, stamp in _in_order(manifest.files.items()):
        path = folder / name
        try:
            size = path.stat().st_size
        except OSError as error:
            raise UsageError(f"{path}: cannot be read ({error.strerror}); {AGAIN}") from error
        if size != stamp.size:
            raise UsageError(f"{path}: has {size} bytes, wanted {stamp.size}; {AGAIN}")
        if not is_unchanged(path, stamp, ANY_TIME):
            raise UsageError(f"{path}: has changed since it was made; {AGAIN}")
    source = Path(manifest.parquet)
    if _is_there(source) and not is_unchanged(source, manifest.parquet_stamp, manifest.made_ns):
        bundle = "" if manifest.map_id is None else "--bundle BUNDLE "
        raise UsageError(
            f"{folder}: {source} has changed since the index was made; make it again: python -m serving.index {source} "
            f"{bundle}--out {folder} --overwrite"
        )


def _is_there(path: Path) -> bool:
    """Whether there is such a file, as far as this user may see."""
    try:
        return path.is_file()
    except OSError:
        return False


def _in_order(files: Iterable[tuple[str, FileStamp]]) -> list[tuple[str, FileStamp]]:
    """The smallest first, because a file that was copied is read whole."""
    return sorted(files, key=lambda item: item[1].size)
