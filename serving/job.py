"""A long job in parts: whatever interrupts it, what is done is kept, and nothing is done twice.

X.parquet.parts/    while the job runs, and after it was interrupted
    job.json        what it was begun with: only the same may continue it
    files.jsonl     the files, one JSON string a line, as they were found when it began
    lock            held by the process that works on it
    000000.parquet  a finished part: the rows of the first `files_per_part` files; made whole by renaming
"""

import fcntl
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from serving.errors import UsageError
from serving.new_folder import new_folder

JOB = "job.json"
FILES = "files.jsonl"


@dataclass(frozen=True)
class Job:
    """A job's folder, while this process holds its lock.

    n_files         in all
    files_per_part  the last part can have fewer
    done            numbers of the parts that were finished before
    """

    folder: Path
    n_files: int
    files_per_part: int
    done: frozenset[int]

    @property
    def n_parts(self) -> int:
        """Parts in all."""
        return -(-self.n_files // self.files_per_part)

    @property
    def n_files_done(self) -> int:
        """Files of the parts that were finished before."""
        last = self.n_parts - 1
        short = self.n_parts * self.files_per_part - self.n_files
        return len(self.done) * self.files_per_part - (short if last in self.done else 0)

    def missing(self) -> Iterator[tuple[int, list[str]]]:
        """Number and files of each part that is not finished, in order."""
        with (self.folder / FILES).open(encoding="utf-8") as lines:
            for part in range(self.n_parts):
                chunk = list(islice(lines, self.files_per_part))
                if part not in self.done:
                    yield part, [json.loads(line) for line in chunk]

    def path(self, part: int) -> Path:
        """Where a finished part lies."""
        return self.folder / f"{part:06d}.parquet"

    def save(self, part: int, write: Callable[[Path], object]) -> None:
        """Finish a part: what `write` writes to the path that it is given becomes it, whole or not at all."""
        temporary = self.folder / f".{part:06d}.new"
        write(temporary)
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.rename(self.path(part))

    def remove(self) -> None:
        """The end: the folder is gone at once, whatever interrupts the removal of what was in it."""
        aside = Path(tempfile.mkdtemp(prefix=f".{self.folder.name}-", dir=self.folder.parent))
        self.folder.rename(aside / self.folder.name)
        shutil.rmtree(aside, ignore_errors=True)


@contextmanager
def open_job(
    folder: Path, begun_with: dict[str, Any], files: Callable[[], Iterable[str]], files_per_part: int, anew: bool
) -> Iterator[Job]:
    """Begin a job, or continue the one in the folder.

    begun_with  what its result depends on, as JSON
    files       called for a new job only
    anew        forget what is there
    errors      UsageError: the job there was begun with something else, or another process works on it
    """
    if anew and folder.exists():
        with _alone(folder):
            pass
    if anew or not folder.exists():
        with new_folder(folder, anew, JOB) as new:
            n_files = _write_files(new / FILES, files())
            content = {"begun_with": begun_with, "n_files": n_files, "files_per_part": files_per_part}
            (new / JOB).write_text(json.dumps(content, indent=1) + "\n")
    try:
        content = json.loads((folder / JOB).read_text())
    except (OSError, ValueError) as error:
        raise UsageError(f"{folder}: holds no job to continue ({error}); remove it, or --overwrite") from error
    differences = [
        f"{key.replace('_', ' ')} was {content['begun_with'].get(key)}, now {value}"
        for key, value in begun_with.items()
        if content["begun_with"].get(key) != value
    ]
    if differences:
        raise UsageError(
            f"{folder}: an unfinished job that was begun with something else ({'; '.join(differences)}); continue it "
            "with what it was begun with, or --overwrite to begin anew"
        )
    with _alone(folder):
        done = frozenset(int(path.stem) for path in folder.glob("[0-9]*.parquet"))
        job = Job(folder, content["n_files"], content["files_per_part"], done)
        try:
            yield job
        except BaseException:
            if not any(folder.glob("[0-9]*.parquet")):
                job.remove()  # nothing was done that could be continued
            raise


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Hold the folder's lock; UsageError where another process does."""
    with (folder / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # the system lets go of it however the process ends
        except OSError as error:
            raise UsageError(f"{folder}: another process works on this job; wait for it, or another --out") from error
        yield


def _write_files(path: Path, files: Iterable[str]) -> int:
    count = 0
    with path.open("w", encoding="utf-8") as lines:
        for name in files:
            lines.write(json.dumps(name) + "\n")
            count += 1
    return count
