"""A mixed load: good requests among long, broken, abandoned and slow ones, each answer compared with the one that the
same request got alone."""

import asyncio
import json
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.client import BROKEN, Address, Connection, Reply, make_request

SHARES = {"good": 0.5, "short": 0.15, "long": 0.05, "corrupt": 0.12, "cut": 0.12, "slow": 0.06}
SHORT_S, LONG_S = 0.2, 60.0
SLOW_PIECES, SLOW_PAUSE_S = 8, 0.15
TOLERANCE = 1e-5  # of an embedding's numbers, whoever shared its batch
SETTLED = 0.2  # of the requests, and at most SETTLED_MOST: from then on the memory should not grow
SETTLED_MOST = 1_000


@dataclass(frozen=True)
class Upload:
    """A request, and what it is answered when it is alone: a status, and an embedding where that is 200."""

    kind: str
    request: bytes
    status: int
    embedding: np.ndarray | None


@dataclass
class Found:
    """What the mixed load brought to light.

    codes    status of every answer, by kind; "left" for those that the client abandoned
    wrong    answers that differ from those of the same request alone, in words
    resent   requests that found their connection closed and were sent again
    memory   (requests so far, resident MB)
    """

    codes: dict[str, Counter[str]]
    wrong: list[str]
    seconds: dict[str, list[float]]
    resent: int
    memory: list[tuple[int, float]]

    @property
    def faults(self) -> int:
        """Requests that were never answered, and answers that no request should get: 5xx, but for 503."""
        return sum(
            n
            for codes in self.codes.values()
            for code, n in codes.items()
            if code == "none" or (code.startswith("5") and code != "503")
        )

    def growth(self, n_requests: int) -> float | None:
        """How much more memory in the last quarter of the requests than in the first, as a share.

        Of those after it had settled, and by medians: what is under way at a moment moves it by a tenth. None where
        the memory cannot be seen.
        """
        settled = min(SETTLED_MOST, round(SETTLED * n_requests))
        after = [resident for count, resident in self.memory if count >= settled]
        quarter = len(after) // 4
        return float(np.median(after[-quarter:]) / np.median(after[:quarter])) - 1 if quarter else None


def make_bodies(
    clips: Sequence[bytes], synthesise: Callable[[float], bytes], rng: np.random.Generator
) -> dict[str, list[bytes]]:
    """Uploads by kind: sounds of three lengths, and clips with bytes missing or changed.

    synthesise  seconds -> a sound file
    """
    corrupt = [b"Dear reader,\n" * 99, clips[0][:20]]
    for clip in clips[:6]:
        damaged = bytearray(clip)
        for place in rng.integers(0, min(len(clip), 200), 12):
            damaged[place] = rng.integers(256)
        corrupt += [bytes(damaged), clip[: len(clip) // 3], clip[::-1]]
    return {
        "good": list(clips),
        "short": [synthesise(SHORT_S) for _ in range(4)],
        "long": [synthesise(LONG_S) for _ in range(2)],
        "corrupt": corrupt,
        "cut": list(clips[:4]),
        "slow": list(clips[:4]),
    }


async def ask_alone(
    address: Address, bodies: Mapping[str, Sequence[bytes]], headers: Mapping[str, str]
) -> dict[str, list[Upload]]:
    """Each upload with its answer when nothing else is asked."""
    connection = Connection(address)
    uploads: dict[str, list[Upload]] = {}
    for kind, files in bodies.items():
        uploads[kind] = []
        for body in files:
            request = make_request("/v1/embed", body, headers)
            reply = await connection.ask(request)
            uploads[kind].append(Upload(kind, request, reply.status, embedding_of(reply)))
    connection.close()
    return uploads


def embedding_of(reply: Reply) -> np.ndarray | None:
    """[128] float64 of an answer with one."""
    return np.array(json.loads(reply.body)["embedding"]) if reply.status == 200 else None


async def ask_mixed(
    address: Address,
    uploads: dict[str, list[Upload]],
    n_requests: int,
    connections: int,
    rng: np.random.Generator,
    resident_mb: Callable[[], float | None],
    on_request: Callable[[], None],
) -> Found:
    """So many requests of all kinds, in random order, from so many connections at the same time."""
    kinds = rng.choice(list(SHARES), n_requests, p=list(SHARES.values()))
    jobs = iter([(uploads[kind][rng.integers(len(uploads[kind]))], rng.uniform(0.05, 0.95)) for kind in kinds])
    found = Found({kind: Counter() for kind in SHARES}, [], {kind: [] for kind in SHARES}, 0, [])
    count = 0

    async def client() -> None:
        nonlocal count
        connection = Connection(address)
        for upload, share in jobs:
            start = time.perf_counter()
            if upload.kind == "cut":
                await connection.leave(upload.request[: round(share * len(upload.request))])
                found.codes["cut"]["left"] += 1
            else:
                slowly = (SLOW_PIECES, SLOW_PAUSE_S) if upload.kind == "slow" else (1, 0.0)
                reply = await connection.ask(upload.request, *slowly)
                found.seconds[upload.kind].append(time.perf_counter() - start)
                found.codes[upload.kind][str(reply.status) if reply.status else "none"] += 1
                if fault := _compare(upload, reply):
                    found.wrong.append(fault)
            count += 1
            if count % max(1, n_requests // 100) == 0 and (resident := resident_mb()):
                found.memory.append((count, resident))
            on_request()
        found.resent += connection.resent
        connection.close()

    await asyncio.gather(*(client() for _ in range(connections)))
    return found


def _compare(upload: Upload, reply: Reply) -> str | None:
    """What is wrong with an answer; None: nothing. A busy server may refuse with 429, and one that ends with 503."""
    if reply.status in (429, 503):
        return None if reply.headers.get("retry-after") else f"{upload.kind}: {reply.status} without retry-after"
    if reply.status != upload.status:
        got = "no answer" if reply.status == BROKEN else f"{reply.status} {reply.body[:200].decode(errors='replace')}"
        return f"{upload.kind}: got {got}; alone it was {upload.status}"
    embedding = embedding_of(reply)
    if embedding is not None and upload.embedding is not None:
        off = float(np.abs(embedding - upload.embedding).max())
        if not off <= TOLERANCE:
            return f"{upload.kind}: an embedding is off by {off:.3g} from the one alone"
    return None
