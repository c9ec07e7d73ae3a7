"""The server as a process and its clients as sockets: it starts, ends, and outlives whoever is slow, rude or gone."""

import contextlib
import platform
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import numpy as np
import pytest

from benchmarks.host import resident_mb
from serving.__main__ import main
from serving.audio import decode_audio
from tests.servers import Server, catches, running
from tests.sounds import encoded, harmonics

SOUND = encoded(harmonics(16_000))
TIMEOUT_S = 2


@pytest.fixture(scope="module")
def server(bundle_folder, tmp_path_factory) -> Iterator[Server]:
    """A server that gives a request two seconds and 1 MB."""
    log = tmp_path_factory.mktemp("server") / "log"
    with running(bundle_folder, log, "--request-timeout-s", str(TIMEOUT_S), "--max-upload-mb", "1") as server:
        yield server


def head(length: int, *lines: str, address: str = "/v1/embed") -> bytes:
    return "\r\n".join([f"POST {address} HTTP/1.1", "host: test", f"content-length: {length}", *lines, "", ""]).encode()


def connect(server: Server) -> socket.socket:
    return socket.create_connection(("127.0.0.1", server.port), timeout=30)


def read_all(connection: socket.socket) -> bytes:
    """What comes until the server closes the connection."""
    return b"".join(iter(lambda: connection.recv(65_536), b""))


def ask_health(connection: socket.socket) -> None:
    connection.sendall(b"GET /healthz HTTP/1.1\r\nhost: test\r\n\r\n")
    answer = b""
    while not answer.endswith(b'{"status":"ok"}'):
        answer += connection.recv(65_536)
    assert status_of(answer) == 200


def status_of(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1])


def assert_serves(server: Server, expected: np.ndarray) -> None:
    got = httpx.post(f"{server.address}/v1/embed", content=SOUND, timeout=60).json()["embedding"]
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-5)


@pytest.fixture(scope="module")
def expected(embedder) -> np.ndarray:
    return embedder.embed(*decode_audio(SOUND))


@pytest.mark.parametrize("ending", [signal.SIGTERM, signal.SIGINT])
def test_the_command_serves_until_a_signal_and_then_exits_with_0(bundle_folder, tmp_path, expected, ending):
    with running(bundle_folder, tmp_path / "log") as server:
        assert_serves(server, expected)
        with connect(server) as idle:  # does not hold the end up
            ask_health(idle)
            server.process.send_signal(ending)
            assert server.process.wait(30) == 0
        assert server.process.stdout is not None
        assert server.process.stdout.read() == ""
        assert [line["event"] for line in server.log()] == ["serving", "request", "request"]


