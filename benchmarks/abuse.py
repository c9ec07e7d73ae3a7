"""Abuse a server: mix good requests with short, long, broken, abandoned and slow ones. Each answer is compared with the
answer that the same request got when it was sent alone."""

import asyncio
import json
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from rich.progress import Progress

from benchmarks.host import resident_mb
from benchmarks.http_client import BROKEN, Address, HttpConnection, Reply, make_request
from benchmarks.inputs import synthesise_clip
from benchmarks.study import TextTable
from serving.command_line import progress_console

SHARES = {"good": 0.5, "short": 0.15, "long": 0.05, "corrupt": 0.12, "cut": 0.12, "slow": 0.06}
SHORT_S, LONG_S = 0.2, 60.0
SLOW_PIECES, SLOW_PAUSE_S = 8, 0.15
TOLERANCE = 1e-5  # of each number of an embedding: other clips of the batch may change the order of summation
SETTLED_SHARE, SETTLED_MOST = 0.2, 1_000  # requests after which the server's memory should no longer grow
MOST_GROWTH = 0.05  # of the server's memory after that


@dataclass(frozen=True)
class ProbeRequest:
    """A request, and its answer when it is sent alone: the status, and the embedding if the status is 200."""

    kind: str
    request: bytes
    status: int
    embedding: np.ndarray | None


