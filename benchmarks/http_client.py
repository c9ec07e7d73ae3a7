"""A small HTTP/1.1 client that costs little beside the server it measures, and two ways to load a server."""

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from urllib.parse import urlsplit

import numpy as np

from serving.errors import UsageError

BROKEN = 0  # the status of a reply that never arrived completely


@dataclass(frozen=True)
class Address:
    """Where a server listens."""

    host: str
    port: int

    @classmethod
    def parse(cls, url: str) -> "Address":
        """Parse http://127.0.0.1:8000. UsageError: anything else."""
        try:
            parts = urlsplit(url)
            host, port = parts.hostname, parts.port or 80
        except ValueError:
            parts, host, port = urlsplit(""), None, 0
        if parts.scheme != "http" or not host or parts.path not in ("", "/"):
            raise UsageError(f"URL: got {url}; wanted the server's address, like http://127.0.0.1:8000")
        return cls(host, port)


@dataclass(frozen=True)
class Reply:
    """An answer. status: BROKEN if the connection ended before the answer was complete; headers: in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


def make_request(path: str, body: bytes, headers: Mapping[str, str]) -> bytes:
    """The bytes of a POST request."""
    all_headers = {"host": "load", "content-length": str(len(body)), **headers}
    lines = [f"POST {path} HTTP/1.1", *(f"{name}: {value}" for name, value in all_headers.items()), "", ""]
    return "\r\n".join(lines).encode() + body


def read_reply(answer: bytes) -> Reply:
    """Parse a status line, headers and the body after them."""
    head, body = answer.split(b"\r\n\r\n", 1)
    first, *lines = head.decode("latin-1").split("\r\n")
    headers = {name.lower(): value.strip() for name, value in (line.split(":", 1) for line in lines)}
    return Reply(int(first.split(" ", 2)[1]), headers, body)


class HttpConnection:
    """One connection. It stays open between requests and is opened again where the server has closed it.

    resent  requests that found the connection closed and were sent again on a new one
    """

    def __init__(self, address: Address):
        self.resent = 0
        self._address = address
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def ask(self, request: bytes, pieces: int = 1, pause_s: float = 0.0) -> Reply:
        """Send a request, in so many pieces with a pause between them, and read the answer."""
        fresh = self._writer is None
        try:
            return await self._exchange(request, pieces, pause_s)
        except (OSError, asyncio.IncompleteReadError):
            self.close()
            if fresh:
                return Reply(BROKEN, {}, b"")
            self.resent += 1
            return await self.ask(request, pieces, pause_s)

    async def send_and_leave(self, part: bytes) -> None:
        """Send the beginning of a request and close the connection."""
        try:
            _, writer = await self._open()
            writer.write(part)
            await writer.drain()
        except OSError:
            pass
        self.close()

    def close(self) -> None:
        """Close the connection; the next request opens it again."""
        if self._writer is not None:
            self._writer.close()
        self._reader = self._writer = None

    async def _open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self._reader is None or self._writer is None:
            self._reader, self._writer = await asyncio.open_connection(self._address.host, self._address.port)
        return self._reader, self._writer

    async def _exchange(self, request: bytes, pieces: int, pause_s: float) -> Reply:
        reader, writer = await self._open()
        size = -(-len(request) // pieces)
        writer.write(request[:size])
        for start in range(size, len(request), size):
            await asyncio.sleep(pause_s)
            writer.write(request[start : start + size])
        # Read without waiting for the upload to end: a server may refuse it before it is complete.
        reply = read_reply(await reader.readuntil(b"\r\n\r\n"))
        body = await reader.readexactly(int(reply.headers.get("content-length", "0")))
        if writer.transport.get_write_buffer_size() or reply.headers.get("connection") == "close":
            writer.transport.abort()  # the rest of a refused upload is not needed
            self.close()
        return replace(reply, body=body)


@dataclass(frozen=True)
class Sample:
    """One request.

    seconds      from the moment when it was due until its answer was complete
    late_s       part of them: the delay of the load program itself, before it sent the request
    retry_after  the header, in seconds
    """

    status: int
    seconds: float
    late_s: float = 0.0
    retry_after: int | None = None


@dataclass(frozen=True)
class LoadRun:
    """The samples of one load, and the seconds in which they were answered."""

    samples: list[Sample]
    seconds: float


async def closed_loop(
    address: Address, requests: Sequence[bytes], connections: int, seconds: float, warm_up_s: float
) -> LoadRun:
    """Each connection sends its next request as soon as its last one is answered.

    What is answered between the warm-up and the end counts, over the time between them: of the requests that are under
    way at one of the two, only those at the first. Otherwise slow requests would seem rarer than they are. The end
    waits for as many answers as there are connections.
    """
    begin = time.perf_counter() + warm_up_s
    end = begin + seconds
    samples: list[Sample] = []
    last = begin  # time of the last answer that counts

    def is_over(now: float) -> bool:
        return now >= end and len(samples) >= connections

    async def client(turn: int) -> None:
        nonlocal last
        connection = HttpConnection(address)
        while not is_over(start := time.perf_counter()):
            sample = _sample(await connection.ask(requests[turn % len(requests)]), start, start)
            done = start + sample.seconds
            if done >= begin and not is_over(done):
                samples.append(sample)
                last = done
            turn += connections
        connection.close()

    await asyncio.gather(*(client(turn) for turn in range(connections)))
    return LoadRun(samples, max(end, last) - begin)


async def open_loop(
    address: Address, requests: Sequence[bytes], rate: float, seconds: float, rng: np.random.Generator
) -> LoadRun:
    """Requests arrive by a Poisson process of `rate` a second, however many are unanswered, as independent users do."""
    arrivals = np.cumsum(rng.exponential(1 / rate, max(1, round(rate * seconds))))
    idle: list[HttpConnection] = []
    tasks: list[asyncio.Task[Sample]] = []
    begin = time.perf_counter()

    async def client(turn: int, due: float) -> Sample:
        connection = idle.pop() if idle else HttpConnection(address)
        start = time.perf_counter()
        sample = _sample(await connection.ask(requests[turn % len(requests)]), due, start)
        idle.append(connection)
        return sample

    for turn, arrival in enumerate(arrivals):
        due = begin + float(arrival)
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        tasks.append(asyncio.create_task(client(turn, due)))
    samples = list(await asyncio.gather(*tasks))
    taken = time.perf_counter() - begin
    for connection in idle:
        connection.close()
    return LoadRun(samples, taken)


def _sample(reply: Reply, due: float, start: float) -> Sample:
    retry_after = reply.headers.get("retry-after", "")
    return Sample(
        reply.status,
        time.perf_counter() - due,
        start - due,
        int(retry_after) if retry_after.isdigit() else None,
    )
