"""What HTTP adds: the same clips embedded in this process and by the server, in turns."""

import re
import socket
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.http_client import Address, make_request, read_reply
from benchmarks.inputs import InputClips
from benchmarks.load_report import LoadRow
from serving.embedder import Embedder
from serving.errors import UsageError
from serving.pooling import pool

BULK_SECONDS = 3.0
ROUNDS, CLIPS_A_ROUND = 40, 12  # single clips: in each round 12 in this process, then 12 over HTTP
SETTLING = 3  # clips of each dozen that do not count: they find the caches as the other way left them
WANTED_SHARE = 0.75  # of embed_files's throughput, at the largest number of connections
WANTED_MS = 2.0  # at most, added to one clip
CONTENT_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)\r\n", re.IGNORECASE)


class BlockingConnection:
    """A connection that blocks until each answer is there: it adds a socket's time and no library's.

    errors   OSError: nobody listens at the address
    """

    def __init__(self, address: Address):
        self._socket = socket.create_connection((address.host, address.port), timeout=60)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def ask(self, request: bytes) -> bytes:
        """Send a request of `make_request`; the answer's bytes, for `read_reply`."""
        self._socket.sendall(request)
        answer = b""
        while (end := answer.find(b"\r\n\r\n")) < 0:
            answer += self._receive()
        length = CONTENT_LENGTH.search(answer, 0, end + 2)
        size = end + 4 + int(length[1] if length else 0)
        while len(answer) < size:
            answer += self._receive()
        return answer

    def _receive(self) -> bytes:
        received = self._socket.recv(2**16)
        if not received:
            raise OSError("the server closed the connection")
        return received

    def close(self) -> None:
        """Close the connection."""
        self._socket.close()


@dataclass(frozen=True)
class SingleClip:
    """One clip at a time, medians in milliseconds: in this process, over HTTP, and the median of the differences."""

    here_ms: float
    http_ms: float
    adds_ms: float


class InProcess:
    """An embedder in this process, and the clips as files and as bytes."""

    def __init__(self, bundle: Path, backend: str, clips: InputClips):
        self._embedder = Embedder.load(bundle, backend)
        self._encoded = list(clips.encoded.values())
        self._folder = tempfile.TemporaryDirectory(prefix="unheard-load-")
        self._paths = [Path(self._folder.name, f"{i}.audio") for i in range(len(clips))]
        for path, data in zip(self._paths, self._encoded, strict=True):
            path.write_bytes(data)

    def files_per_second(self) -> float:
        """Throughput of `embed_files`, after one warm-up."""
        self._embedder.embed_files(self._paths)
        start, count = time.perf_counter(), 0
        while time.perf_counter() - start < BULK_SECONDS:
            self._embedder.embed_files(self._paths * 4)
            count += 4 * len(self._paths)
        return count / (time.perf_counter() - start)

    def time_single_clips(self, address: Address, headers: Mapping[str, str]) -> SingleClip:
        """Single clips in this process and over HTTP, in turns. UsageError: the server refuses one."""
        connection = BlockingConnection(address)
        requests = [make_request("/v1/embed", data, headers) for data in self._encoded]

        def ask(request: bytes) -> None:
            answer = connection.ask(request)
            if not answer.startswith(b"HTTP/1.1 200 "):
                reply = read_reply(answer)
                raise UsageError(f"the server answered a single clip with {reply.status}: {reply.body[:300]!r}")

        rounds = [(_median_ms(self._embed, self._encoded), _median_ms(ask, requests)) for _ in range(ROUNDS)]
        connection.close()
        here, over_http = np.array(rounds).T
        return SingleClip(*(float(np.median(times)) for times in (here, over_http, over_http - here)))

    def _embed(self, data: bytes) -> None:
        pool(self._embedder.run_prepared(self._embedder.prepare_bytes(data, "clip").inputs))

    def compare_with_server(self, bulk: Sequence[float], single: SingleClip, rows: Sequence[LoadRow]) -> dict[str, Any]:
        """The server's largest closed loop and a single clip beside this process.

        bulk  `files_per_second` before and after the loads; their mean counts
        """
        closed = [row for row in rows if row.loop == "closed"]
        share = closed[-1].per_second / float(np.mean(bulk))
        return {
            "backend": self._embedder.backend,
            "files_per_second": [round(rate, 2) for rate in bulk],
            "connections": closed[-1].connections,
            "http_share": round(share, 3),
            "http_share_reached": share >= WANTED_SHARE,
            "one_ms": round(single.here_ms, 3),
            "one_http_ms": round(single.http_ms, 3),
            "http_adds_ms": round(single.adds_ms, 3),
            "http_adds_reached": single.adds_ms <= WANTED_MS,
        }


def describe_overhead(compared: Mapping[str, Any]) -> str:
    """The comparison in one sentence."""
    before, after = compared["files_per_second"]
    return (
        f"in this process ({compared['backend']}) embed_files does {before:g} clips a second before the loads and "
        f"{after:g} after them; the server with {compared['connections']} connections reaches "
        f"{100 * compared['http_share']:.0f} % of that; one clip takes {compared['one_ms']:.2f} ms, and "
        f"{compared['http_adds_ms']:.2f} ms more over HTTP"
    )


def _median_ms(work: Callable[[bytes], object], items: Sequence[bytes]) -> float:
    """The median of CLIPS_A_ROUND calls, the first SETTLING left out."""
    times: list[float] = []
    for turn in range(CLIPS_A_ROUND):
        item = items[turn % len(items)]
        start = time.perf_counter()
        work(item)
        times.append(1000 * (time.perf_counter() - start))
    return float(np.median(times[SETTLING:]))
