"""Clients that attack the server on purpose, each over a real socket: others are answered, and memory stays."""

import contextlib
import gzip
import json
import resource
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from benchmarks.host import resident_mb
from tests.servers import Server, running
from tests.serving.server.sockets import HEALTH, ask_health, connect, read_all, send_and_read, status_of, watched_health
from tests.sounds import encoded, harmonics

BUNDLE = Path("demo/model-from-scratch")
SAMPLES = 77_040
INFER = "/v2/models/model-from-scratch/infer"
TIMEOUT_S = 2
SOUND = encoded(harmonics(16_000, 1.0))


@pytest.fixture(scope="module")
def server(tmp_path_factory) -> Iterator[Server]:
    """A server with the default limits, warmed up."""
    with running(BUNDLE, tmp_path_factory.mktemp("server") / "log") as server:
        assert httpx.post(f"{server.address}/v1/embed", content=SOUND, timeout=60).status_code == 200
        yield server


@pytest.fixture(scope="module")
def hasty(tmp_path_factory) -> Iterator[Server]:
    """A server that gives every request and every reader two seconds, and takes twenty connections and 1 MB."""
    flags = ["--request-timeout-s", str(TIMEOUT_S), "--max-connections", "20", "--max-upload-mb", "1"]
    with running(BUNDLE, tmp_path_factory.mktemp("hasty") / "log", *flags) as server:
        yield server


def memory_mb(server: Server) -> float:
    megabytes = resident_mb(server.process.pid)
    assert megabytes is not None
    return megabytes


def metric(server: Server, name: str) -> float:
    lines = httpx.get(f"{server.address}/metrics").text.splitlines()
    return next(float(line.split()[-1]) for line in lines if line.startswith(f"{name} "))


def assert_error(answer: bytes, status: int, words: str) -> None:
    """The answer is one error in the form of all errors, and says that the connection closes."""
    head, body = answer.split(b"\r\n\r\n", 1)
    assert status_of(answer) == status, answer[:300]
    headers = dict(line.split(": ", 1) for line in head.decode().lower().split("\r\n")[1:])
    content = json.loads(body)
    assert set(content) == {"error", "request_id"}
    assert content["request_id"] == headers["x-request-id"]
    assert (headers["connection"], headers["content-type"]) == ("close", "application/json")
    assert headers["x-content-type-options"] == "nosniff"
    assert words in content["error"]


# Headers


def test_sixty_megabytes_of_small_headers_are_refused_and_leave_no_memory(server):
    before = memory_mb(server)
    flood = b"GET /healthz HTTP/1.1\r\nhost: test\r\n" + b"".join(b"x-%d: 0123456789\r\n" % i for i in range(60_000))
    with watched_health(server) as health, ThreadPoolExecutor(4) as clients:
        answers = list(clients.map(lambda _: send_and_read(server, flood), range(50)))
        time.sleep(0.2)
    for answer in answers:
        assert_error(answer, 431, "at most 32768 bytes and 100 fields")
    health.assert_fast()
    assert memory_mb(server) - before < 5


def test_one_header_of_129_megabytes_is_refused_and_leaves_no_memory(server):
    before = memory_mb(server)
    with watched_health(server) as health:
        answer = send_and_read(server, b"GET /healthz HTTP/1.1\r\nhost: test\r\nx: " + bytes(129_000_000 // 2) * 2)
        time.sleep(0.2)
    health.assert_fast()
    assert not answer or status_of(answer) in (400, 431)
    answer = send_and_read(server, b"GET /healthz HTTP/1.1\r\nhost: test\r\nx: " + 129_000_000 * b"a")
    assert_error(answer, 431, "the headers are too large")
    assert memory_mb(server) - before < 5


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"GET /healthz HTTP/1.1\r\n" + b"x: y\r\n" * 99 + b"connection: close\r\n\r\n", 200),
        (b"GET /healthz HTTP/1.1\r\n" + b"x: y\r\n" * 100 + b"connection: close\r\n\r\n", 431),
        (b"GET /healthz HTTP/1.1\r\nconnection: close\r\nx: " + b"y" * 32_000 + b"\r\n\r\n", 200),
        (b"GET /healthz HTTP/1.1\r\nconnection: close\r\nx: " + b"y" * 32_800 + b"\r\n\r\n", 431),
        (b"GET /healthz?" + b"y" * 33_000 + b" HTTP/1.1\r\nconnection: close\r\n\r\n", 431),
        (b"POST /v1/embed HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n0\r\nx: " + b"y" * 400_000, 431),
        (b"POST /v1/embed HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n0\r\n" + b"x: y\r\n" * 101 + b"\r\n", 431),
    ],
    ids=["100 fields", "101 fields", "32 kB", "33 kB", "a long URL", "a long trailer", "101 trailers"],
)
def test_headers_are_taken_up_to_32_kb_and_100_fields(server, head, status):
    assert status_of(send_and_read(server, head)) == status


