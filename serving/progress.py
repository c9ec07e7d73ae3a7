"""Progress of long work on stderr: bars on a terminal; elsewhere, as in a pipe or a log file, a line now and then."""

import time
from collections.abc import Iterable, Iterator
from datetime import timedelta
from operator import length_hint
from typing import Any, TypeVar

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from serving.command_line import progress_console, say

LINE_SECONDS = 10.0  # between two lines where there is no terminal
Item = TypeVar("Item")


class ProgressBars(Progress):
    """Bars of tasks. Without a terminal a task in progress is described in a line every LINE_SECONDS instead."""

    def __init__(self, *columns: str | ProgressColumn, unit: str = "", transient: bool = True, quiet: bool = False):
        """columns: default a bar, numbers and times; unit: of a task's numbers, for the lines; quiet: show nothing."""
        self._lines = not (quiet or progress_console.is_terminal)
        self._unit = unit
        self._next_line = time.monotonic() + LINE_SECONDS
        shown = columns or (
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
        )
        super().__init__(*shown, console=progress_console, transient=transient, disable=quiet or self._lines)

    def update(self, task_id: TaskID, **changes: Any) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """As of `rich.progress.Progress`."""
        super().update(task_id, **changes)
        self._line(task_id)

    def advance(self, task_id: TaskID, advance: float = 1) -> None:
        """As of `rich.progress.Progress`."""
        super().advance(task_id, advance)
        self._line(task_id)

    def _line(self, task_id: TaskID) -> None:
        """Describe a task in a line, if it is time for one."""
        if not self._lines or time.monotonic() < self._next_line:
            return
        self._next_line = time.monotonic() + LINE_SECONDS
        task = self._tasks[task_id]
        of = f" of {_number(task.total)}" if task.total is not None else ""
        facts = [f"{task.description}: {self._unit}{' ' if self._unit else ''}{_number(task.completed)}{of}"]
        facts += [numbers] if (numbers := task.fields.get("numbers")) else []
        facts += [f"{_clock(task.elapsed)} so far"] if task.elapsed is not None else []
        facts += [f"about {_clock(task.time_remaining)} left"] if task.time_remaining is not None else []
        say(", ".join(facts))


def track(items: Iterable[Item], title: str, total: int | None = None, quiet: bool = False) -> Iterator[Item]:
    """Yield the items, and show how many of them were taken. total: their number; None: what `len` says."""
    with ProgressBars(quiet=quiet) as bars:
        # Not `Progress.track`: without a terminal it never tells how far it is.
        task = bars.add_task(title, total=total or length_hint(items) or None)
        for item in items:
            yield item
            bars.advance(task)


def _number(value: float) -> str:
    """With one decimal, unless it is whole: 3.5, 12, 1,234,567."""
    return f"{value:,.1f}".removesuffix(".0")


def _clock(seconds: float) -> str:
    """Hours, minutes and seconds: 0:01:30."""
    return str(timedelta(seconds=round(seconds)))
