"""The load program: it measures what a server does, names what went wrong, and never blames itself on the server."""

import asyncio
import csv
import json
import os
import re
import shutil
import socket
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks import http_overhead
from benchmarks.abuse import SHARES, AbuseFindings
from benchmarks.host import pid_of_listener, resident_mb
from benchmarks.http_client import Address, HttpConnection, LoadRun, Sample, closed_loop, make_request, open_loop
from benchmarks.load import Options, main, read_headers
from benchmarks.load_report import LoadRow, count_statuses, find_knee, judge_overload, load_row, load_table
from benchmarks.study import to_csv
from serving.bundle.bundle import open_bundle
from serving.bundle.manifest import write_manifest
from serving.errors import UsageError
from tests.servers import Server, running

EMBEDDING, CHANGED = (
    json.dumps({"embedding_space": "fake", "embedding": [0.5] * 127 + [last]}).encode() for last in (0.5, 0.5001)
)


class Stub:
    """A server that answers as it is told: request body -> (status, body, seconds to wait), one request at a time."""

    def __init__(self, answer: Callable[[bytes], tuple[int, bytes, float]], requests_a_connection: int = 10**9):
        self._answer = answer
        self._requests_a_connection = requests_a_connection
        self._turn = asyncio.Lock()
        self.connections = 0

    async def __aenter__(self) -> Address:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, limit=2**20)
        return Address(*self._server.sockets[0].getsockname())

    async def __aexit__(self, *_: object) -> None:
        self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        for _ in range(self._requests_a_connection):
            try:
                head = await reader.readuntil(b"\r\n\r\n")
                body = await reader.readexactly(int(head.lower().split(b"content-length: ")[1].split(b"\r")[0]))
            except (asyncio.IncompleteReadError, ConnectionError):
                break
            async with self._turn:
                status, answer, wait_s = self._answer(body)
                await asyncio.sleep(wait_s)
            retry = "retry-after: 7\r\n" if status in (429, 503) else ""
            writer.write(f"HTTP/1.1 {status} X\r\n{retry}content-length: {len(answer)}\r\n\r\n".encode() + answer)
        writer.close()


@pytest.fixture(scope="module")
def server(bundle_folder, tmp_path_factory) -> Iterator[Server]:
    with running(bundle_folder, tmp_path_factory.mktemp("server") / "log", "--max-queue-seconds", "6") as server:
        yield server


REQUEST = make_request("/v1/embed", b"sound", {})


def test_a_closed_loop_has_so_many_requests_under_way_and_counts_none_of_the_warm_up():
    async def run() -> tuple[LoadRun, Stub]:
        stub = Stub(lambda body: (200, EMBEDDING, 0.01))
        async with stub as address:
            return await closed_loop(address, [REQUEST], 4, 1.0, 0.5), stub

    run_, stub = asyncio.run(run())
    assert stub.connections == 4
    assert {sample.status for sample in run_.samples} == {200}
    assert 4 <= len(run_.samples) <= 110  # one at a time of 10 ms each, for a second
    # Each waits for the three before it. In the first of the samples the warm-up's last requests are waited for too.
    assert np.median([sample.seconds for sample in run_.samples]) > 0.03


@pytest.mark.parametrize("seconds", [1.0, 0.1])
def test_slow_answers_are_counted_at_the_rate_at_which_they_come(seconds):
    """Each request of ten connections takes half a second: half as long as the load, or five times as long."""
    served = []

    async def run() -> LoadRun:
        async with Stub(lambda body: (200, EMBEDDING, served.append(0) or 0.05)) as address:
            return await closed_loop(address, [REQUEST], 10, seconds, 0.7)

    started = time.perf_counter()
    made = load_row(asyncio.run(run()), None, connections=10)
    assert made.requests >= 10
    assert made.per_second == pytest.approx(len(served) / (time.perf_counter() - started), rel=0.2)


