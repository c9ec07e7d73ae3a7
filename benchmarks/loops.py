"""Ask a server again and again: as many at a time as there are connections, or as many a second as arrive by chance."""

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.client import Address, Connection, Reply


@dataclass(frozen=True)
class Sample:
    """One request.

    seconds      from when it was due until its answer was whole
    late_s       of it, before it was sent: the load program itself was late
    retry_after  the header, in seconds
    """

    status: int
    seconds: float
    late_s: float = 0.0
    retry_after: int | None = None


@dataclass(frozen=True)
class Run:
    """The samples of one load, and the seconds from the first request to the last answer."""

    samples: list[Sample]
    seconds: float


async def closed_loop(
    address: Address, requests: Sequence[bytes], connections: int, seconds: float, warm_up_s: float
) -> Run:
    """Each connection sends its next request when its last is answered. Those of the warm-up do not count."""
    begin = time.perf_counter() + warm_up_s
    end = begin + seconds
    samples: list[Sample] = []

    async def client(turn: int) -> None:
        connection = Connection(address)
        while (start := time.perf_counter()) < end:
            sample = _sample(await connection.ask(requests[turn % len(requests)]), start, start)
            if start >= begin:
                samples.append(sample)
            turn += connections
        connection.close()

    await asyncio.gather(*(client(turn) for turn in range(connections)))
    return Run(samples, time.perf_counter() - begin)


async def open_loop(
    address: Address,
    requests: Sequence[bytes],
    rate: float,
    seconds: float,
    rng: np.random.Generator,
    on_tick: Callable[[], None] = lambda: None,
) -> Run:
    """Requests arrive by a Poisson process, however many are unanswered: what users do who know nothing of each other.

    rate  a second, on average
    """
    arrivals = np.cumsum(rng.exponential(1 / rate, max(1, round(rate * seconds))))
    idle: list[Connection] = []
    tasks: list[asyncio.Task[Sample]] = []
    begin = time.perf_counter()

    async def client(turn: int, due: float) -> Sample:
        connection = idle.pop() if idle else Connection(address)
        start = time.perf_counter()
        sample = _sample(await connection.ask(requests[turn % len(requests)]), due, start)
        idle.append(connection)
        return sample

    for turn, arrival in enumerate(arrivals):
        due = begin + float(arrival)
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        tasks.append(asyncio.create_task(client(turn, due)))
        on_tick()
    samples = list(await asyncio.gather(*tasks))
    taken = time.perf_counter() - begin
    for connection in idle:
        connection.close()
    return Run(samples, taken)


def _sample(reply: Reply, due: float, start: float) -> Sample:
    retry_after = reply.headers.get("retry-after", "")
    return Sample(
        reply.status,
        time.perf_counter() - due,
        start - due,
        int(retry_after) if retry_after.isdigit() else None,
    )
