"""Timing of jobs that take turns, so that a drift in the machine's speed affects all of them alike."""

import time
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from rich.progress import Progress

from serving.command_line import progress_console

Key = TypeVar("Key", bound=Hashable)


@dataclass(frozen=True)
class TimedJob:
    """One piece of work.

    prepare   turn -> input; not timed. Turns count from 0 and include the warm-up
    work      input -> anything; timed
    """

    prepare: Callable[[int], Any]
    work: Callable[[Any], object]


@dataclass(frozen=True)
class Percentiles:
    """Percentiles of n durations in milliseconds. With n below 100, p99 is close to the largest duration."""

    n: int
    p50_ms: float
    p95_ms: float
    p99_ms: float


def percentiles(durations_ns: NDArray[np.number]) -> Percentiles:
    """Percentiles of at least one duration in nanoseconds, any shape, with linear interpolation."""
    p50, p95, p99 = np.percentile(durations_ns, (50, 95, 99)) / 1e6
    return Percentiles(durations_ns.size, float(p50), float(p95), float(p99))


def wait_for_rest(most_s: float = 0.5) -> None:
    """Return when all threads of this process are idle, or after `most_s` seconds.

    ONNX Runtime's threads spin after each call (measured: 52 ms of a core) and would slow down the next job.
    """
    deadline = time.perf_counter() + most_s
    while time.perf_counter() < deadline:
        before = time.process_time_ns()
        time.sleep(0.005)
        if time.process_time_ns() - before < 500_000:  # a tenth of the sleep
            return


def take_turns(
    jobs: Mapping[Key, TimedJob],
    repeats: int,
    warm_up: int,
    in_a_row: int = 1,
    on_round: Callable[[], None] = lambda: None,
    settle: Callable[[], None] = wait_for_rest,
    clock_ns: Callable[[], int] = time.perf_counter_ns,
) -> dict[Key, NDArray[np.int64]]:
    """Time every job in each round.

    repeats   rounds that count, at least 1
    warm_up   rounds before them that do not count
    in_a_row  runs of a job within a round; the first starts from rest, with the caches as the previous job left them
    on_round  called after every round, warm-up included
    settle    called before each job, so that the order of the jobs matters little
    clock_ns  a monotonic clock in nanoseconds
    returns   for each job its durations [repeats, in_a_row] in nanoseconds
    """
    durations = {key: np.empty((warm_up + repeats, in_a_row), np.int64) for key in jobs}
    for turn in range(warm_up + repeats):
        for key, job in jobs.items():
            settle()
            for i in range(in_a_row):
                given = job.prepare(turn * in_a_row + i)
                start = clock_ns()
                job.work(given)
                durations[key][turn, i] = clock_ns() - start
        on_round()
    return {key: taken[warm_up:] for key, taken in durations.items()}


def time_jobs(
    jobs: Mapping[Key, TimedJob], repeats: int, warm_up: int, in_a_row: int = 1, title: str = "warm-up, then timing"
) -> dict[Key, NDArray[np.int64]]:
    """`take_turns` with a progress bar, which is redrawn between rounds only, so that it is never timed."""
    with Progress(console=progress_console, auto_refresh=False) as progress:
        bar = progress.add_task(title, total=warm_up + repeats)
        return take_turns(jobs, repeats, warm_up, in_a_row, partial(progress.update, bar, advance=1, refresh=True))