# Connections


def test_a_client_that_reads_no_answer_is_cut_off(hasty):
    def send_for_20_seconds() -> None:
        started = time.perf_counter()
        while time.perf_counter() - started < 20:
            with contextlib.suppress(TimeoutError):
                connection.sendall(20 * b"GET /openapi.json HTTP/1.1\r\nhost: test\r\n\r\n")
            time.sleep(0.02)

    with connect(hasty) as connection:
        connection.settimeout(1)
        with pytest.raises(ConnectionError):
            send_for_20_seconds()


def test_pipelined_requests_are_answered_in_order_and_those_beyond_the_limit_are_not(server):
    n = 30
    lines = [b"GET /healthz HTTP/1.1\r\nhost: test\r\nx-request-id: %d\r\n\r\n" % i for i in range(1500)]
    with connect(server) as connection:
        connection.sendall(b"".join(lines[:n]))
        answers = b""
        while answers.count(b'{"status":"ok"}') < n:
            answers += connection.recv(65_536)
    ids = [part.split(b"\r\n")[0] for part in answers.split(b"x-request-id: ")[1:]]
    assert ids == [b"%d" % i for i in range(n)]
    answers = send_and_read(server, b"".join(lines))
    ids = [part.split(b"\r\n")[0] for part in answers.split(b"x-request-id: ")[1:]]
    assert ids == [b"%d" % i for i in range(len(ids))]
    assert n < len(ids) < 1500
    assert answers.count(b"connection: close") == 1


def test_the_oldest_idle_connection_makes_room_for_a_new_one(hasty):
    with contextlib.ExitStack() as stack:
        connections = [stack.enter_context(connect(hasty)) for _ in range(20)]
        for connection in connections[1:]:
            ask_health(connection)
        assert status_of(send_and_read(hasty, HEALTH.replace(b"host", b"connection: close\r\nhost"))) == 200
        assert read_all(connections[0]) == b""
        ask_health(connections[-1])


def test_a_connection_beyond_the_limit_is_told_503_while_all_others_are_busy(hasty):
    upload = b"POST /v1/embed HTTP/1.1\r\nhost: test\r\ncontent-length: 9\r\n\r\n"
    with contextlib.ExitStack() as stack:
        for _ in range(20):
            stack.enter_context(connect(hasty)).sendall(upload)
        time.sleep(0.3)
        assert_error(send_and_read(hasty, HEALTH), 503, "too many connections: this server takes 20")
    time.sleep(0.3)
    assert httpx.get(f"{hasty.address}/healthz").status_code == 200


def test_sigterm_ends_the_server_within_its_grace_under_1500_unread_pipelined_requests(tmp_path):
    flags = ["--request-timeout-s", str(TIMEOUT_S)]
    with running(BUNDLE, tmp_path / "log", *flags) as server, contextlib.ExitStack() as stack:
        for address in (b"/openapi.json", b"/docs", b"/metrics", b"/healthz"):
            connection = stack.enter_context(connect(server))
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            connection.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                for _ in range(75):
                    connection.send(20 * (b"GET %s HTTP/1.1\r\nhost: test\r\n\r\n" % address))
                    time.sleep(0.005)
        server.process.terminate()
        started = time.perf_counter()
        assert server.process.wait(60) == 0
        assert time.perf_counter() - started < TIMEOUT_S + 5


