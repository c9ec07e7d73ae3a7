"""The same clips without HTTP: what a server is compared with."""

import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.client import Address, Caller, make_request, read_reply
from benchmarks.load_report import LoadRow
from serving.audio import decode_audio
from serving.embedder import Embedder, pool
from serving.errors import UsageError

SECONDS = 3.0  # of bulk
ROUNDS, TURNS = 40, 12  # of single clips: so many one way, then so many the other way
SETTLED = 3  # of each turn, which find the machine as the other way left it
WANTED_SHARE = 0.75  # of embed_files's throughput at the most connections
WANTED_MS = 2.0  # more for one clip over HTTP


@dataclass(frozen=True)
class Single:
    """One clip at a time, the median in milliseconds: bytes to embedding here, and the same over HTTP.

    adds_ms  the median over the rounds of what HTTP takes more
    """

    here_ms: float
    http_ms: float
    adds_ms: float


class InProcess:
    """An embedder in this process, and the clips as files and as bytes."""

    def __init__(self, bundle: Path, backend: str, clips: Mapping[str, bytes]):
        self._embedder = Embedder.load(bundle, backend)
        self._clips = list(clips.values())
        self._folder = tempfile.TemporaryDirectory(prefix="unheard-load-")
        self._paths = [Path(self._folder.name, f"{i}.audio") for i in range(len(self._clips))]
        for path, data in zip(self._paths, self._clips, strict=True):
            path.write_bytes(data)

    def files_per_second(self) -> float:
        """Of `embed_files`, after a round of warm-up."""
        self._embedder.embed_files(self._paths)
        start, count = time.perf_counter(), 0
        while time.perf_counter() - start < SECONDS:
            self._embedder.embed_files(self._paths * 4)
            count += 4 * len(self._paths)
        return count / (time.perf_counter() - start)

    def take_turns(self, address: Address, headers: Mapping[str, str]) -> Single:
        """One clip at a time here and over HTTP, in turns: a machine that is slow for a while is so for both."""
        caller = Caller(address)
        requests = [make_request("/v1/embed", data, headers) for data in self._clips]

        def ask(request: bytes) -> None:
            answer = caller.ask(request)
            if not answer.startswith(b"HTTP/1.1 200 "):
                reply = read_reply(answer)
                raise UsageError(f"the server answered a single clip with {reply.status}: {reply.body[:300]!r}")

        rounds = [(_time(self._embed, self._clips), _time(ask, requests)) for _ in range(ROUNDS)]
        caller.close()
        here, over_http = np.array(rounds).T
        return Single(*(float(np.median(times)) for times in (here, over_http, over_http - here)))

    def _embed(self, data: bytes) -> None:
        pool(self._embedder.run(self._embedder.windows(*decode_audio(data))))

    def compare(self, bulk: Sequence[float], single: Single, rows: Sequence[LoadRow]) -> dict[str, Any]:
        """The server's last closed loop, and a single clip, beside this process's numbers.

        bulk  `files_per_second` before the loads and after them: their mean counts
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

    def told(self, compared: dict[str, Any]) -> str:
        """The comparison in a line."""
        first, last = compared["files_per_second"]
        return (
            f"in this process ({compared['backend']}) embed_files does {first:g} then {last:g} clips a second: the "
            f"server with {compared['connections']} connections {100 * compared['http_share']:.0f} % of that; one clip "
            f"takes {compared['one_ms']:.2f} ms, over HTTP {compared['http_adds_ms']:.2f} ms more"
        )


def _time(work: Callable[[bytes], object], things: Sequence[bytes]) -> float:
    """The median of a turn, in milliseconds."""
    times: list[float] = []
    for turn in range(TURNS):
        thing = things[turn % len(things)]
        start = time.perf_counter()
        work(thing)
        times.append(1000 * (time.perf_counter() - start))
    return float(np.median(times[SETTLED:]))
