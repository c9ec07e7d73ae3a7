"""Dynamic batching: windows of requests that arrive together share one call of the model."""

import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from serving.server.thread_priority import lower_thread_priority

Embed = Callable[[NDArray[np.float32]], NDArray[np.float32]]


@dataclass(frozen=True)
class Batched:
    """The embeddings of a request's windows.

    rows      [n_windows, size] float32, finite
    queue_ms  from the arrival of the windows to the start of their first batch
    model_ms  duration of all batches that contained them, shared with other requests
    """

    rows: NDArray[np.float32]
    queue_ms: float
    model_ms: float


class _Submission:
    """One request's windows: how many were taken by batches, and the rows returned so far."""

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
        """The number of windows that no batch has taken yet; 0 if the request failed or was cancelled."""
        return 0 if self.future.done() else len(self.windows) - self.taken


@dataclass(frozen=True)
class _BatchSlice:
    """Windows [start, stop) of a submission that share one batch."""

    submission: _Submission
    start: int
    stop: int

    @property
    def windows(self) -> NDArray[np.float32]:
        return self.submission.windows[self.start : self.stop]


class Batcher:
    """Runs the model on one batch at a time: first come, first served, but no request has a second batch before all
    that wait have had one.

    An idle model takes new windows at once, in the submitting thread if that is allowed. Windows that arrive while it
    is busy go to the batcher's own thread: they wait until there are `max_batch` of them or the first has waited for
    `max_wait_s`. A request's windows may be split over several batches. If a batch fails, its requests are run again
    one by one, and only those that fail alone fail.
    """

    def __init__(
        self,
        embed: Embed,
        max_batch: int,
        max_wait_s: float,
        on_batch: Callable[[int, float], None] = lambda windows, seconds: None,
        clock: Callable[[], float] = time.perf_counter,
    ):
        """embed: prepared windows [n, ...] -> rows [n, size]; on_batch: called with the windows and seconds of each."""
        self._embed = embed
        self._max_batch = max_batch
        self._max_wait_s = max_wait_s
        self._on_batch = on_batch
        self._clock = clock
        self._queue: deque[_Submission] = deque()
        self._changed = threading.Condition()
        self._busy = False  # some thread is running a batch
        self._closed = False
        self._thread = threading.Thread(target=self._work, name="batcher", daemon=True)
        self._thread.start()

    def submit(self, windows: NDArray[np.float32], first: bool = False, here: bool = False) -> Future[Batched]:
        """Queue prepared windows [n, ...] float32, n >= 1.

        first    put them before all others
        here     if the model is idle, run it in the calling thread before returning: waking another thread takes
                 tenths of a millisecond
        returns  a future; cancelling it drops the windows that no batch has taken
        errors   RuntimeError: closed. From the future: whatever `embed` raises; RuntimeError: the rows are not finite
                 or too few
        """
        submission = _Submission(windows, self._clock())
        with self._changed:
            if self._closed:
                raise RuntimeError("the batcher is closed")
            self._queue.appendleft(submission) if first else self._queue.append(submission)
            here = here and not self._busy and self._queue[0] is submission
            slices = self._take() if here else []
            if not here:
                self._changed.notify()
        if here:
            self._run_and_release(slices)
        return submission.future

    def close(self) -> None:
        """Finish the queue and end the thread. Nothing may be submitted after that."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()

    def _work(self) -> None:
        lower_thread_priority()
        while slices := self._next_batch():
            self._run_and_release(slices)

    def _run_and_release(self, slices: list[_BatchSlice]) -> None:
        """Run a batch that was just taken, then release the model."""
        try:
            self._run(slices)
        finally:
            with self._changed:
                self._busy = False
                self._changed.notify()

    def _next_batch(self) -> list[_BatchSlice]:
        """Wait for windows and take the next batch of them. Empty: closed and nothing left."""
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
                        continue  # to fill the batch
                if not self._busy and ((slices := self._take()) or self._closed):
                    return slices

    def _fill(self) -> None:
        """Wait for more windows to share the batch; used only after the model was busy."""
        deadline = self._queue[0].arrived + self._max_wait_s
        while self._waiting() < self._max_batch and not self._closed and (left := deadline - self._clock()) > 0:
            self._changed.wait(left)

    def _waiting(self) -> int:
        """The number of waiting windows, counted up to a full batch."""
        while self._queue and not self._queue[0].left:
            self._queue.popleft()
        count = 0
        for submission in self._queue:
            count += submission.left
            if count >= self._max_batch:
                break
        return count

    def _take(self) -> list[_BatchSlice]:
        """Take windows for one batch, which the caller must run."""
        slices: list[_BatchSlice] = []
        room = self._max_batch
        while room and self._queue:
            submission = self._queue[0]
            n_windows = min(room, submission.left)
            if n_windows:
                slices.append(_BatchSlice(submission, submission.taken, submission.taken + n_windows))
                submission.taken += n_windows
                room -= n_windows
            if not submission.left:
                self._queue.popleft()
            elif not room:
                self._queue.rotate(-1)  # the rest after the others
        self._busy = bool(slices)
        return slices

    def _run(self, slices: list[_BatchSlice]) -> None:
        started = self._clock()
        try:
            windows = slices[0].windows if len(slices) == 1 else np.concatenate([piece.windows for piece in slices])
            rows = self._embed(windows)
            if rows.ndim != 2 or len(rows) != len(windows):
                raise RuntimeError(f"the model gave {list(rows.shape)} for {len(windows)} windows")
        except Exception as error:  # of any kind: the thread must survive it, and the requests must receive it
            if len(slices) == 1:
                _settle(slices[0].submission, error)
            else:
                for piece in slices:
                    self._run([piece])
            return
        seconds = self._clock() - started
        self._on_batch(len(windows), seconds)
        start = 0
        for piece in slices:
            stop = start + piece.stop - piece.start
            self._receive(piece.submission, rows[start:stop], started, seconds)
            start = stop

    def _receive(self, submission: _Submission, rows: NDArray[np.float32], started: float, seconds: float) -> None:
        """Add the rows of one slice to its submission, and settle it when it is complete."""
        if not np.isfinite(rows).all():
            _settle(submission, RuntimeError("the model's embedding is not finite"))
            return
        submission.started = started if submission.started is None else submission.started
        submission.results.append(rows)
        submission.model_s += seconds
        if sum(map(len, submission.results)) == len(submission.windows):
            # A copy: a view would keep the rows of all other requests in memory as long as this result.
            rows = np.concatenate(submission.results)
            queue_s = submission.started - submission.arrived
            _settle(submission, Batched(rows, 1000 * queue_s, 1000 * submission.model_s))


def _settle(submission: _Submission, outcome: Batched | Exception) -> None:
    """Set a submission's result unless it has one or was cancelled."""
    if submission.future.done() or not submission.future.set_running_or_notify_cancel():
        return
    if isinstance(outcome, Exception):
        submission.future.set_exception(outcome)
    else:
        submission.future.set_result(outcome)
