"""The HTTP server: uploads a second, decoded in threads and in processes, one file or eight in a request.

The program that sends them runs on the same cores.
"""

import asyncio
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from benchmarks.gpu.bulk import SECONDS, write_files
from benchmarks.gpu.piece import Plot, Table, Tables, number, one_line, parse
from benchmarks.http_client import Address, closed_loop, make_request
from serving.cores import usable_cores

FILES_A_LIST, CONNECTIONS, BOUNDARY = 8, 32, "unheard"


def main() -> None:
    """Measure and write the table."""
    options = parse("server", "bundle")
    tables = Tables(options.json)
    cores = usable_cores()
    processes = max(2, min(cores, 16))
    connections, seconds = (4, 1.0) if options.quick else (CONNECTIONS, 3.0)
    rows: list[list[str]] = []
    rates: dict[str, float] = {}
    with tempfile.TemporaryDirectory(prefix="unheard-server-") as folder:
        bodies = [path.read_bytes() for path in write_files(Path(folder))]
        kinds = {"one file": (single_requests(bodies), 1)}
        kinds[f"{FILES_A_LIST} files"] = list_requests(bodies), FILES_A_LIST
        for count in (1, processes):
            way = "threads" if count == 1 else f"{count} processes"
            try:
                with running(options.bundle, count, options.device) as address:
                    for kind, (requests, files) in kinds.items():
                        name = f"{way}, {kind} a request"
                        rates[name], others, p50 = load(address, requests, files, connections, seconds)
                        rows.append([name, number(rates[name]), number(p50), others])
                        tables.put(_table(rows, rates, cores, connections))
            except Exception as error:  # of any kind: the other way is measured all the same
                rows.append([way, "-", "-", one_line(error)])
                tables.put(_table(rows, rates, cores, connections))


def _table(rows: list[list[str]], rates: dict[str, float], cores: int, connections: int) -> Table:
    notes = (
        f"FLAC of {SECONDS} s from {connections} connections on the same machine; {cores} cores",
        "files that were answered; the program that sends them takes a core of its own",
    )
    head = ["way", "files/s", "p50 of a request, ms", "other answers"]
    plot = Plot("server", "", "files/s", {name: [(0.0, rate)] for name, rate in rates.items()}, True)
    return Table("HTTP server: POST /v1/embed", head, rows, notes, plot, rates)


@contextmanager
def running(bundle: str, processes: int, device: str) -> Iterator[Address]:
    """A server on a free port, with room for all that is sent."""
    backend = "onnxruntime" if device == "cuda" else "auto"
    flags = ["--port", "0", "--backend", backend, "--processes", str(processes), "--max-queue-seconds", "100000"]
    command = [sys.executable, "-m", "serving", bundle, *flags, "--log-level", "warning"]
    environment = os.environ | {"PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            if not line:
                raise RuntimeError("the server did not start")
            yield Address.parse(json.loads(line)["address"])
        finally:
            process.terminate()


def load(
    address: Address, requests: Sequence[bytes], files: int, connections: int, seconds: float
) -> tuple[float, str, float]:
    """Files a second that were answered, the number of other answers by status, and the p50 in milliseconds."""
    run = asyncio.run(closed_loop(address, requests, connections, seconds, 1.0))
    good = [sample.seconds for sample in run.samples if sample.status == 200]
    others: dict[int, int] = {}
    for sample in run.samples:
        if sample.status != 200:
            others[sample.status] = others.get(sample.status, 0) + 1
    told = ", ".join(f"{count} x {status or 'none'}" for status, count in sorted(others.items())) or "none"
    return len(good) * files / run.seconds, told, 1000 * float(np.median(good)) if good else float("nan")


def single_requests(bodies: Sequence[bytes]) -> list[bytes]:
    """A request for each file."""
    return [make_request("/v1/embed", body, {}) for body in bodies]


def list_requests(bodies: Sequence[bytes]) -> list[bytes]:
    """A multipart form for each FILES_A_LIST files."""
    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="files"; filename="a.flac"\r\n\r\n'.encode()
    kind = {"content-type": f"multipart/form-data; boundary={BOUNDARY}"}
    groups = [bodies[i : i + FILES_A_LIST] for i in range(0, len(bodies), FILES_A_LIST)]
    forms = [b"".join(head + body + b"\r\n" for body in group) + f"--{BOUNDARY}--\r\n".encode() for group in groups]
    return [make_request("/v1/embed", form, kind) for form in forms]


if __name__ == "__main__":
    main()