def test_an_open_loop_counts_from_when_a_request_was_due_however_long_others_take():
    async def run() -> LoadRun:
        async with Stub(lambda body: (200, EMBEDDING, 0.02)) as address:
            return await open_loop(address, [REQUEST], 100, 1.0, np.random.default_rng(0))

    run_ = asyncio.run(run())
    assert len(run_.samples) == 100
    seconds = [sample.seconds for sample in run_.samples]
    # Twice as many came as could be served: the last waited a second for the queue, whoever sent them.
    assert max(seconds) > 0.7
    assert seconds[0] < 0.5


def test_refusals_and_breaks_are_told_apart_from_answers():
    outcomes = iter([(200, EMBEDDING, 0.0), (429, b"{}", 0.0), (503, b"{}", 0.0), (500, b"{}", 0.0)] * 5)

    async def run() -> LoadRun:
        async with Stub(lambda body: next(outcomes)) as address:
            return await open_loop(address, [REQUEST], 1000, 0.02, np.random.default_rng(0))

    run_ = asyncio.run(run())
    assert count_statuses(run_) == {"200": 5, "429": 5, "500": 5, "503": 5}
    row = load_row(run_, None, rate=1000)
    assert (row.requests, row.refused, row.failed, row.retry_after_s) == (20, 5, 10, 7.0)

    async def nobody() -> LoadRun:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
        return await open_loop(Address("127.0.0.1", port), [REQUEST], 1000, 0.003, np.random.default_rng(0))

    assert count_statuses(asyncio.run(nobody())) == {"none": 3}


def test_a_connection_that_the_server_closed_while_idle_is_opened_again_and_told():
    async def run() -> tuple[list[int], int]:
        async with Stub(lambda body: (200, EMBEDDING, 0.0), requests_a_connection=1) as address:
            connection = HttpConnection(address)
            statuses = []
            for _ in range(3):
                statuses.append((await connection.ask(REQUEST)).status)
                await asyncio.sleep(0.05)
            connection.close()
            return statuses, connection.resent

    assert asyncio.run(run()) == ([200, 200, 200], 2)


def test_a_slow_request_arrives_whole():
    async def run() -> tuple[int, list[bytes]]:
        came: list[bytes] = []
        async with Stub(lambda body: (came.append(body) or 200, EMBEDDING, 0.0)) as address:
            reply = await HttpConnection(address).ask(make_request("/", bytes(range(100)), {}), pieces=7, pause_s=0.01)
            return reply.status, came

    assert asyncio.run(run()) == (200, [bytes(range(100))])


def row(per_second: float, p99_ms: float | None, connections: int | None = None, **fields) -> LoadRow:
    rate = fields.pop("rate", None)
    fields = {"refused": 0, "refused_p50_ms": None, "failed": 0} | fields
    loop = "open" if connections is None else "closed"
    return LoadRow(loop, connections, rate, 1.0, 9, per_second, p99_ms, p99_ms, p99_ms, retry_after_s=None,
                   late_p99_ms=0.0, resident_mb=None, **fields)  # fmt: skip


def test_the_knee_is_the_least_load_with_nearly_all_of_the_throughput():
    rows = [row(100, 10, 1), row(180, 12, 2), row(195, 22, 4), row(200, 45, 8), row(198, 90, 16), row(500, 9, rate=500)]
    assert find_knee(rows) is rows[2]
    assert find_knee(rows[:2]) is rows[1]
    assert find_knee(rows[5:]) is None
    assert find_knee([row(0, None, 1)]) is None


@pytest.mark.parametrize(
    ("overloaded", "passed"),
    [
        (row(180, 299, rate=800, refused=9, refused_p50_ms=49), True),
        (row(180, 301, rate=800, refused=9, refused_p50_ms=49), False),
        (row(180, 299, rate=800, refused=9, refused_p50_ms=51), False),
        (row(180, 299, rate=800, refused=9, refused_p50_ms=49, failed=1), False),
        (row(180, 299, rate=800), False),
        (row(0, None, rate=800, refused=9, refused_p50_ms=49), False),
    ],
    ids=["fair", "slow", "slow refusals", "a failure", "no refusals", "no answers"],
)
def test_overload_passes_only_when_all_of_it_holds(overloaded, passed):
    found = judge_overload(row(200, 100, 32), overloaded)
    assert found["times"] == 4.0
    assert found["passed"] is passed


