"""A long job in parts: an interruption loses only unfinished parts, and finished parts are not done again.

X.parquet.parts/    exists while the job runs and after an interruption
    job.json        the settings of the job: only a command with the same settings can continue it
    files.jsonl     the files found at the start, one JSON string a line
    lock            held by the process that works on the job
    000000.parquet  a finished part: the rows of the first `files_per_part` files; written atomically
"""

import fcntl
import json
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from serving.atomic_write import write_atomically
from serving.errors import UsageError
from serving.new_folder import new_folder

SETTINGS_FILE = "job.json"
LIST_FILE = "files.jsonl"


@dataclass(frozen=True)
class ResumableJob:
    """The folder of a job, while this process holds its lock.

    n_files         number of files in all parts
    files_per_part  number of files in a part; the last part can have fewer
    done            numbers of the parts that earlier runs finished
    """

    folder: Path
    n_files: int
    files_per_part: int
    done: frozenset[int]

    @property
    def n_parts(self) -> int:
        """Number of parts."""
        return -(-self.n_files // self.files_per_part)

    @property
    def n_files_done(self) -> int:
        """Number of files in the parts that earlier runs finished."""
        last = self.n_parts - 1
        short = self.n_parts * self.files_per_part - self.n_files
        return len(self.done) * self.files_per_part - (short if last in self.done else 0)

    def missing(self) -> Iterator[tuple[int, list[str]]]:
        """Yield the number and the files of each unfinished part, in order."""
        with (self.folder / LIST_FILE).open(encoding="utf-8") as lines:
            for part in range(self.n_parts):
                chunk = list(islice(lines, self.files_per_part))
                if part not in self.done:
                    yield part, [json.loads(line) for line in chunk]

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


@contextmanager
def open_job(
    folder: Path, settings: dict[str, Any], files: Callable[[], Iterable[str]], files_per_part: int, anew: bool
) -> Iterator[ResumableJob]:
    """Begin a job, or continue the one in the folder.

    settings   everything that the result depends on, as JSON
    files      lists the files; called for a new job only
    anew       discard the job in the folder
    errors     UsageError: the job in the folder has other settings, or another process works on it
    """
    if anew and folder.exists():
        with _locked(folder):
            pass
    if anew or not folder.exists():
        with new_folder(folder, anew, SETTINGS_FILE) as new:
            n_files = _write_list(new / LIST_FILE, files())
            content = {"begun_with": settings, "n_files": n_files, "files_per_part": files_per_part}
            (new / SETTINGS_FILE).write_text(json.dumps(content, indent=1) + "\n")
    try:
        content = json.loads((folder / SETTINGS_FILE).read_text())
    except (OSError, ValueError) as error:
        raise UsageError(f"{folder}: holds no job to continue ({error}); remove it, or --overwrite") from error
    differences = [
        f"{key.replace('_', ' ')} was {content['begun_with'].get(key)}, now {value}"
        for key, value in settings.items()
        if content["begun_with"].get(key) != value
    ]
    if differences:
        raise UsageError(
            f"{folder}: an unfinished job with other settings ({'; '.join(differences)}); continue it "
            "with those settings, or --overwrite to begin anew"
        )
    with _locked(folder):
        done = frozenset(int(path.stem) for path in folder.glob("[0-9]*.parquet"))
        job = ResumableJob(folder, content["n_files"], content["files_per_part"], done)
        try:
            yield job
        except BaseException:
            if not any(folder.glob("[0-9]*.parquet")):
                job.remove()  # there is no finished part to keep
            raise


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold the folder's lock. UsageError: another process holds it."""
    with (folder / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # the system releases it when the process ends in any way
        except OSError as error:
            raise UsageError(f"{folder}: another process works on this job; wait for it, or another --out") from error
        yield


def _write_list(path: Path, files: Iterable[str]) -> int:
    count = 0
    with path.open("w", encoding="utf-8") as lines:
        for name in files:
            lines.write(json.dumps(name) + "\n")
            count += 1
    return count
