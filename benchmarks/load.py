"""Measure a running server: throughput, latency, and what it does when too many requests arrive.

    python -m serving bundles/first --port 8000 &
    python -m benchmarks.load http://127.0.0.1:8000                      throughput and latency by connections
    python -m benchmarks.load http://127.0.0.1:8000 --bundle bundles/first     beside embed_files in this process
    python -m benchmarks.load http://127.0.0.1:8000 --overload 4         four times its capacity
    python -m benchmarks.load http://127.0.0.1:8000 --abuse 5000         good, broken, abandoned and slow requests

Closed loop: each connection sends its next clip when its last one is answered. Open loop: clips arrive at random times
at a given mean rate, independently of the server's answers; latency counts from the time when a clip was due. If the
server runs on this machine, the work of the load program is part of the numbers. Exit code 1: a check failed.
"""

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro
from rich.progress import Progress

from benchmarks.abuse import abuse_server, abuse_table, describe_abuse, judge_abuse
from benchmarks.host import pid_of_listener, resident_mb
from benchmarks.http_client import BROKEN, Address, HttpConnection, LoadRun, closed_loop, make_request, open_loop
from benchmarks.http_overhead import InProcess, describe_overhead
from benchmarks.inputs import InputClips, check_range, input_clips, parse_numbers
from benchmarks.load_report import (
    LoadRow,
    count_statuses,
    describe_overload,
    find_knee,
    judge_overload,
    load_row,
    load_table,
    plot_load,
)
from benchmarks.study import Study
from serving.bundle.bundle import open_bundle
from serving.command_line import progress_console, run_command
from serving.errors import UsageError
from serving.server.api_keys import read_key_lines

WARM_UP_S = 1.0
MOST_CONNECTIONS = 1024
MOST_ARRIVALS = 10**6  # of an open loop


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
    """closed loop: numbers of connections, separated by commas; the throughput of the largest is the capacity"""
    rates: str = ""
    """open loop: arrivals a second, separated by commas; default: none"""
    overload: float = 0.0
    """open loop at this multiple of the capacity; 0: none"""
    load_seconds: float = 10.0
    """duration of each load, in seconds, after one second of warm-up"""
    bundle: Path | None = None
    """also measure the same clips in this process, before and after the loads, with this bundle: the one served"""
    backend: str = "auto"
    """backend of --bundle; use the server's"""
    abuse: int = 0
    """instead of the loads: this many mixed requests from the largest number of connections, each answer checked"""
    api_key_file: Path | None = None
    """send the first key of this file"""
    seed: int = 0
    """random seed of clips, arrivals and abuse"""
    out: Path = Path("runs/load")
    """folder for load.json, .csv, .md and .png, which are replaced"""


def check_options(options: Options) -> tuple[list[int], list[float]]:
    """Connections and rates, in order. UsageError: a flag is out of its range."""
    connections = parse_numbers("--connections", options.connections, "1,2,4", int, MOST_CONNECTIONS)
    rates = parse_numbers("--rates", options.rates, "50,100", float, 1e6) if options.rates else []
    for flag, value, least, most in (
        ("--seconds", options.seconds, 1e-3, 600.0),
        ("--load-seconds", options.load_seconds, 0.1, 3600.0),
        ("--overload", options.overload, 0.0, 100.0),
        ("--abuse", options.abuse, 0, 10**7),
        ("--seed", options.seed, 0, 2**32 - 1),
    ):
        check_range(flag, value, least, most)
    if rates and rates[-1] * options.load_seconds > MOST_ARRIVALS:
        most = MOST_ARRIVALS / options.load_seconds
        raise UsageError(
            f"--rates: got {options.rates}; wanted at most {most:g} a second in {options.load_seconds:g} s"
        )
    return connections, rates


def read_headers(options: Options) -> dict[str, str]:
    """The headers of each request. UsageError: no key in the file."""
    if options.api_key_file is None:
        return {}
    lines = read_key_lines(options.api_key_file)
    key = next((line.split()[0] for line in lines if line and line[0] != "#"), None)  # the text before its fields
    if key is None:
        raise UsageError(f"--api-key-file: {options.api_key_file}: has no key; put one on a line")
    return {"authorization": f"Bearer {key}"}


async def ask_embedding_space(address: Address, request: bytes) -> str:
    """The server's embedding space. UsageError: nobody answers, or not as this project's server does."""
    connection = HttpConnection(address)
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
        raise UsageError(f"{where}: is not an embedding server; start one with: python -m serving BUNDLE") from error


