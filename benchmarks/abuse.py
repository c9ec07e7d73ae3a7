"""Abuse a server: a mixed load, a table of what it answered, and whether it held."""

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.progress import Progress
from rich.table import Table

from benchmarks.client import Address
from benchmarks.clips import synthesise
from benchmarks.mixed import SHARES, Found, ask_alone, ask_mixed, make_bodies
from benchmarks.report import write_json
from benchmarks.server_process import resident_mb
from serving.command import console, progress_console, show

GROWTH = 0.05  # of the server's memory, the most after it has settled


def abuse(
    address: Address,
    clips: Sequence[bytes],
    headers: Mapping[str, str],
    n_requests: int,
    connections: int,
    pid: int | None,
    seed: int,
) -> Found:
    """Send so many mixed requests; pid: of the server, where its memory can be seen."""
    rng = np.random.default_rng(seed)
    bodies = make_bodies(clips, lambda seconds: synthesise(seconds, rng), rng)
    with Progress(console=progress_console) as progress:
        bar = progress.add_task("each request alone", total=None)
        uploads = asyncio.run(ask_alone(address, bodies, headers))
        progress.update(bar, description=f"{connections} connections", total=n_requests)

        def on_request() -> None:
            progress.advance(bar)

        mixed = ask_mixed(address, uploads, n_requests, connections, rng, lambda: resident_mb(pid), on_request)
        return asyncio.run(mixed)


def verdict(found: Found, n_requests: int) -> dict[str, Any]:
    """What the server answered, and whether it held: `passed` is the whole of it."""
    growth = found.growth(n_requests)
    return {
        "requests": n_requests,
        "codes": {kind: dict(sorted(codes.items())) for kind, codes in found.codes.items()},
        "wrong_answers": len(found.wrong),
        "first_wrong": found.wrong[:5],
        "faults": found.faults,
        "resent": found.resent,
        "memory_growth": None if growth is None else round(growth, 4),
        "resident_mb": [[count, round(resident, 1)] for count, resident in found.memory],  # after so many requests
        "passed": not found.wrong and not found.faults and (growth is None or growth < GROWTH),
    }


def report_abuse(found: Found, result: dict[str, Any], out: Path) -> None:
    """Write abuse.json into the folder `out`, and show the table and the verdict."""
    told = result["abuse"]
    write_json(result, out / "abuse.json")
    table = Table()
    for column in ("kind", "answers", "p50 ms", "p99 ms"):
        table.add_column(column, justify="right" if column.endswith("ms") else "left")
    for kind in SHARES:
        answers = ", ".join(f"{code}: {n}" for code, n in told["codes"][kind].items())
        seconds = found.seconds[kind]
        times = (f"{1000 * np.percentile(seconds, which):.1f}" if seconds else "-" for which in (50, 99))
        table.add_row(kind, answers, *times)
    show(table, f"{told['requests']} mixed requests to {result['url']}")
    growth = "not to be seen" if told["memory_growth"] is None else f"{100 * told['memory_growth']:+.1f} %"
    lines = [
        f"{told['wrong_answers']} wrong answers, {told['faults']} faults, memory {growth} since it had settled: "
        + ("passed" if told["passed"] else "FAILED"),
        *told["first_wrong"],
        f"written: {out}/abuse.json",
    ]
    for line in lines:
        console.print(line, soft_wrap=True, highlight=False, markup=False)
