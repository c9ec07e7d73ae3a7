"""Measure a running server: how many clips a second, how long each waits, and what it does when too many come.

    python -m serving bundles/first --port 8000 &
    python -m benchmarks.load http://127.0.0.1:8000                      throughput and latency by connections
    python -m benchmarks.load http://127.0.0.1:8000 --bundle bundles/first     beside embed_files in this process
    python -m benchmarks.load http://127.0.0.1:8000 --overload 4         four times what it can do
    python -m benchmarks.load http://127.0.0.1:8000 --abuse 5000         good, broken, abandoned and slow requests

Closed loop: each connection sends its next clip when the last is answered. Open loop: clips arrive by chance, so many
a second, whatever the server does; latency counts from when a clip was due. Both run on the machine that they measure,
unless the URL is another's: the client's own work is part of the numbers. Exit code 1 where a check failed.
"""

import asyncio
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro
from rich.progress import Progress

from benchmarks.abuse import abuse, report_abuse, verdict
from benchmarks.client import BROKEN, Address, Connection, make_request
from benchmarks.clips import gather_clips, told
from benchmarks.flags import at_least, numbers
from benchmarks.in_process import InProcess
from benchmarks.load_report import (
    HEAD,
    LoadRow,
    codes,
    find_knee,
    load_of,
    make_row,
    overload_of,
    overload_told,
    plot_load,
    table_lines,
)
from benchmarks.loops import Run, closed_loop, open_loop
from benchmarks.machine import this_machine
from benchmarks.report import make_folder, write_report
from benchmarks.server_process import pid_of, resident_mb
from serving.bundle import open_bundle
from serving.command import progress_console, run_command
from serving.errors import UsageError

WARM_UP_S = 1.0
MOST_CONNECTIONS = 1024


@dataclass(frozen=True)
class Options:
    """Measure the throughput, latency and refusals of a running server; or abuse it and check every answer."""

    url: Annotated[str, tyro.conf.Positional]
    """the server's address, like http://127.0.0.1:8000"""
    recordings: Path | None = None
    """send the first 32 sound files of this folder and its subfolders; default: synthesised clips"""
    seconds: float = 5.0
    """length of the synthesised 44.1 kHz clips, in seconds"""
    connections: str = "1,2,4,8,16,32"
    """closed loop: how many at a time, with commas between; the last is taken for the server's capacity"""
    rates: str = ""
    """open loop: how many a second, with commas between; default: none"""
    overload: float = 0.0
    """open loop at this many times the capacity that the closed loop found; 0: none"""
    load_seconds: float = 10.0
    """how long each load lasts, in seconds, after one of warm-up"""
    bundle: Path | None = None
    """measure the same clips with this bundle in this process too, before and after: the one that the server serves"""
    backend: str = "auto"
    """of --bundle, as the server's"""
    abuse: int = 0
    """instead of all that: so many mixed requests from the last number of connections, each answer checked"""
    api_key_file: Path | None = None
    """send the first key of this file"""
    seed: int = 0
    """of clips, arrivals and abuse"""
    out: Path = Path("runs/load")
    """where load.json, load.csv, load.md and load.png go, replacing older ones"""


def check(options: Options) -> tuple[list[int], list[float]]:
    """Connections and rates, in order. UsageError for a flag out of its range, with what it takes."""
    connections = numbers("--connections", options.connections, "1,2,4", int, MOST_CONNECTIONS)
    rates = numbers("--rates", options.rates, "50,100", float, 1e6) if options.rates else []
    for flag, value, least, most in (
        ("--seconds", options.seconds, 1e-3, 600.0),
        ("--load-seconds", options.load_seconds, 0.1, 3600.0),
        ("--overload", options.overload, 0.0, 100.0),
        ("--abuse", options.abuse, 0, 10**7),
        ("--seed", options.seed, 0, 2**32 - 1),
    ):
        at_least(flag, value, least, most)
    return connections, rates


def read_headers(options: Options) -> dict[str, str]:
    """What each request brings beside its clip. UsageError: no key in the file."""
    if options.api_key_file is None:
        return {}
    try:
        lines = [line.strip() for line in options.api_key_file.read_text().splitlines()]
    except OSError as error:
        raise UsageError(f"--api-key-file: {options.api_key_file}: cannot be read ({error.strerror})") from error
    key = next((line for line in lines if line and not line.startswith("#")), None)
    if key is None:
        raise UsageError(f"--api-key-file: {options.api_key_file}: has no key; put one on a line")
    return {"authorization": f"Bearer {key}"}


