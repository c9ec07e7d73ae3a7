"""What a job shows while it works: files, recorded hours a second, and the time left by the bytes that are left."""

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Self

from rich.progress import BarColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from serving.bulk.job_parts import PartSize
from serving.progress import ProgressBars


@dataclass(frozen=True)
class Worked:
    """Work that is done: files, their bytes, and their seconds of sound."""

    files: int = 0
    bytes: int = 0
    seconds: float = 0.0

    def __add__(self, other: Self) -> "Worked":
        return Worked(self.files + other.files, self.bytes + other.bytes, self.seconds + other.seconds)


class JobProgress:
    """The bar of a job, and the sum of what was worked. Made by `show_progress`."""

    def __init__(self, bar: ProgressBars, whole: PartSize, before: PartSize):
        self.worked = Worked()
        self._bar = bar
        self._whole, self._before = whole, before
        self._started = time.perf_counter()
        # Empty files have no bytes, and a bar without a total would pulse for ever.
        self._task = bar.add_task("embedding", total=max(1, whole.bytes), completed=before.bytes, numbers=self._note())

    def count(self, work: Iterable[Worked]) -> None:
        """Do the work, and show it."""
        for done in work:
            self.worked += done
            self._bar.update(self._task, advance=done.bytes, numbers=self._note())

    @property
    def hours_per_s(self) -> float:
        """Hours of sound that were worked in a second."""
        return self.worked.seconds / 3600 / max(1e-9, time.perf_counter() - self._started)

    def _note(self) -> str:
        files = self._before.files + self.worked.files
        return f"{files}/{self._whole.files} files, {self.hours_per_s:.2f} recorded hours/s"


@contextmanager
def show_progress(whole: PartSize, before: PartSize) -> Iterator[JobProgress]:
    """Show a bar on stderr while the block works.

    whole, before   size of the job, and of what earlier runs finished
    """
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[numbers]}"))
    columns = (*columns, TimeElapsedColumn(), TimeRemainingColumn())
    with ProgressBars(*columns, unit="byte") as bar:
        yield JobProgress(bar, whole, before)