def test_after_sigterm_new_connections_are_refused_while_a_request_under_way_is_answered(bundle_folder, tmp_path):
    with running(bundle_folder, tmp_path / "log") as server, connect(server) as slow:
        half = len(SOUND) // 2
        head = f"POST /v1/embed HTTP/1.1\r\nhost: a\r\ncontent-length: {len(SOUND)}\r\n\r\n"
        slow.sendall(head.encode() + SOUND[:half])
        with connect(server) as idle:
            ask_health(idle)  # by then the other request has begun, too
            server.process.send_signal(signal.SIGTERM)
            idle.settimeout(20)
            assert idle.recv(1) == b""
        with pytest.raises(ConnectionRefusedError):  # the port is closed before the idle connections are
            connect(server)
        slow.sendall(SOUND[half:])
        assert slow.recv(100).startswith(b"HTTP/1.1 200 ")
        assert server.process.wait(30) == 0


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc to know when the process handles signals")
@pytest.mark.parametrize("later_s", [0.0, 0.2, 0.5, 1.0])
def test_a_signal_while_it_starts_ends_it_with_0(bundle_folder, later_s):
    command = [sys.executable, "-m", "serving", str(bundle_folder), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            while not catches(process.pid, signal.SIGTERM):
                assert process.poll() is None
                time.sleep(0.001)
            time.sleep(later_s)
            process.terminate()
            _, errors = process.communicate(timeout=30)
        finally:
            process.kill()
    assert process.returncode == 0, errors
    assert "Traceback" not in errors


def test_a_signal_under_load_loses_no_request(bundle_folder, tmp_path, embedder):
    seconds, n = 40.0, 16
    long = encoded(harmonics(16_000, seconds))
    expected = embedder.embed(*decode_audio(long))
    with running(bundle_folder, tmp_path / "log", "--max-queue-seconds", "6000") as server:
        answered = 0

        def ask(_: int) -> list[float]:
            nonlocal answered
            answer = httpx.post(f"{server.address}/v1/embed", content=long, timeout=120)
            answered += 1
            return answer.json()["embedding"]

        def queued_s() -> float:
            (line,) = (
                line
                for line in httpx.get(f"{server.address}/metrics").text.splitlines()
                if line.startswith("unheard_queued_audio_seconds ")
            )
            return float(line.split()[1])

        with ThreadPoolExecutor(n) as clients:
            answers = clients.map(ask, range(n))
            while (waiting := queued_s()) + answered * seconds < n * seconds:  # some are not accepted yet
                assert answered < n
            server.process.terminate()
            assert waiting >= 2 * seconds
            for got in answers:
                np.testing.assert_allclose(got, expected, rtol=0, atol=1e-5)
        assert server.process.wait(30) == 0
        assert [line["status"] for line in server.log() if line.get("path") == "/v1/embed"] == [200] * n
        with pytest.raises(httpx.ConnectError):
            httpx.get(f"{server.address}/healthz")


def test_clients_killed_in_the_middle_leave_the_server_as_it_was(server, expected):
    for cut in (0, 1, 20, 80, 300, 44_000, len(SOUND) - 1, len(SOUND)):
        with connect(server) as connection:
            connection.sendall((head(len(SOUND)) + SOUND)[: cut if cut < 80 else len(head(len(SOUND))) + cut])
            if cut % 2:  # a reset instead of an orderly end
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    assert_serves(server, expected)
    while "unheard_queued_audio_seconds 0.0" not in (told := httpx.get(f"{server.address}/metrics").text):
        time.sleep(0.01)
    assert "unheard_held_upload_bytes 0.0" in told
    assert not [line for line in server.log() if line["level"] == "error"]


def test_a_slow_sender_is_told_408_when_its_time_is_up(server, expected):
    with connect(server) as connection:
        started = time.perf_counter()
        connection.sendall(head(len(SOUND)))
        stop = threading.Event()

        def trickle() -> None:
            with contextlib.suppress(OSError):
                for byte in SOUND:
                    connection.sendall(bytes([byte]))
                    if stop.wait(0.05):
                        return

        sender = threading.Thread(target=trickle)
        sender.start()
        answer = read_all(connection)
        stop.set()
        sender.join()
        assert TIMEOUT_S * 0.9 < time.perf_counter() - started < TIMEOUT_S + 20
    assert status_of(answer) == 408
    assert b"took longer than 2 s" in answer
    assert_serves(server, expected)


@pytest.mark.parametrize("start", [b"", b"POST /v1/embed HT", head(9)[:-4]], ids=["nothing", "a line", "headers"])
def test_a_connection_that_sends_no_whole_request_is_closed_when_its_time_is_up(server, start):
    with connect(server) as connection:
        started = time.perf_counter()
        connection.sendall(start)
        with contextlib.suppress(ConnectionError):
            assert read_all(connection) == b""
        assert TIMEOUT_S * 0.9 < time.perf_counter() - started < TIMEOUT_S + 20


def test_after_an_answer_the_next_headers_have_a_time_too(server):
    with connect(server) as connection:
        ask_health(connection)
        started = time.perf_counter()
        connection.sendall(b"GET /healthz HT")
        with contextlib.suppress(ConnectionError):
            assert read_all(connection) == b""
        assert TIMEOUT_S * 0.9 < time.perf_counter() - started < TIMEOUT_S + 20


@pytest.mark.parametrize("lines", [(), ("connection: close",)], ids=["keep-alive", "close"])
def test_a_refused_upload_is_answered_although_its_client_goes_on_sending(server, lines):
    body = bytes(30_000_000)
    for _ in range(3):
        with connect(server) as connection:
            connection.sendall(head(len(body), *lines) + body)
            assert status_of(connection.recv(65_536)) == 413


def test_a_refused_upload_of_some_size_leaves_the_connection_to_the_next(server):
    body = bytes(1_020_000)  # above the limit, and more than a socket holds
    with connect(server) as connection:
        for _ in range(3):
            connection.sendall(head(len(body)) + body)
            answer = b""
            while not answer.endswith(b"}"):
                answer += connection.recv(65_536)
            assert status_of(answer) == 413
        connection.sendall(head(len(SOUND), "connection: close") + SOUND)
        assert status_of(read_all(connection)) == 200


def test_a_client_that_asks_first_is_refused_before_it_sends(server):
    with connect(server) as connection:
        connection.sendall(head(2_000_000, "expect: 100-continue"))
        assert status_of(connection.recv(65_536)) == 413
    with connect(server) as connection:
        connection.sendall(head(len(SOUND), "expect: 100-continue", "connection: close"))
        assert status_of(connection.recv(65_536)) == 100
        connection.sendall(SOUND)
        assert status_of(read_all(connection)) == 200


def test_who_sends_without_end_after_a_refusal_is_cut_off(server, expected):
    with connect(server) as connection:
        connection.sendall(b"POST /v1/embed HTTP/1.1\r\nhost: test\r\ntransfer-encoding: chunked\r\n\r\n")
        chunk = b"10000\r\n" + bytes(65_536) + b"\r\n"

        def send_for_a_minute() -> None:
            started = time.perf_counter()
            while time.perf_counter() - started < 60:
                connection.sendall(chunk)

        with pytest.raises((ConnectionResetError, BrokenPipeError)):
            send_for_a_minute()
    assert_serves(server, expected)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is not glibc")
def test_the_memory_of_long_recordings_is_given_back(bundle_folder, tmp_path):
    two_minutes = encoded(np.zeros(44_100 * 120, np.float32), 44_100)
    with running(bundle_folder, tmp_path / "log", "--max-queue-seconds", "2000") as server:

        def ask(body: bytes) -> int:
            return httpx.post(f"{server.address}/v1/embed", content=body, timeout=120).status_code

        assert ask(encoded(np.zeros(44_100 * 40, np.float32), 44_100)) == 200  # a whole batch of windows
        before = resident_mb(server.process.pid)
        with ThreadPoolExecutor(8) as clients:
            assert set(clients.map(ask, [two_minutes] * 24)) == {200}
        assert ask(SOUND) == 200
        after = resident_mb(server.process.pid)
    assert before is not None
    assert after is not None
    # MB; 140 where the C library keeps what is free, 90 where chunks of bodies leave holes in its heap
    assert after - before < 50


def test_what_is_no_http_is_refused_and_harms_nobody(server, expected):
    for junk in (b"\x16\x03\x01\x02\x00\x01\x00", bytes(9_000), b"GET / HTTP/9.9\r\n\r\n", b"GET " + b"a" * 100_000):
        with connect(server) as connection, contextlib.suppress(ConnectionError):
            connection.sendall(junk + b"\r\n\r\n")
            answer = connection.recv(65_536)
            assert not answer or status_of(answer) in (400, 404)
    assert_serves(server, expected)


def test_small_answers_are_not_held_back_for_an_acknowledgement(server):
    with connect(server) as connection:
        times = []
        for _ in range(30):
            started = time.perf_counter()
            ask_health(connection)
            times.append(time.perf_counter() - started)
    assert min(times) < 0.03  # without TCP_NODELAY each takes 40 ms


def test_a_port_in_use_ends_the_command_with_2_and_one_line(bundle_folder):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        command = [sys.executable, "-m", "serving", str(bundle_folder), "--port", str(port)]
        process = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert process.returncode == 2
    assert process.stdout == ""
    assert process.stderr == f"error: port {port} is in use on 127.0.0.1; stop what uses it, or give another --port\n"


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ("absent", "absent: no such bundle folder"),
        ("changed", "has changed since the export"),
        ("good --backend gpu", "backend: got gpu"),
        ("good --threads 0", "threads: got 0"),
        ("good --port 65536", "--port: got 65536"),
        ("good --port http", "--port"),
        ("good --host no.such.host.invalid", "give another --host"),
        ("good --host 203.0.113.1", "give another --host or --port"),
        ("good --max-seconds 0", "--max-seconds: got 0"),
        ("good --max-upload-mb nan", "--max-upload-mb: got nan"),
        ("good --max-held-mb -1", "--max-held-mb: got -1"),
        ("good --max-queue-seconds inf", "--max-queue-seconds: got inf"),
        ("good --max-decodes 0", "--max-decodes: got 0"),
        ("good --max-batch 0", "--max-batch: got 0"),
        ("good --max-wait-ms -1", "--max-wait-ms: got -1"),
        ("good --request-timeout-s 0", "--request-timeout-s: got 0"),
        ("good --max-held-mb 40", "--max-held-mb: got 40; wanted at least --max-upload-mb (50)"),
        ("good --max-upload-mb 600", "--max-held-mb: got 500; wanted at least --max-upload-mb (600)"),
        ("good --max-wait-ms 500 --request-timeout-s 0.5", "--max-wait-ms: got 500; wanted less than"),
        ("good --log-level loud", "--log-level: got loud"),
        ("good --cors-origin example.org", "--cors-origin: got example.org"),
        ("good --api-key-file absent", "--api-key-file: absent: cannot be read"),
    ],
)
def test_a_wrong_bundle_or_flag_ends_the_command_with_2_and_one_line(
    bundle_folder, tmp_path, monkeypatch, capsys, flags, words
):
    monkeypatch.chdir(tmp_path)
    for name in ("good", "changed"):
        shutil.copytree(bundle_folder, name)
    with open("changed/embedder.onnx", "ab") as file:  # noqa: PTH123
        file.write(b"!")
    try:
        code = main([*flags.split(), *([] if "--port" in flags else ["--port", "0"])])
    except SystemExit as stop:  # tyro's way out of a flag that it cannot parse
        code = stop.code
    output = capsys.readouterr()
    assert code == 2
    assert output.out == ""
    assert output.err.startswith("error: ")
    assert words in output.err
    assert output.err.count("\n") == 1


def test_help_tells_each_limit_with_its_unit_default_and_answer(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["--help"])
    assert stop.value.code == 0
    told = " ".join(capsys.readouterr().out.replace("│", " ").split())
    for words in ("--max-queue-seconds", "--request-timeout-s", "else 429", "else 413", "(default: 300.0)"):
        assert words in told
    assert "--limits" not in told


@pytest.mark.skipif(platform.system() != "Linux", reason="nice is of threads on Linux alone")
def test_what_computes_steps_back_for_what_answers(server):
    assert httpx.post(f"{server.address}/v1/embed", content=SOUND).status_code == 200
    nice = {}
    for thread in Path(f"/proc/{server.process.pid}/task").iterdir():
        name, fields = (thread / "stat").read_text().rsplit(") ", 1)
        nice[int(thread.name)] = name.split("(", 1)[1], int(fields.split()[16])
    own = nice[server.process.pid][1]
    assert sum(level > own for _, level in nice.values()) >= 2  # the batcher, and a decoder