@dataclass
class AbuseFindings:
    """The results of the mixed requests.

    codes    statuses of all answers, by kind; "left" for requests that the client abandoned
    wrong    descriptions of the answers that differ from those of the same request alone
    seconds  of each answer, by kind
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
        """Requests without an answer, and answers that no request should get: 5xx other than 503."""
        return sum(
            n
            for codes in self.codes.values()
            for code, n in codes.items()
            if code == "none" or (code.startswith("5") and code != "503")
        )

    def memory_growth(self, n_requests: int) -> float | None:
        """Memory in the last quarter of the requests relative to the first, minus 1; None where it cannot be read.

        Medians of the readings after the memory has settled: requests in progress change a single reading by a tenth.
        """
        settled = min(SETTLED_MOST, round(SETTLED_SHARE * n_requests))
        after = [resident for count, resident in self.memory if count >= settled]
        quarter = len(after) // 4
        return float(np.median(after[-quarter:]) / np.median(after[:quarter])) - 1 if quarter else None


def abuse_server(
    address: Address,
    clips: Sequence[bytes],
    headers: Mapping[str, str],
    n_requests: int,
    connections: int,
    pid: int | None,
    seed: int,
) -> AbuseFindings:
    """Send n_requests mixed requests. pid: of the server; None if its memory cannot be read."""
    rng = np.random.default_rng(seed)
    bodies = _request_bodies(clips, rng)
    with Progress(console=progress_console) as progress:
        bar = progress.add_task("each request alone", total=None)
        probes = asyncio.run(_ask_alone(address, bodies, headers))
        progress.update(bar, description=f"{connections} connections", total=n_requests)
        kinds = rng.choice(list(SHARES), n_requests, p=list(SHARES.values()))
        queue = [(probes[kind][rng.integers(len(probes[kind]))], rng.uniform(0.05, 0.95)) for kind in kinds]

        async def ask_all() -> AbuseFindings:
            findings = AbuseFindings({kind: Counter() for kind in SHARES}, [], {kind: [] for kind in SHARES}, 0, [])
            jobs = iter(queue)

            def on_request(count: int) -> None:
                progress.update(bar, completed=count)
                if count % max(1, n_requests // 100) == 0 and (resident := resident_mb(pid)):
                    findings.memory.append((count, resident))

            await asyncio.gather(*(_ask_in_turn(address, jobs, findings, on_request) for _ in range(connections)))
            return findings

        return asyncio.run(ask_all())


def _request_bodies(clips: Sequence[bytes], rng: np.random.Generator) -> dict[str, list[bytes]]:
    """Bodies by kind: sounds of three lengths, and clips with bytes missing or changed."""
    corrupt = [b"Dear reader,\n" * 99, clips[0][:20]]
    for clip in clips[:6]:
        damaged = bytearray(clip)
        for place in rng.integers(0, min(len(clip), 200), 12):
            damaged[place] = rng.integers(256)
        corrupt += [bytes(damaged), clip[: len(clip) // 3], clip[::-1]]
    return {
        "good": list(clips),
        "short": [synthesise_clip(SHORT_S, rng) for _ in range(4)],
        "long": [synthesise_clip(LONG_S, rng) for _ in range(2)],
        "corrupt": corrupt,
        "cut": list(clips[:4]),
        "slow": list(clips[:4]),
    }


async def _ask_alone(
    address: Address, bodies: Mapping[str, Sequence[bytes]], headers: Mapping[str, str]
) -> dict[str, list[ProbeRequest]]:
    connection = HttpConnection(address)
    probes: dict[str, list[ProbeRequest]] = {kind: [] for kind in bodies}
    for kind, files in bodies.items():
        for body in files:
            request = make_request("/v1/embed", body, headers)
            reply = await connection.ask(request)
            probes[kind].append(ProbeRequest(kind, request, reply.status, _embedding_of(reply)))
    connection.close()
    return probes


async def _ask_in_turn(
    address: Address,
    jobs: Iterator[tuple[ProbeRequest, float]],
    findings: AbuseFindings,
    on_request: Callable[[int], None],
) -> None:
    """One connection that takes the next job until none is left.

    jobs        shared iterator of (probe, the share of the request that is sent where it is abandoned)
    on_request  called with the number of requests of all connections so far
    """
    connection = HttpConnection(address)
    for probe, share in jobs:
        start = time.perf_counter()
        if probe.kind == "cut":
            await connection.send_and_leave(probe.request[: round(share * len(probe.request))])
            findings.codes["cut"]["left"] += 1
        else:
            slowly = (SLOW_PIECES, SLOW_PAUSE_S) if probe.kind == "slow" else (1, 0.0)
            reply = await connection.ask(probe.request, *slowly)
            findings.seconds[probe.kind].append(time.perf_counter() - start)
            findings.codes[probe.kind][str(reply.status) if reply.status else "none"] += 1
            if fault := _find_fault(probe, reply):
                findings.wrong.append(fault)
        on_request(sum(codes.total() for codes in findings.codes.values()))
    findings.resent += connection.resent
    connection.close()


def _find_fault(probe: ProbeRequest, reply: Reply) -> str | None:
    """What is wrong with an answer; None: nothing. A busy server may refuse with 429, a draining one with 503."""
    if reply.status in (429, 503):
        return None if reply.headers.get("retry-after") else f"{probe.kind}: {reply.status} without retry-after"
    if reply.status != probe.status:
        got = "no answer" if reply.status == BROKEN else f"{reply.status} {reply.body[:200].decode(errors='replace')}"
        return f"{probe.kind}: got {got}; alone it was {probe.status}"
    embedding = _embedding_of(reply)
    if embedding is not None and probe.embedding is not None:
        off = float(np.abs(embedding - probe.embedding).max())
        if not off <= TOLERANCE:
            return f"{probe.kind}: an embedding is off by {off:.3g} from the one alone"
    return None


def _embedding_of(reply: Reply) -> np.ndarray | None:
    """[128] float64 of an answer 200."""
    return np.array(json.loads(reply.body)["embedding"]) if reply.status == 200 else None


def judge_abuse(found: AbuseFindings, n_requests: int) -> dict[str, Any]:
    """The findings as JSON; `passed`: the server withstood the abuse."""
    growth = found.memory_growth(n_requests)
    return {
        "requests": n_requests,
        "codes": {kind: dict(sorted(codes.items())) for kind, codes in found.codes.items()},
        "wrong_answers": len(found.wrong),
        "first_wrong": found.wrong[:5],
        "faults": found.faults,
        "resent": found.resent,
        "memory_growth": None if growth is None else round(growth, 4),
        "resident_mb": [[count, round(resident, 1)] for count, resident in found.memory],  # after so many requests
        "passed": not found.wrong and not found.faults and (growth is None or growth < MOST_GROWTH),
    }


def abuse_table(found: AbuseFindings, title: str) -> TextTable:
    """Answers and times by kind of request."""
    lines = []
    for kind in SHARES:
        answers = ", ".join(f"{code}: {n}" for code, n in sorted(found.codes[kind].items()))
        seconds = found.seconds[kind]
        times = [f"{1000 * np.percentile(seconds, which):.1f}" if seconds else "-" for which in (50, 99)]
        lines.append([kind, answers, *times])
    return TextTable(title, ("kind", "answers", "p50 ms", "p99 ms"), lines)


def describe_abuse(verdict: Mapping[str, Any]) -> list[str]:
    """The verdict, and the first wrong answers."""
    growth = verdict["memory_growth"]
    memory = "not visible" if growth is None else f"{100 * growth:+.1f} %"
    return [
        f"{verdict['wrong_answers']} wrong answers, {verdict['faults']} faults, memory after it had settled: {memory}: "
        + ("passed" if verdict["passed"] else "FAILED"),
        *verdict["first_wrong"],
    ]