# The log


@contextlib.contextmanager
def server_with_stderr(stderr: int) -> Iterator[Server]:
    command = [sys.executable, "-m", "serving", str(BUNDLE), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=stderr, text=True) as process:
        try:
            assert process.stdout is not None
            yield Server(process, json.loads(process.stdout.readline())["address"], Path("/dev/null"))
        finally:
            process.kill()


def ask_with_long_lines(server: Server, n: int) -> None:
    """Requests whose lines in the log take 1.4 kB each."""
    request = b"GET /" + b"%01" * 199 + b" HTTP/1.1\r\nhost: test\r\nx-request-id: " + b"x" * 64 + b"\r\n\r\n"
    with connect(server) as connection:
        for _ in range(n // 25):
            connection.sendall(25 * request)
            answers = b""
            while answers.count(b"no such address") < 25:
                received = connection.recv(65_536)
                assert received
                answers += received


def test_a_log_that_nobody_reads_stops_no_request_and_its_lost_lines_are_counted():
    with server_with_stderr(subprocess.PIPE) as server:
        ask_with_long_lines(server, 3500)
        assert metric(server, "unheard_log_lines_dropped_total") > 0
        assert httpx.post(f"{server.address}/v1/embed", content=SOUND, timeout=60).status_code == 200
        server.process.terminate()
        assert server.process.wait(30) == 0


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
def test_a_full_disk_under_the_log_changes_no_answer_and_no_exit_code():
    with open("/dev/full", "w") as full, server_with_stderr(full.fileno()) as server:  # noqa: PTH123
        for _ in range(20):
            assert httpx.post(f"{server.address}/v1/embed", content=SOUND, timeout=60).status_code == 200
        time.sleep(0.1)
        assert metric(server, "unheard_log_lines_dropped_total") >= 20
        server.process.terminate()
        assert server.process.wait(30) == 0


# Compressed bodies


def chunked(data: bytes) -> bytes:
    pieces = (data[i : i + 60_000] for i in range(0, len(data), 60_000))
    return b"".join(b"%x\r\n" % len(piece) + piece + b"\r\n" for piece in pieces) + b"0\r\n\r\n"


COMPRESSED = b"POST /v1/embed HTTP/1.1\r\nhost: test\r\ncontent-encoding: gzip\r\ntransfer-encoding: chunked\r\n\r\n"
EMPTY_BLOCK = b"\0\0\0\xff\xff"  # of deflate


@pytest.mark.parametrize("attack", ["empty blocks", "garbage after the end"])
def test_compressed_bytes_that_become_no_upload_are_refused(hasty, attack):
    if attack == "empty blocks":
        body = gzip.compress(b"", mtime=0)[:10] + EMPTY_BLOCK * 4_000_000
        status, words, most = 413, "larger than 1 MB", 2_000_000
    else:
        body = gzip.compress(SOUND) + bytes(20_000_000)
        status, words, most = 400, "goes on after its end", 400_000
    answer = send_and_read(hasty, COMPRESSED + chunked(body))
    assert status_of(answer) == status
    assert words.encode() in answer
    time.sleep(0.1)
    received = [line["received_bytes"] for line in hasty.log() if line.get("status") == status]
    assert received[-1] < most


# JSON tensors


def tensor_json(windows: int, values: bytes, shape: int | None = None) -> bytes:
    """A request to infer, in which every value is the same text."""
    n = windows * SAMPLES
    head = b'{"inputs":[{"name":"waveform","datatype":"FP32","shape":[%d,%d],"data":[' % (shape or windows, SAMPLES)
    return head + b",".join([values] * n) + b"]}]}"


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (lambda: tensor_json(8, b"-0.12345678901234567e-10"), 200),
        (lambda: tensor_json(30, b"0.12345678901234567"), 413),
        (lambda: tensor_json(60, b"1", 8), 400),
        (lambda: b"[" * 20_000_000, 400),
        (lambda: b'{"a":[' + b"[],[{}]," * 2_500_000 + b"1]}", 400),
        (lambda: b'"' + b"\\n" * 10_000_000 + b'"', 400),
    ],
    ids=["8 windows", "48 MB", "too many values", "brackets", "empty lists", "escapes"],
)
def test_json_tensors_stop_nobody_and_take_four_times_their_size_at_most(server, body, status):
    data = body()
    Path(f"/proc/{server.process.pid}/clear_refs").write_text("5")  # forget the highest memory so far
    before = memory_mb(server)
    with watched_health(server) as health:
        answer = httpx.post(server.address + INFER, content=data, timeout=60)
        time.sleep(0.2)
    assert answer.status_code == status, answer.text
    health.assert_fast()
    high = peak_mb(server)
    assert high - before < 4 * len(data) / 1e6 + 5