def test_tables_tell_the_same_in_every_form():
    rows = [row(100.5, 10.25, 1), row(0, None, 2), row(90, 20, rate=400.0, refused=7, refused_p50_ms=3.5)]
    parsed = list(csv.DictReader(to_csv([asdict(row) for row in rows]).splitlines()))
    assert [line["per_second"] for line in parsed] == ["100.5", "0", "90"]
    assert parsed[2]["refused_p50_ms"] == "3.5"
    lines = load_table(rows, "load").markdown().splitlines()
    assert len({line.count("|") for line in lines}) == 1
    assert lines[2].startswith("| 1 at a time (knee) | 100.5 | 10.25 |")
    assert lines[4].startswith("| 400 a second | 90.00 |")


def test_memory_growth_counts_from_when_it_had_settled():
    memory = [(count, 50.0) for count in range(0, 1_000, 50)]
    memory += [(count, 200.0) for count in range(1_000, 4_000, 50)]
    memory += [(count, 204.0) for count in range(4_000, 5_001, 50)]
    memory[30] = (memory[30][0], 400.0)  # a moment with much under way
    found = AbuseFindings({kind: Counter() for kind in SHARES}, [], {}, 0, memory)
    assert found.memory_growth(5_000) == pytest.approx(0.02)
    assert AbuseFindings({}, [], {}, 0, []).memory_growth(5_000) is None


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_the_server_behind_a_port_of_this_machine_is_found_with_its_memory(server):
    assert pid_of_listener("127.0.0.1", server.port) == pid_of_listener("localhost", server.port) == server.process.pid
    assert 50 < resident_mb(server.process.pid) < 5_000
    with socket.create_server(("127.0.0.1", 0)) as ours:
        assert pid_of_listener("127.0.0.1", ours.getsockname()[1]) == os.getpid()
        port = ours.getsockname()[1]
    assert pid_of_listener("127.0.0.1", port) is None
    assert pid_of_listener("203.0.113.1", server.port) is None
    assert resident_mb(None) is None


