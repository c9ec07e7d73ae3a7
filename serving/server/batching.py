"""Dynamic batching: windows of requests that arrive together share one call of the model."""

import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from serving.server.priority import step_back

Embed = Callable[[NDArray[np.float32]], NDArray[np.float32]]


@dataclass(frozen=True)
class Batched:
    """What a request's windows gave.

    rows      [n_windows, size] float32, finite
    queue_ms  from the arrival of the windows to the start of their first batch
    model_ms  that the batches took in which they were, whoever else was in them
    """

    rows: NDArray[np.float32]
    queue_ms: float
    model_ms: float


class _Job:
    """One request's windows: how many of them are taken, and what came back so far."""

    def __init__(self, windows: NDArray[np.float32], now: float):
        self.windows = windows
        self.arrived = now
        self.started: float | None = None
        self.taken = 0
        self.results: list[NDArray[np.float32]] = []
        self.model_s = 0.0
        self.future: Future[Batched] = Future()

    @property
    def left(self) -> int:
        """Windows that no batch has taken yet: none of a request that failed or that nobody waits for any more."""
        return 0 if self.future.done() else len(self.windows) - self.taken


@dataclass(frozen=True)
class _Part:
    """Windows [start, stop) of a job: as many as fit into one batch."""

    job: _Job
    start: int
    stop: int

    @property
    def windows(self) -> NDArray[np.float32]:
        return self.job.windows[self.start : self.stop]


class Batcher:
    """Feeds the model, one batch at a time, first come, first served.

    A model at rest takes what is there at once, in the thread that brings it where that may be; what waits while it
    works goes to the batcher's own thread. Batches form while it works: then windows wait until `max_batch` of
    them are there, or the first of them has waited for `max_wait_s`. A request's windows may be split over batches.
    Where a batch fails, its requests are tried one at a time, and only those that fail alone fail.
    """

    def __init__(
        self,
        embed: Embed,
        max_batch: int,
        max_wait_s: float,
        on_batch: Callable[[int, float], None] = lambda windows, seconds: None,
        clock: Callable[[], float] = time.perf_counter,
    ):
        """embed: prepared windows [n, ...] -> rows [n, size]; on_batch: told windows and seconds of each call of it."""
        self._embed = embed
        self._max_batch = max_batch
        self._max_wait_s = max_wait_s
        self._on_batch = on_batch
        self._clock = clock
        self._jobs: deque[_Job] = deque()
        self._changed = threading.Condition()
        self._busy = False  # some thread is running a batch
        self._closed = False
        self._thread = threading.Thread(target=self._work, name="batcher", daemon=True)
        self._thread.start()

    def submit(self, windows: NDArray[np.float32], first: bool = False, here: bool = False) -> Future[Batched]:
        """Queue prepared windows [n, ...] float32, n >= 1; ahead of all others with `first`.

        here     a model at rest runs them in the calling thread, before this returns: another thread would take some
                 tenths of a millisecond to wake
        returns  cancel it, and the windows that no batch has taken are dropped
        errors   RuntimeError: closed. From the future: whatever `embed` raises; RuntimeError: rows that are no
                 embeddings, because they are not finite or too few
        """
        job = _Job(windows, self._clock())
        with self._changed:
            if self._closed:
                raise RuntimeError("the batcher is closed")
            self._jobs.appendleft(job) if first else self._jobs.append(job)
            here = here and not self._busy and self._jobs[0] is job
            parts = self._take() if here else []
            if not here:
                self._changed.notify()
        if here:
            self._run_and_rest(parts)
        return job.future

    def close(self) -> None:
        """Finish what is queued, and end the thread. Nothing may be submitted after that."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()

    def _work(self) -> None:
        step_back()
        while parts := self._next_batch():
            self._run_and_rest(parts)

    def _run_and_rest(self, parts: list[_Part]) -> None:
        """Run a batch that was just taken, and let the next one come."""
        try:
            self._run(parts)
        finally:
            with self._changed:
                self._busy = False
                self._changed.notify()

    def _next_batch(self) -> list[_Part]:
        """Wait for windows and take the next batch of them; none: closed and nothing left."""
        with self._changed:
            while True:
                if self._waiting() and not self._busy:
                    self._fill()
                else:
                    was_busy = False
                    while self._busy or not (self._waiting() or self._closed):
                        was_busy = self._busy
                        self._changed.wait()
                    if was_busy:
                        continue  # and fill
                if not self._busy and ((parts := self._take()) or self._closed):
                    return parts

    def _fill(self) -> None:
        """The model was busy until now: give what comes in the next moment the chance to share the batch."""
        deadline = self._jobs[0].arrived + self._max_wait_s
        while self._waiting() < self._max_batch and not self._closed and (left := deadline - self._clock()) > 0:
            self._changed.wait(left)

    def _waiting(self) -> int:
        """The windows that wait, counted no further than a full batch."""
        while self._jobs and not self._jobs[0].left:
            self._jobs.popleft()
        count = 0
        for job in self._jobs:
            count += job.left
            if count >= self._max_batch:
                break
        return count

    def _take(self) -> list[_Part]:
        """Windows for one batch, which the caller has to run."""
        parts: list[_Part] = []
        room = self._max_batch
        while room and self._jobs:
            job = self._jobs[0]
            n_windows = min(room, job.left)
            if n_windows:
                parts.append(_Part(job, job.taken, job.taken + n_windows))
                job.taken += n_windows
                room -= n_windows
            if not job.left:
                self._jobs.popleft()
        self._busy = bool(parts)
        return parts

    def _run(self, parts: list[_Part]) -> None:
        started = self._clock()
        try:
            windows = parts[0].windows if len(parts) == 1 else np.concatenate([part.windows for part in parts])
            rows = self._embed(windows)
            if rows.ndim != 2 or len(rows) != len(windows):
                raise RuntimeError(f"the model gave {list(rows.shape)} for {len(windows)} windows")
        except Exception as error:  # whatever it is: the thread must live, and who waits must know
            if len(parts) == 1:
                _settle(parts[0].job, error)
            else:
                for part in parts:
                    self._run([part])
            return
        seconds = self._clock() - started
        self._on_batch(len(windows), seconds)
        start = 0
        for part in parts:
            stop = start + part.stop - part.start
            self._receive(part.job, rows[start:stop], started, seconds)
            start = stop

    def _receive(self, job: _Job, rows: NDArray[np.float32], started: float, seconds: float) -> None:
        """Give a job the rows of one of its parts, and answer it when they are all there."""
        if not np.isfinite(rows).all():
            _settle(job, RuntimeError("the model's embedding is not finite"))
            return
        job.started = started if job.started is None else job.started
        job.results.append(rows)
        job.model_s += seconds
        if sum(map(len, job.results)) == len(job.windows):
            # A copy where the rows are a view: the others' rows must not live as long as this answer.
            rows = np.concatenate(job.results)
            _settle(job, Batched(rows, 1000 * (job.started - job.arrived), 1000 * job.model_s))


def _settle(job: _Job, outcome: Batched | Exception) -> None:
    """Answer a job unless it is answered already, or nobody waits for it any more."""
    if job.future.done() or not job.future.set_running_or_notify_cancel():
        return
    if isinstance(outcome, Exception):
        job.future.set_exception(outcome)
    else:
        job.future.set_result(outcome)
