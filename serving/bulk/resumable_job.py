"""A long job in parts: an interruption loses only unfinished parts, and finished parts are not done again.

X.parquet.parts/    exists while the job runs and after an interruption
    job.json        the settings of the job: only a command with the same settings can continue it; size of each part
    files.jsonl     the files found at the start: one part a line, as a JSON list of names
    lock            held by the process that works on the job
    000000.parquet  a finished part: the rows of the files of the first line; written atomically
"""

import fcntl
import json
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from serving.atomic_write import write_atomically
from serving.bulk.job_settings import differences
from serving.errors import UsageError
from serving.new_folder import new_folder

SETTINGS_FILE = "job.json"
LIST_FILE = "files.jsonl"
BYTES_PER_PART = (
    2**32
)  # of files: 6 hours of 48 kHz stereo; a part of few long recordings is full before `files_per_part`


@dataclass(frozen=True)
class PartSize:
    """How many files a part has, and how many bytes they have in all."""

    files: int
    bytes: int


@dataclass(frozen=True)
class ResumableJob:
    """The folder of a job, while this process holds its lock.

    sizes      of each part
    done       numbers of the parts that earlier runs finished
    begun_ns   when the job began, in nanoseconds since 1970
    """

    folder: Path
    sizes: tuple[PartSize, ...]
    done: frozenset[int]
    begun_ns: int

    @property
    def n_parts(self) -> int:
        """Number of parts."""
        return len(self.sizes)

    @property
    def all(self) -> PartSize:
        """All parts together."""
        return _sum(self.sizes)

    @property
    def done_before(self) -> PartSize:
        """The parts that earlier runs finished, together."""
        return _sum(self.sizes[part] for part in self.done)

    def missing(self) -> Iterator[tuple[int, list[str]]]:
        """Yield the number and the files of each unfinished part, in order."""
        for part, names in enumerate(self._names()):
            if part not in self.done:
                yield part, names

    def names(self) -> Iterator[str]:
        """Yield the names of all files, in order."""
        for names in self._names():
            yield from names

    def _names(self) -> Iterator[list[str]]:
        with (self.folder / LIST_FILE).open(encoding="utf-8") as lines:
            yield from map(json.loads, lines)

    def path(self, part: int) -> Path:
        """The file of a finished part."""
        return self.folder / f"{part:06d}.parquet"

    def save(self, part: int, write: Callable[[Path], object]) -> None:
        """Finish a part: `write` fills the file whose path it is given."""
        write_atomically(self.path(part), write)

    def remove(self) -> None:
        """Remove the job's folder: rename it first, so that an interruption cannot leave a part of the job behind."""
        aside = Path(tempfile.mkdtemp(prefix=f".{self.folder.name}-", dir=self.folder.parent))
        self.folder.rename(aside / self.folder.name)
        shutil.rmtree(aside, ignore_errors=True)


def begun_settings(folder: Path) -> dict[str, Any] | None:
    """The settings of the unfinished job in the folder; None: there is no folder.

    errors   UsageError: the folder holds no job
    """
    return _begun(folder)["begun_with"] if folder.exists() else None


def _begun(folder: Path) -> dict[str, Any]:
    try:
        return json.loads((folder / SETTINGS_FILE).read_text())
    except (OSError, ValueError) as error:
        raise UsageError(f"{folder}: holds no job to continue ({error}); remove it, or --overwrite") from error


@contextmanager
def open_job(
    folder: Path,
    settings: dict[str, Any],
    files: Callable[[], Iterable[tuple[str, int]]],
    files_per_part: int,
    anew: bool,
    flag: str = "--out",
) -> Iterator[ResumableJob]:
    """Begin a job, or continue the one in the folder.

    settings   everything that the result depends on, as JSON
    files      lists the files with their sizes in bytes; called for a new job only
    anew       discard the job in the folder
    flag       the option that names the job's file, for messages
    errors     UsageError: the job in the folder has other settings, or another process works on it
    """
    if anew and folder.exists():
        with _locked(folder, flag):
            pass
    if anew or not folder.exists():
        with new_folder(folder, anew, SETTINGS_FILE, flag) as new:
            begun_ns = time.time_ns()  # before the first file is looked at
            sizes = _write_list(new / LIST_FILE, files(), files_per_part)
            parts = [[size.files, size.bytes] for size in sizes]
            content = {"begun_with": settings, "begun_ns": begun_ns, "parts": parts}
            (new / SETTINGS_FILE).write_text(json.dumps(content) + "\n")
    content = _begun(folder)
    if other := differences(content["begun_with"], settings):
        raise UsageError(
            f"{folder}: an unfinished job with {other}; continue it with those, or --overwrite to begin anew"
        )
    with _locked(folder, flag):
        done = frozenset(int(path.stem) for path in folder.glob("[0-9]*.parquet"))
        sizes = tuple(PartSize(*size) for size in content["parts"])
        job = ResumableJob(folder, sizes, done, content["begun_ns"])
        try:
            yield job
        except BaseException:
            if not any(folder.glob("[0-9]*.parquet")):
                job.remove()  # there is no finished part to keep
            raise


@contextmanager
def _locked(folder: Path, flag: str) -> Iterator[None]:
    """Hold the folder's lock. UsageError: another process holds it."""
    with (folder / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # the system releases it when the process ends in any way
        except OSError as error:
            raise UsageError(
                f"{folder}: another process works on this job; wait for it, or give another {flag}"
            ) from error
        yield


def _write_list(path: Path, files: Iterable[tuple[str, int]], files_per_part: int) -> list[PartSize]:
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


def _sum(sizes: Iterable[PartSize]) -> PartSize:
    both = [(size.files, size.bytes) for size in sizes]
    return PartSize(sum(files for files, _ in both), sum(n_bytes for _, n_bytes in both))