def test_the_command_measures_both_loops_the_overload_and_this_process(
    server, bundle_folder, tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr(http_overhead, "BULK_SECONDS", 0.2)
    monkeypatch.setattr(http_overhead, "ROUNDS", 2)
    flags = (
        f"{server.address} --connections 4,1 --rates 5 --overload 4 --load-seconds 1 --seconds 1 --out {tmp_path}/new"
    )
    main([*flags.split(), "--bundle", str(bundle_folder)])
    output = capsys.readouterr().out
    result = json.loads(output.splitlines()[-1])
    rows = result["rows"]
    assert [(r["loop"], r["connections"]) for r in rows] == [
        ("closed", 1),
        ("closed", 4),
        ("open", None),
        ("open", None),
    ]
    assert rows[2]["rate"] == 5.0
    assert rows[3]["rate"] == pytest.approx(4 * rows[1]["per_second"], rel=0.01)
    for r in rows:
        assert sum(r["codes"].values()) == r["requests"]
        assert 0 < r["p50_ms"] <= r["p95_ms"] <= r["p99_ms"]
        assert r["failed"] == 0
    assert rows[3]["refused"] == rows[3]["codes"]["429"] > 0
    assert rows[3]["refused_p50_ms"] > 0
    assert rows[3]["retry_after_s"] >= 1
    assert result["knee"]["connections"] in (1, 4)
    assert result["overload"]["failed"] == 0
    assert result["passed"] is result["overload"]["passed"]
    assert result["in_process"]["http_share"] > 0
    assert result["in_process"]["connections"] == 4
    assert result["server_pid"] == server.process.pid
    assert result["machine"]["cores"] >= 1
    folder = Path(result["out"])
    assert json.loads((folder / "load.json").read_text()) == result
    assert len((folder / "load.csv").read_text().splitlines()) == 5
    assert "(knee)" in (folder / "load.md").read_text()
    assert (folder / "load.png").read_bytes().startswith(b"\x89PNG")


def test_recordings_are_sent_as_they_are_and_a_key_with_them(bundle_folder, recordings, tmp_path, capsys):
    keys = tmp_path / "keys"
    keys.write_text("# the test's\na-key-of-some-length\n")
    with running(bundle_folder, tmp_path / "log", "--api-key-file", str(keys)) as locked:
        flags = (
            f"{locked.address} --recordings {recordings} --connections 2 --load-seconds 0.5 --out {tmp_path / 'load'}"
        )
        assert main(flags.split()) == 2
        assert "answered 401" in capsys.readouterr().err
        assert main([*flags.split(), "--api-key-file", str(keys)]) == 0
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert result["clips"] == {"source": str(recordings), "distinct": 24, "mean_bytes": 96_044}
    assert set(result["rows"][0]["codes"]) == {"200"}


def test_hundreds_of_mixed_requests_get_the_answers_that_each_gets_alone(bundle_folder, tmp_path, capsys):
    with running(bundle_folder, tmp_path / "log") as server:
        code = main(f"{server.address} --abuse 300 --connections 32 --seconds 2 --out {tmp_path}".split())
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    told = result["abuse"]
    assert (told["wrong_answers"], told["faults"]) == (0, 0), told
    assert sum(sum(kind.values()) for kind in told["codes"].values()) == told["requests"] == 300
    assert set(told["codes"]["cut"]) == {"left"}
    assert set(told["codes"]["good"]) <= {"200", "429"}
    assert told["codes"]["good"]["200"] > 20
    assert told["codes"]["slow"]["200"] > 0
    assert {"415"} <= set(told["codes"]["corrupt"]) <= {"200", "400", "413", "415", "422", "429"}
    counts, resident = zip(*told["resident_mb"], strict=True)
    assert counts[-1] == 300
    assert min(resident) > 50
    assert code == (0 if result["passed"] else 1)
    assert json.loads((tmp_path / "abuse.json").read_text()) == result


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        ((500, b"{}", 0.0), "got 500"),
        ((200, CHANGED, 0.0), "off by 0.0001"),
        ((415, b"{}", 0.0), "got 415"),
    ],
    ids=["a fault", "another embedding", "another status"],
)
def test_a_server_that_answers_differently_under_load_does_not_pass(tmp_path, capsys, bad, words):
    answered = 0

    def answer(body: bytes) -> tuple[int, bytes, float]:
        nonlocal answered
        answered += 1
        return bad if answered > 100 and answered % 20 == 0 else (200, EMBEDDING, 0.0)

    address: list[Address] = []
    ready, done = threading.Event(), threading.Event()

    async def serve() -> None:
        async with Stub(answer) as found:
            address.append(found)
            ready.set()
            while not done.is_set():
                await asyncio.sleep(0.01)

    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    ready.wait(30)
    try:
        url = f"http://127.0.0.1:{address[0].port}"
        assert main(f"{url} --abuse 200 --connections 8 --seconds 0.1 --out {tmp_path}".split()) == 1
    finally:
        done.set()
        thread.join()
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert result["passed"] is False
    assert any(words in line for line in result["abuse"]["first_wrong"])
    assert (result["abuse"]["faults"] > 0) == (bad[0] == 500)


