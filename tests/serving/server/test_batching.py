"""The batcher: who shares a batch with whom, who waits, who fails, and that nobody's numbers depend on it."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from serving.server.batching import Batcher

SAMPLES = 8


def windows(*values: float) -> np.ndarray:
    """A window for each value, filled with it: [n, SAMPLES] float32."""
    return np.repeat(np.array(values, np.float32)[:, None], SAMPLES, axis=1)


class Model:
    """A model under the test's hands: each call waits to be let go, and is remembered by its windows' values.

    A window gives the row [value, 2 * value]. A batch with a value in `guilty` fails.
    """

    def __init__(self, held: bool = False, guilty: Callable[[float], bool] = lambda value: False):
        self.batches: list[list[float]] = []
        self.working = threading.Semaphore(0)  # released at the start of each call
        self.go = threading.Semaphore(0)
        self.held = held
        self.guilty = guilty

    def __call__(self, batch: np.ndarray) -> np.ndarray:
        values = batch[:, 0].tolist()
        self.batches.append(values)
        self.working.release()
        if self.held:
            assert self.go.acquire(timeout=30)
        if any(map(self.guilty, values)):
            raise ValueError(f"guilty: {values}")
        return np.stack([batch[:, 0], 2 * batch[:, 0]], axis=1)

    def await_call(self) -> None:
        """Return when a call has begun."""
        assert self.working.acquire(timeout=30)

    def release(self, calls: int) -> None:
        """Let so many calls end."""
        for _ in range(calls):
            self.go.release()


def rows(*values: float) -> list[list[float]]:
    return [[value, 2 * value] for value in values]


def result(future) -> list[list[float]]:
    return future.result(timeout=30).rows.tolist()


def test_requests_that_come_while_the_model_works_share_the_next_batch():
    model = Model(held=True)
    batcher = Batcher(model, max_batch=8, max_wait_s=0)
    first = batcher.submit(windows(1))
    model.await_call()
    others = [batcher.submit(windows(value, value + 0.5)) for value in (2, 3, 4)]
    model.release(2)
    assert result(first) == rows(1)
    assert [result(other) for other in others] == [rows(2, 2.5), rows(3, 3.5), rows(4, 4.5)]
    assert model.batches == [[1], [2, 2.5, 3, 3.5, 4, 4.5]]
    batcher.close()


def test_an_idle_model_takes_a_request_at_once_however_long_a_busy_one_may_wait():
    model = Model()
    batcher = Batcher(model, max_batch=8, max_wait_s=60)
    started = time.perf_counter()
    for value in (1, 2, 3):
        batched = batcher.submit(windows(value)).result(timeout=30)
        assert batched.queue_ms < 10_000
    assert time.perf_counter() - started < 30
    assert model.batches == [[1], [2], [3]]
    batcher.close()


def test_an_idle_model_works_in_the_thread_that_asks_for_it():
    threads: list[str] = []

    def embed(batch: np.ndarray) -> np.ndarray:
        threads.append(threading.current_thread().name)
        return batch[:, :2]

    batcher = Batcher(embed, max_batch=2, max_wait_s=0)
    mine = threading.current_thread().name
    here = batcher.submit(windows(1, 2), here=True)
    assert here.done()
    elsewhere = batcher.submit(windows(3))
    assert result(elsewhere) == [[3, 3]]
    long = batcher.submit(
        windows(4, 5, 6, 7, 8), here=True
    )  # the rest of it is the batcher's: this thread has more to do
    assert len(long.result(timeout=30).rows) == 5
    assert threads[0] == threads[2] == mine
    assert mine not in {threads[1], *threads[3:]}
    assert len(threads) == 5
    failed = Batcher(Model(guilty=lambda value: True), max_batch=2, max_wait_s=0).submit(windows(1), here=True)
    with pytest.raises(ValueError, match="guilty"):
        failed.result(timeout=0)
    batcher.close()


def test_a_busy_model_is_not_waited_for_by_who_would_run_it():
    model = Model(held=True)
    batcher = Batcher(model, max_batch=8, max_wait_s=0)
    with ThreadPoolExecutor(1) as thread:
        first = thread.submit(lambda: batcher.submit(windows(1), here=True))
        model.await_call()
        others = [batcher.submit(windows(2), here=True), batcher.submit(windows(3))]
        assert not any(other.done() for other in others)
        model.release(2)
        assert result(first.result(timeout=30)) == rows(1)
    assert [result(other) for other in others] == [rows(2), rows(3)]
    assert model.batches == [[1], [2, 3]]
    batcher.close()


def test_a_busy_model_waits_for_company_until_the_batch_is_full():
    model = Model(held=True)
    batcher = Batcher(model, max_batch=3, max_wait_s=60)
    first = batcher.submit(windows(1))
    model.await_call()
    second = batcher.submit(windows(2))
    model.release(2)
    assert result(first) == rows(1)
    assert not model.working.acquire(timeout=0.2)  # one window waits, the batch is not full
    third = batcher.submit(windows(3, 4))
    assert result(second) == rows(2)
    assert result(third) == rows(3, 4)
    assert model.batches == [[1], [2, 3, 4]]
    batcher.close()


def test_a_busy_model_waits_no_longer_than_it_may():
    model = Model(held=True)
    batcher = Batcher(model, max_batch=3, max_wait_s=0.3)
    batcher.submit(windows(1))
    model.await_call()
    second = batcher.submit(windows(2))
    model.release(2)
    batched = second.result(timeout=30)
    assert 290 <= batched.queue_ms < 5_000
    assert model.batches == [[1], [2]]
    batcher.close()


def test_a_request_larger_than_a_batch_is_split_and_put_together_in_order():
    model = Model(held=True)
    batcher = Batcher(model, max_batch=4, max_wait_s=0)
    batcher.submit(windows(0))
    model.await_call()
    long, short = batcher.submit(windows(*range(1, 7))), batcher.submit(windows(7))
    model.release(3)
    assert result(long) == rows(*range(1, 7))
    assert result(short) == rows(7)
    assert model.batches == [[0], [1, 2, 3, 4], [7, 5, 6]]  # the rest after what came meanwhile
    batcher.close()


@pytest.mark.parametrize("guilty", [lambda value: value == 3, lambda value: value in (2, 3, 4)], ids=["one", "three"])
def test_only_the_guilty_of_a_failed_batch_fail(guilty):
    model = Model(held=True, guilty=guilty)
    batcher = Batcher(model, max_batch=8, max_wait_s=0)
    batcher.submit(windows(0))
    model.await_call()
    futures = {value: batcher.submit(windows(value)) for value in (1, 2, 3, 4, 5)}
    model.held = False
    model.release(1)
    for value, future in futures.items():
        if guilty(value):
            with pytest.raises(ValueError, match=rf"guilty: \[{value}.0\]"):
                future.result(timeout=30)
        else:
            assert result(future) == rows(value)
    assert result(batcher.submit(windows(6))) == rows(6)
    batcher.close()


def test_a_request_that_failed_in_its_first_part_is_not_worked_on_any_more():
    model = Model(held=True, guilty=lambda value: value == 1)
    batcher = Batcher(model, max_batch=2, max_wait_s=0)
    batcher.submit(windows(0))
    model.await_call()
    doomed, after = batcher.submit(windows(1, 2, 3, 4, 5, 6)), batcher.submit(windows(7))
    model.held = False
    model.release(1)
    with pytest.raises(ValueError, match="guilty"):
        doomed.result(timeout=30)
    assert result(after) == rows(7)
    assert model.batches == [[0], [1, 2], [7]]
    batcher.close()


def test_rows_that_are_no_numbers_fail_their_request_and_not_its_neighbours():
    def embed(batch: np.ndarray) -> np.ndarray:
        gate.wait(30)
        return np.where(batch[:, :2] == 2, np.nan, batch[:, :2])

    gate = threading.Event()
    batcher = Batcher(embed, max_batch=8, max_wait_s=0)
    futures = [batcher.submit(windows(value)) for value in (1, 1, 2, 3)]
    gate.set()
    assert [future.result(timeout=30).rows[0, 0] for future in (futures[1], futures[3])] == [1, 3]
    with pytest.raises(RuntimeError, match="not finite"):
        futures[2].result(timeout=30)
    batcher.close()


def test_too_few_rows_are_a_failure_and_never_someone_elses():
    batcher = Batcher(lambda batch: batch[1:, :2], max_batch=8, max_wait_s=0)
    with pytest.raises(RuntimeError, match=r"gave \[1, 2\] for 2 windows"):
        batcher.submit(windows(1, 2)).result(timeout=30)
    batcher.close()


def test_a_cancelled_request_is_dropped_also_in_the_middle_of_its_windows():
    model = Model(held=True)
    batcher = Batcher(model, max_batch=2, max_wait_s=0)
    long = batcher.submit(windows(1, 2, 3, 4, 5, 6))
    model.await_call()
    waiting, kept = batcher.submit(windows(7)), batcher.submit(windows(8))
    assert long.cancel()
    assert waiting.cancel()
    model.release(2)
    assert result(kept) == rows(8)
    assert model.batches == [[1, 2], [8]]
    batcher.close()


def test_when_all_who_wait_are_cancelled_the_batcher_serves_the_next_one():
    model = Model(held=True)
    batcher = Batcher(model, max_batch=4, max_wait_s=0.2)
    batcher.submit(windows(1))
    model.await_call()
    batcher.submit(windows(2)).cancel()
    waiting = batcher.submit(windows(3))
    model.release(1)
    time.sleep(0.05)  # now the batcher waits for company
    waiting.cancel()
    time.sleep(0.3)
    model.held = False
    assert result(batcher.submit(windows(4))) == rows(4)
    assert model.batches == [[1], [4]]
    batcher.close()


def test_first_goes_before_all_who_wait_but_not_into_a_batch_that_is_under_way():
    model = Model(held=True)
    batcher = Batcher(model, max_batch=2, max_wait_s=0)
    long = batcher.submit(windows(1, 2, 3, 4))
    model.await_call()
    urgent = batcher.submit(windows(9), first=True)
    model.release(3)
    assert result(long) == rows(1, 2, 3, 4)
    assert result(urgent) == rows(9)
    assert model.batches == [[1, 2], [9, 3], [4]]
    batcher.close()


def test_closing_finishes_what_is_queued_and_takes_no_more():
    model = Model(held=True)
    batcher = Batcher(model, max_batch=2, max_wait_s=60)
    futures = [batcher.submit(windows(value)) for value in range(5)]
    closing = threading.Thread(target=batcher.close)
    closing.start()
    model.release(5)
    closing.join(30)
    assert not closing.is_alive()
    assert [result(future) for future in futures] == [rows(value) for value in range(5)]
    with pytest.raises(RuntimeError, match="closed"):
        batcher.submit(windows(9))


def test_every_call_is_told_with_its_windows_and_its_time():
    told: list[tuple[int, float]] = []
    batcher = Batcher(Model(), 2, 0, on_batch=lambda n, seconds: told.append((n, seconds)))
    batched = batcher.submit(windows(1, 2, 3)).result(timeout=30)
    batcher.close()
    assert [n for n, _ in told] == [2, 1]
    assert batched.model_ms == pytest.approx(1000 * sum(seconds for _, seconds in told))


def test_an_answer_does_not_keep_the_rows_of_its_neighbours_alive():
    model = Model(held=True)
    batcher = Batcher(model, max_batch=8, max_wait_s=0)
    batcher.submit(windows(0))
    model.await_call()
    futures = [batcher.submit(windows(value)) for value in (1, 2)]
    model.release(2)
    assert futures[0].result(timeout=30).rows.base is None
    assert result(futures[1]) == rows(2)
    batcher.close()


def test_a_clip_embeds_the_same_alone_and_in_any_company(embedder):
    rng = np.random.default_rng(0)
    samples = embedder.manifest.window.samples
    clips = [(rng.uniform(0.01, 0.5) * rng.standard_normal((n, samples))).astype(np.float32) for n in (1, 3, 2, 5, 1)]
    alone = [embedder.run(clip) for clip in clips]
    for max_batch in (1, 2, 5, 8):
        gate = threading.Event()

        def run(batch: np.ndarray, gate: threading.Event = gate) -> np.ndarray:
            gate.wait(30)
            return embedder.run(batch)

        batcher = Batcher(run, max_batch, 0)
        futures = [batcher.submit(clip) for clip in clips]
        gate.set()
        for future, expected in zip(futures, alone, strict=True):
            np.testing.assert_allclose(future.result(timeout=60).rows, expected, rtol=0, atol=1e-5)
        batcher.close()


def test_thousands_of_requests_from_many_threads_each_get_their_own_rows():
    rng = np.random.default_rng(0)
    bad = 13.0

    def embed(batch: np.ndarray) -> np.ndarray:
        if (batch[:, 0] == bad).any():
            raise ValueError("bad")
        return batch[:, :2] * [[1, 2]]

    running = threading.Lock()

    def alone(batch: np.ndarray) -> np.ndarray:
        assert running.acquire(blocking=False), "two batches at once"
        try:
            return embed(batch)
        finally:
            running.release()

    batcher = Batcher(alone, max_batch=7, max_wait_s=0.001)
    failures: list[str] = []

    def ask(values: list[np.ndarray]) -> None:
        for i, asked in enumerate(values):
            future = batcher.submit(windows(*asked), here=i % 2 == 1)
            if asked[0] % 5 == 0:
                future.cancel()
                continue
            try:
                got = result(future)
                if bad in asked or got != rows(*asked):
                    failures.append(f"{asked}: {got}")
            except ValueError:
                if bad not in asked:
                    failures.append(f"{asked}: failed")

    threads = [
        threading.Thread(target=ask, args=([rng.integers(1, 100, rng.integers(1, 20)) for _ in range(200)],))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    batcher.close()
    assert not failures
