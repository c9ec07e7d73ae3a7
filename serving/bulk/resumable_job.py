"""A long job in parts: an interruption loses only unfinished parts, and finished parts are not done again.

X.parquet.parts/    exists while the job runs and after an interruption
    job.json        the settings of the job: only a command with the same settings can continue it; size of each part
    files.jsonl     the files found at the start: one part a line, as a JSON list of names
    lock            held by the process that works on the job
    000000000-000000256.parquet  a finished part, or a piece of one that takes long: the rows of the first 256 files of
                                 the list; written atomically
"""

import json
import shutil
import tempfile
import time
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Any, TypeVar

from serving.bulk.job_parts import Part, PartSize, sum_of, write_list
from serving.bulk.job_settings import differences
from serving.errors import UsageError
from serving.files.atomic_write import move_atomically
from serving.files.held_folder import lock
from serving.files.new_folder import new_folder

SETTINGS_FILE = "job.json"
LIST_FILE = "files.jsonl"
SECONDS_PER_PIECE = 30.0  # of work: what is done of a part is saved when it is older
PIECES = "[0-9]*-[0-9]*.parquet"

Item = TypeVar("Item")


@dataclass(frozen=True)
class ResumableJob:
    """The folder of a job, while this process holds its lock.

    sizes      of each part
    pieces     finished by earlier runs: for each, the number of the file after its last one
    begun_ns   when the job began, in nanoseconds since 1970
    """

    folder: Path
    sizes: tuple[PartSize, ...]
    pieces: tuple[int, ...]
    begun_ns: int

    @property
    def all(self) -> PartSize:
        """All parts together."""
        return sum_of(self.sizes)

    @property
    def done_before(self) -> PartSize:
        """What earlier runs finished."""
        left = sum_of(size for _, _, size in self._left())
        return PartSize(self.all.files - left.files, self.all.bytes - left.bytes)

    def missing(self) -> Iterator[Part]:
        """Yield the unfinished parts, in order, without their files that earlier runs finished."""
        for (begin, first, left), names in zip(self._left(), self._names(), strict=True):
            if left.files:
                yield Part(first, names[first - begin :], left)

    def _left(self) -> Iterator[tuple[int, int, PartSize]]:
        """For each part: the numbers of its first file and of its first one that is left, and the size of all left."""
        begin, ends = 0, sorted(self.pieces)
        for size in self.sizes:
            end = begin + size.files
            known = bisect_right(ends, end)
            first = max(begin, ends[known - 1]) if known else begin
            yield begin, first, PartSize(end - first, size.bytes * (end - first) // size.files)
            begin = end

    def names(self) -> Iterator[str]:
        """Yield the names of all files, in order."""
        for names in self._names():
            yield from names

    def _names(self) -> Iterator[list[str]]:
        with (self.folder / LIST_FILE).open(encoding="utf-8") as lines:
            yield from map(json.loads, lines)

    def finished(self) -> list[Path]:
        """The finished files, in the order of the rows."""
        return sorted(self.folder.glob(PIECES))

    def save_part(
        self,
        part: Part,
        items: Iterator[Item],
        files_of: Callable[[Item], int],
        write: Callable[[Path, Iterator[Item]], object],
    ) -> None:
        """Finish a part, in pieces of about SECONDS_PER_PIECE.

        items     what its files become, in order; files_of gives the number of files that one is of
        write     fills a file, whose path it is given, with items
        """
        end = part.first

        def piece() -> Iterator[Item]:
            nonlocal end
            began = monotonic()
            for item in items:
                end += files_of(item)
                yield item
                if monotonic() - began >= SECONDS_PER_PIECE:
                    return

        def fill(path: Path) -> int:
            write(path, piece())
            return end

        while end < part.first + len(part.names):
            self.save(end, fill)

    def save(self, first: int, write: Callable[[Path], int]) -> None:
        """Save files from number `first` on, whole or not at all.

        write   fills the file whose path it is given, and returns the number of the first file that is not in it
        """
        temporary = self.folder / ".tmp-piece.parquet"
        try:
            end = write(temporary)
            move_atomically(temporary, self.folder / f"{first:09d}-{end:09d}.parquet")
        finally:
            temporary.unlink(missing_ok=True)

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


def begun_for(folder: Path) -> str:
    """The purpose of the unfinished job in the folder, see `open_job`; "": there is no folder, or it has none.

    errors   UsageError: the folder holds no job
    """
    return _begun(folder).get("purpose", "") if folder.exists() else ""


def _begun(folder: Path) -> dict[str, Any]:
    try:
        return json.loads((folder / SETTINGS_FILE).read_text())
    except (OSError, ValueError) as error:
        raise UsageError(f"{folder}: holds no job to continue ({error}); remove it, or --overwrite") from error


@contextmanager
def open_job(
    folder: Path,
    settings: dict[str, Any],
    files: Callable[[Path], Iterable[tuple[str, int]]],
    files_per_part: int,
    anew: bool,
    flag: str = "--out",
    purpose: str = "",
) -> Iterator[ResumableJob]:
    """Begin a job, or continue the one in the folder.

    settings   everything that the result depends on, as JSON
    files      lists the files with their sizes in bytes; called for a new job only, with its folder
    anew       discard the job in the folder
    flag       the option that names the job's file, for messages
    purpose    of a new job: what its file is for, if not for itself; another one may continue it
    errors     UsageError: the job in the folder has other settings, or another process works on it
    An exception, also of Ctrl-C or SIGTERM, removes the folder if it has no finished part.
    """
    if anew and folder.exists():
        with _locked(folder, flag):
            pass
    if anew or not folder.exists():
        with new_folder(folder, anew, SETTINGS_FILE, flag) as new:
            begun_ns = time.time_ns()  # before the first file is looked at
            sizes = write_list(new / LIST_FILE, files(new), files_per_part)
            parts = [[size.files, size.bytes] for size in sizes]
            content = {"begun_with": settings, "begun_ns": begun_ns, "parts": parts, "purpose": purpose}
            (new / SETTINGS_FILE).write_text(json.dumps(content) + "\n")
    content = _begun(folder)
    if other := differences(content["begun_with"], settings):
        raise UsageError(
            f"{folder}: an unfinished job with {other}; continue it with those, or --overwrite to begin anew"
        )
    with _locked(folder, flag):
        pieces = tuple(int(path.stem.split("-")[1]) for path in folder.glob(PIECES))
        sizes = tuple(PartSize(*size) for size in content["parts"])
        job = ResumableJob(folder, sizes, pieces, content["begun_ns"])
        try:
            yield job
        except BaseException:
            if not job.finished():
                job.remove()
            raise


@contextmanager
def _locked(folder: Path, flag: str) -> Iterator[None]:
    """Hold the folder's lock, where the file system has locks. UsageError: another process holds it."""
    # A file, not the folder: NFS locks only what is open for writing.
    with (folder / "lock").open("w") as file:
        try:
            lock(file.fileno())
        except BlockingIOError as error:
            raise UsageError(
                f"{folder}: another process works on this job; wait for it, or give another {flag}"
            ) from error
        yield