def test_another_network_than_the_servers_is_not_compared_with_it(server, bundle_folder, tmp_path, capsys):
    other = Path(shutil.copytree(bundle_folder, tmp_path / "other"))
    write_manifest(other, replace(open_bundle(other).manifest, embedding_space="0" * 64, files={}))
    assert main([server.address, "--bundle", str(other), "--out", str(tmp_path / "load")]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert "--bundle" in line
    assert "another network than the server's (embedding space 000000000000, the" in line
    assert not (tmp_path / "load").exists()


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ("127.0.0.1:8000", "URL: got 127.0.0.1:8000"),
        ("https://127.0.0.1:8000", "URL: got https"),
        ("http://127.0.0.1:8000/v1/embed", "URL: got"),
        ("http://127.0.0.1:notaport", "URL: got"),
        ("http://127.0.0.1:1", "nobody answers there; start a server"),
        ("http://127.0.0.1:1 --connections 0", "--connections: got 0"),
        ("http://127.0.0.1:1 --connections 1,x", "--connections: got 1,x"),
        ("http://127.0.0.1:1 --rates -5", "--rates"),
        ("http://127.0.0.1:1 --rates 1,nan,5", "--rates: got 1,nan,5"),
        ("http://127.0.0.1:1 --rates 1e6", "--rates: got 1e6; wanted at most 100000 a second"),
        ("http://127.0.0.1:1 --overload 1000", "--overload: got 1000"),
        ("http://127.0.0.1:1 --load-seconds 0", "--load-seconds: got 0"),
        ("http://127.0.0.1:1 --seconds 0", "--seconds: got 0"),
        ("http://127.0.0.1:1 --abuse -1", "--abuse"),
        ("http://127.0.0.1:1 --seed -1", "--seed: got -1"),
        ("http://127.0.0.1:1 --recordings absent", "absent: no such folder"),
        ("http://127.0.0.1:1 --api-key-file absent", "absent: cannot be read"),
    ],
)
def test_wrong_flags_end_the_command_with_2_and_one_line(tmp_path, monkeypatch, capsys, flags, words):
    monkeypatch.chdir(tmp_path)
    try:
        code = main(flags.split())
    except SystemExit as stop:  # tyro's way out of a flag that it cannot parse
        code = stop.code
    output = capsys.readouterr()
    assert code == 2
    assert output.out == ""
    assert words in output.err
    assert output.err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_the_first_key_of_a_file_is_sent_without_its_fields(tmp_path):
    (tmp_path / "keys").write_text("# of the phones\n\n  5f3a9c0d1e2b4a68 name=phone concurrent=4\n0000111122223333\n")
    options = Options("http://127.0.0.1:1", api_key_file=tmp_path / "keys")
    assert read_headers(options) == {"authorization": "Bearer 5f3a9c0d1e2b4a68"}


@pytest.mark.parametrize(("content", "reason"), [(b"\xff\xfe", "(not UTF-8)"), (b"# none", "has no key")])
def test_a_file_without_a_key_to_send_is_told(tmp_path, content, reason):
    (tmp_path / "keys").write_bytes(content)
    with pytest.raises(UsageError, match=re.escape(reason)):
        read_headers(Options("http://127.0.0.1:1", api_key_file=tmp_path / "keys"))


def test_an_address_is_parsed_or_refused():
    assert (
        Address.parse("http://127.0.0.1:8000") == Address.parse("http://127.0.0.1:8000/") == Address("127.0.0.1", 8000)
    )
    assert Address.parse("http://[::1]:80") == Address("::1", 80)
    with pytest.raises(UsageError, match="like http://127"):
        Address.parse("ftp://127.0.0.1")


def test_samples_carry_what_the_table_needs():
    run = LoadRun([Sample(200, 0.010, 0.001), Sample(200, 0.030, 0.002), Sample(429, 0.005, 0.0, 2)], 2.0)
    made = load_row(run, 123.456, connections=2)
    assert (made.per_second, made.p50_ms, made.refused_p50_ms, made.retry_after_s) == (1.0, 20.0, 5.0, 2.0)
    assert (made.resident_mb, made.connections, made.rate, made.failed) == (123.5, 2, None, 0)