def run_loads(
    options: Options, address: Address, requests: Sequence[bytes], connections: Sequence[int], rates: Sequence[float],
    pid: int | None,
) -> list[tuple[LoadRow, LoadRun]]:  # fmt: skip
    """The closed loops, the open loops, and last the overload, if there is one."""
    found: list[tuple[LoadRow, LoadRun]] = []
    rng = np.random.default_rng(options.seed)
    with Progress(console=progress_console, auto_refresh=False) as progress:
        bar = progress.add_task("load", total=len(connections) + len(rates) + bool(options.overload))

        def add(run: LoadRun, **load: Any) -> None:
            found.append((load_row(run, resident_mb(pid), **load), run))
            progress.update(bar, advance=1, description=found[-1][0].label, refresh=True)

        for count in connections:
            add(asyncio.run(closed_loop(address, requests, count, options.load_seconds, WARM_UP_S)), connections=count)
        overload = [options.overload * found[-1][0].per_second] if options.overload else []
        for rate in (*rates, *overload):
            add(asyncio.run(open_loop(address, requests, rate, options.load_seconds, rng)), rate=round(rate, 1))
    return found


def measure_load(options: Options) -> dict[str, Any]:
    """Run the loads, write the files, and return what is printed as JSON."""
    connections, rates = check_options(options)
    address = Address.parse(options.url)
    headers = read_headers(options)
    clips = input_clips(options.recordings, options.seconds, seed=options.seed)
    requests = [make_request("/v1/embed", body, headers) for body in clips.encoded.values()]
    space = asyncio.run(ask_embedding_space(address, requests[0]))
    if options.bundle and (own := open_bundle(options.bundle).manifest.embedding_space) != space:
        raise UsageError(
            f"--bundle: {options.bundle} is another network than the server's (embedding space {own[:12]}, the "
            f"server's {space[:12]}); give the bundle that is served"
        )
    study = Study("abuse" if options.abuse else "load", options.out)
    pid = pid_of_listener(address.host, address.port)
    if options.abuse:
        return measure_abuse(options, study, address, clips, headers, connections[-1], pid)
    in_process = InProcess(options.bundle, options.backend, clips) if options.bundle else None
    # Before the loads: for seconds after them the machine is slower, and the server suffers more than this process.
    single = in_process.time_single_clips(address, headers) if in_process else None
    bulk = [in_process.files_per_second()] if in_process else []
    found = run_loads(options, address, requests, connections, rates, pid)
    rows = [row for row, _ in found]
    record = study.record(
        **_conditions(options, clips, pid),
        rows=[asdict(row) | {"codes": count_statuses(run)} for row, run in found],
        knee=(knee := find_knee(rows)) and asdict(knee),
    )
    verdicts: list[str] = []
    if in_process and single:
        bulk.append(in_process.files_per_second())
        record["in_process"] = in_process.compare_with_server(bulk, single, rows)
        verdicts.append(describe_overhead(record["in_process"]))
    if options.overload:
        record["overload"] = judge_overload(rows[len(connections) - 1], rows[-1])
        verdicts.append(describe_overload(record["overload"]))
        record["passed"] = record["overload"]["passed"]
    where = "on the same machine" if pid else "on another machine, or not visible to this process"
    notes = [
        *verdicts,
        f"{len(clips)} clips of {record['clips']['mean_bytes'] / 1e3:.0f} kB on average ({clips.source})",
        f"{options.load_seconds:g} s for each load after {WARM_UP_S:g} s of warm-up; the server runs {where}",
    ]
    title = "Throughput and latency of the server"
    study.write(record, rows, [load_table(rows, f"load on {options.url}")], notes, lambda: plot_load(rows, title))
    return record


def measure_abuse(
    options: Options, study: Study, address: Address, clips: InputClips, headers: Mapping[str, str], connections: int,
    pid: int | None,
) -> dict[str, Any]:  # fmt: skip
    """Send mixed requests, write abuse.json and .md, and return what is printed as JSON."""
    bodies = list(clips.encoded.values())
    found = abuse_server(address, bodies, headers, options.abuse, connections, pid, options.seed)
    verdict = judge_abuse(found, options.abuse)
    record = study.record(**_conditions(options, clips, pid), abuse=verdict, passed=verdict["passed"])
    study.write(record, [], [abuse_table(found, f"{options.abuse} mixed requests")], describe_abuse(verdict))
    return record


def _conditions(options: Options, clips: InputClips, pid: int | None) -> dict[str, Any]:
    return {
        "url": options.url,
        "server_pid": pid,
        "clips": {
            "source": clips.source,
            "distinct": len(clips),
            "mean_bytes": round(sum(map(len, clips.encoded.values())) / len(clips)),
        },
        "load_seconds": options.load_seconds,
        "seed": options.seed,
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; see `run_command`. 1: a check failed."""
    passed = True

    def work(options: Options) -> dict[str, Any]:
        nonlocal passed
        record = measure_load(options)
        passed = record.get("passed", True)
        return record

    return run_command(Options, work, "python -m benchmarks.load", argv) or int(not passed)


if __name__ == "__main__":
    raise SystemExit(main())