def peak_mb(server: Server) -> float:
    """The most memory since the last reset, in megabytes."""
    lines = Path(f"/proc/{server.process.pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) * 1024 / 1e6


def test_json_numbers_equal_binary_ones(server):
    windows = (0.1 * np.random.default_rng(0).standard_normal((2, SAMPLES))).astype(np.float32)
    tensor = {"name": "waveform", "datatype": "FP32", "shape": [2, SAMPLES]}
    answers = []
    for data in (windows.tolist(), windows.ravel().tolist()):
        answers.append(httpx.post(server.address + INFER, json={"inputs": [tensor | {"data": data}]}, timeout=60))
    head = json.dumps({"inputs": [tensor | {"parameters": {"binary_data_size": windows.nbytes}}]}).encode()
    headers = {"inference-header-content-length": str(len(head))}
    answers.append(httpx.post(server.address + INFER, content=head + windows.tobytes(), headers=headers, timeout=60))
    embeddings = [answer.json()["outputs"][0]["data"] for answer in answers]
    assert embeddings[0] == embeddings[1]
    np.testing.assert_allclose(embeddings[0], embeddings[2], rtol=0, atol=1e-6)  # batches of other requests' size


# Malformed HTTP


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"POST /v1/embed HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST /v1/embed HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nhello!",
        b"POST /v1/embed HTTP/1.1\r\nhost: a\r\ncontent-length: +5\r\n\r\nhello",
        b"POST /v1/embed HTTP/1.1\r\nhost: a\r\ncontent-length: 5, 5\r\n\r\nhello",
        b"POST /v1/embed HTTP/1.1\r\nhost: a\r\ntransfer-encoding: xchunked\r\n\r\n0\r\n\r\n",
        b"POST /v1/embed HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n-1\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nhost : a\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\n host: a\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nx: a\0b\r\n\r\n",
    ],
)
def test_malformed_http_and_smuggling_are_400_in_the_form_of_all_errors(server, request_bytes):
    answer = send_and_read(server, request_bytes)
    assert_error(answer, 400, "not a valid HTTP/1.1 request")

    def refusals(log: list[dict[str, Any]]) -> list[tuple[int, str]]:
        told = (line for line in log if line["event"] == "refused" and line["request_id"].encode() in answer)
        return [(line["status"], line["client"]) for line in told]

    assert refusals(server.log_until(lambda log: bool(refusals(log)))) == [(400, "127.0.0.1")]


def test_a_malformed_chunk_ends_its_request_at_once(server):
    start = b"POST /v1/embed HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n"
    with connect(server) as connection:
        connection.sendall(start)
        time.sleep(0.1)
        connection.sendall(b"not hexadecimal\r\n")
        assert_error(read_all(connection), 400, "not a valid HTTP/1.1 request")
    assert metric(server, "unheard_held_upload_bytes") == 0


def test_the_limit_of_open_files_is_raised_to_what_the_connections_need(tmp_path):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < 300:
        pytest.skip(f"this machine allows {hard} open files")
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
    try:
        with running(BUNDLE, tmp_path / "log", "--max-connections", "90") as server:
            limits = Path(f"/proc/{server.process.pid}/limits").read_text()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert next(line for line in limits.splitlines() if line.startswith("Max open files")).split()[3] == "290"