async def ask_space(address: Address, request: bytes) -> str:
    """The server's embedding space; UsageError where nobody answers there, or not as this program's server does."""
    connection = Connection(address)
    reply = await connection.ask(request)
    connection.close()
    where = f"http://{address.host}:{address.port}"
    if reply.status == BROKEN:
        raise UsageError(f"{where}: nobody answers there; start a server with: python -m serving BUNDLE")
    if reply.status != 200:
        raise UsageError(f"{where}: answered {reply.status} to a clip: {reply.body[:300].decode(errors='replace')}")
    try:
        return json.loads(reply.body)["embedding_space"]
    except (ValueError, TypeError, KeyError) as error:
        raise UsageError(f"{where}: is no server of embeddings; start one with: python -m serving BUNDLE") from error


def measure(options: Options) -> dict[str, Any]:
    """Run the loads, write the files, and return what is printed as JSON."""
    connections, rates = check(options)
    address = Address.parse(options.url)
    headers = read_headers(options)
    clips = gather_clips(options.recordings, options.seconds, seed=options.seed)
    requests = [make_request("/v1/embed", body, headers) for body in clips.values()]
    space = asyncio.run(ask_space(address, requests[0]))
    if options.bundle and (own := open_bundle(options.bundle).manifest.embedding_space) != space:
        raise UsageError(
            f"--bundle: {options.bundle} is another network than the server's (embedding space {own[:12]}, there "
            f"{space[:12]}); give the bundle that is served"
        )
    make_folder(options.out)
    pid = pid_of(address.host, address.port)
    if options.abuse:
        found = abuse(address, list(clips.values()), headers, options.abuse, connections[-1], pid, options.seed)
        told = verdict(found, options.abuse)
        result = _common(options, clips, pid) | {"abuse": told, "passed": told["passed"]}
        report_abuse(found, result, options.out)
        return result
    in_process = InProcess(options.bundle, options.backend, clips) if options.bundle else None
    # Before the loads: for seconds after them this machine runs slower, the server more than this process.
    single = in_process.take_turns(address, headers) if in_process else None
    bulk = [in_process.files_per_second()] if in_process else []

    rows: list[LoadRow] = []
    runs: list[Run] = []
    rng = np.random.default_rng(options.seed)
    with Progress(console=progress_console, auto_refresh=False) as progress:
        bar = progress.add_task("load", total=len(connections) + len(rates) + bool(options.overload))

        def add(run: Run, **load: Any) -> None:
            runs.append(run)
            rows.append(make_row(run, resident_mb(pid), **load))
            progress.update(bar, advance=1, description=load_of(rows[-1]), refresh=True)

        for count in connections:
            add(asyncio.run(closed_loop(address, requests, count, options.load_seconds, WARM_UP_S)), connections=count)
        capacity = rows[-1]
        if options.overload:
            rates = [*rates, options.overload * capacity.per_second]
        for rate in rates:
            add(asyncio.run(open_loop(address, requests, rate, options.load_seconds, rng)), rate=round(rate, 1))

    result = _common(options, clips, pid) | {
        "rows": [asdict(row) | {"codes": codes(run)} for row, run in zip(rows, runs, strict=True)],
        "knee": (knee := find_knee(rows)) and asdict(knee),
    }
    checks: list[str] = []
    if in_process and single:
        bulk.append(in_process.files_per_second())
        result["in_process"] = in_process.compare(bulk, single, rows)
        checks.append(in_process.told(result["in_process"]))
    if options.overload:
        result["overload"] = overload_of(capacity, rows[-1])
        checks.append(overload_told(result["overload"]))
        result["passed"] = result["overload"]["passed"]
    notes = (*checks, *_notes(options, result))
    title = f"load on {options.url}"
    plot = partial(plot_load, rows, title, notes)
    write_report("load", rows, result, title, HEAD, table_lines(rows), plot, notes, options.out)
    return result


def _common(options: Options, clips: dict[str, bytes], pid: int | None) -> dict[str, Any]:
    return {
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": asdict(this_machine()),
        "url": options.url,
        "server_pid": pid,
        "clips": {
            "source": told(options.recordings, options.seconds),
            "distinct": len(clips),
            "mean_bytes": round(sum(map(len, clips.values())) / len(clips)),
        },
        "load_seconds": options.load_seconds,
        "seed": options.seed,
        "out": str(options.out),
    }


def _notes(options: Options, result: dict[str, Any]) -> tuple[str, ...]:
    where = "on the same machine" if result["server_pid"] else "on another machine, or not to be seen"
    clips = result["clips"]
    return (
        f"{clips['distinct']} clips of {clips['mean_bytes'] / 1e3:.0f} kB on average ({clips['source']})",
        f"{options.load_seconds:g} s a load after {WARM_UP_S:g} s of warm-up; the server is {where}",
        str(this_machine()),
    )


def main(argv: Sequence[str] | None = None) -> int:
    """The command."""
    passed = True

    def work(options: Options) -> dict[str, Any]:
        nonlocal passed
        result = measure(options)
        passed = result.get("passed", True)
        return result

    return run_command(Options, work, "python -m benchmarks.load", argv) or int(not passed)


if __name__ == "__main__":
    raise SystemExit(main())
