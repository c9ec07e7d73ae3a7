"""Time pieces of work fairly: warmed up first, taken in turns, told as percentiles."""

import time
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

Key = TypeVar("Key", bound=Hashable)


@dataclass(frozen=True)
class Job:
    """One piece of work.

    prepare   turn -> input: not timed; turns count from 0, warm-up included
    work      input -> anything: timed
    """

    prepare: Callable[[int], Any]
    work: Callable[[Any], object]


@dataclass(frozen=True)
class Percentiles:
    """Of n durations, in milliseconds. The fewer than 100 there are, the closer is p99 to the largest of them."""

    n: int
    p50_ms: float
    p95_ms: float
    p99_ms: float


def percentiles(durations_ns: NDArray[np.number]) -> Percentiles:
    """Percentiles of durations [n] in nanoseconds, n >= 1; between two of them by linear interpolation."""
    p50, p95, p99 = np.percentile(durations_ns, (50, 95, 99)) / 1e6
    return Percentiles(len(durations_ns), float(p50), float(p95), float(p99))


def wait_for_rest(most_s: float = 0.5) -> None:
    """Return when no thread of this process works, or after `most_s` seconds.

    The threads of ONNX Runtime spin for a while after each call (measured: 52 ms of a core), and would take a core
    from whatever is timed next.
    """
    deadline = time.perf_counter() + most_s
    while time.perf_counter() < deadline:
        before = time.process_time_ns()
        time.sleep(0.005)
        if time.process_time_ns() - before < 500_000:  # a tenth of the sleep
            return


def time_in_turns(
    jobs: Mapping[Key, Job],
    repeats: int,
    warm_up: int,
    on_round: Callable[[], None] = lambda: None,
    settle: Callable[[], None] = wait_for_rest,
    clock_ns: Callable[[], int] = time.perf_counter_ns,
) -> dict[Key, NDArray[np.int64]]:
    """Time every job once a round, each from rest: see `time_in_rows`. Durations [repeats] in nanoseconds."""
    rows = time_in_rows(jobs, 1, repeats, warm_up, on_round, settle, clock_ns)
    return {key: durations[:, 0] for key, durations in rows.items()}


def time_in_rows(
    jobs: Mapping[Key, Job],
    in_a_row: int,
    repeats: int,
    warm_up: int,
    on_round: Callable[[], None] = lambda: None,
    settle: Callable[[], None] = wait_for_rest,
    clock_ns: Callable[[], int] = time.perf_counter_ns,
) -> dict[Key, NDArray[np.int64]]:
    """Time every job some times in a row, round after round, so that a drift of the machine hits all jobs alike.

    in_a_row  how often in a round: the first time from rest, and after what other jobs left in the caches
    repeats   rounds that count, at least 1
    warm_up   rounds before them, of all jobs, that do not
    on_round  called after each round of either kind
    settle    called before each job's row, so that it matters little which one came before
    clock_ns  a clock that only goes forward, in nanoseconds
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
