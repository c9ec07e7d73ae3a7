"""The admin socket: its owner swaps the bundle under load, and is told what came of it."""

import json
import shutil
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from demo.bundle_choice import FROM_SCRATCH
from tests.bundle_copies import copy_bundle
from tests.servers import Server, refused, running
from tests.sounds import encoded, harmonics

BUNDLE = FROM_SCRATCH
SOUND = encoded(harmonics(16_000, 1.0))
KEY = "the-key-of-a-client"


@pytest.fixture
def path(tmp_path) -> Path:
    return tmp_path / "admin.sock"


@pytest.fixture
def server(tmp_path, path) -> Iterator[Server]:
    keys = tmp_path / "keys"
    keys.write_text(f"{KEY}\n")
    flags = ["--admin-socket", str(path), "--api-key-file", str(keys)]
    with running(copy_bundle(BUNDLE, tmp_path / "first"), tmp_path / "log", *flags) as server:
        yield server


def admin(path: Path) -> httpx.Client:
    return httpx.Client(transport=httpx.HTTPTransport(uds=str(path)), base_url="http://admin", timeout=120)


def n_reloads(log: list[dict]) -> int:
    return sum(line["event"] == "reloaded" for line in log)


def n_files(server: Server) -> int:
    return len(httpx.get(f"{server.address}/v1/model", headers={"x-api-key": KEY}).json()["files"])


def test_another_bundle_is_swapped_in_under_load_without_a_failed_request(tmp_path, path, server):
    second = copy_bundle(BUNDLE, tmp_path / "second", models=["fp32"])
    space = json.loads((second / "manifest.json").read_text())["embedding_space"]
    statuses: list[int] = []
    done = threading.Event()

    def load() -> None:
        with httpx.Client(timeout=60, headers={"x-api-key": KEY}) as client:
            while not done.is_set():
                statuses.append(client.post(f"{server.address}/v1/embed", content=SOUND).status_code)

    clients = [threading.Thread(target=load) for _ in range(3)]
    for client in clients:
        client.start()
    try:
        before = n_files(server)
        with admin(path) as asking:
            answer = asking.post("/v1/reload", json={"bundle": str(second)})
            assert (answer.status_code, answer.json()) == (200, {"embedding_space": space, "bundle": str(second)})
            assert n_files(server) == before - 2
            assert asking.post("/v1/reload").json()["bundle"] == str(second)  # the present one from now on
    finally:
        done.set()
        for client in clients:
            client.join()
    assert len(statuses) > 10
    assert set(statuses) == {200}
    lines = httpx.get(f"{server.address}/metrics", headers={"x-api-key": KEY}).text.splitlines()
    assert 'unheard_reloads_total{outcome="done"} 2.0' in lines
    assert [line["bundle"] for line in server.log() if line["event"] == "reloaded"] == [str(second)] * 2


def test_a_refused_bundle_leaves_the_present_one_and_says_why(tmp_path, path, server):
    damaged = copy_bundle(BUNDLE, tmp_path / "damaged", models=["fp32"])
    (damaged / "embedder.onnx").write_bytes(b"another file")
    before = n_files(server)
    with admin(path) as asking:
        told = refused(asking.post("/v1/reload", json={"bundle": str(damaged)}), 422)
        assert "reload refused, all stays as it was" in told
        assert "embedder.onnx: has changed since the export" in told
        assert "no such bundle folder" in refused(asking.post("/v1/reload", json={"bundle": "/nothing"}), 422)
        too_long = refused(asking.post("/v1/reload", json={"bundle": "/" + 300 * "x"}), 422)
        assert "cannot be opened (File name too long); give another path" in too_long
        for body in (
            '{"bundle": "relative"}',
            '{"bundle": 3}',
            "[]",
            '{"bundle": "/a", "b": 1}',
            '{"bundle": "/a\\u0000"}',
        ):
            told = refused(asking.post("/v1/reload", content=body), 422)
            assert told == f'got {body}; wanted {{"bundle": "/absolute/path"}}, or no body'
        assert "is no JSON" in refused(asking.post("/v1/reload", content="{"), 400)
        assert "larger than" in refused(asking.post("/v1/reload", content=b" " * 100_000), 413)
        assert "use POST" in refused(asking.get("/v1/reload"), 405)
        refused(asking.get("/v1/model"), 404)  # nothing else is there
        assert n_files(server) == before
        assert asking.post("/v1/reload").status_code == 200


def test_an_admin_who_leaves_during_a_reload_does_not_end_reloading(path, server):
    with admin(path) as impatient, pytest.raises(httpx.ReadTimeout):
        impatient.post("/v1/reload", timeout=0.05)
    with admin(path) as asking:
        assert asking.post("/v1/reload").status_code == 200
    before = n_reloads(server.log())
    server.process.send_signal(signal.SIGHUP)
    server.log_until(lambda log: n_reloads(log) > before)


def test_only_the_owner_can_connect_and_the_file_goes_at_the_end(path, server):
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    server.process.terminate()
    assert server.process.wait(60) == 0
    assert not path.exists()


def test_the_socket_is_not_on_the_network(server):
    answer = httpx.post(f"{server.address}/v1/reload", headers={"x-api-key": KEY})
    assert answer.status_code == 404


def test_the_end_does_not_wait_for_an_idle_admin(path, server):
    with socket.socket(socket.AF_UNIX) as idle:
        idle.connect(str(path))
        idle.sendall(b"POST /v1/reload HTTP/1.1\r\ncontent-length: 100\r\n\r\n")
        time.sleep(0.2)
        started = time.monotonic()
        server.process.terminate()
        assert server.process.wait(60) == 0
        assert time.monotonic() - started < 15  # twice END_S, and the rest of the end


def test_a_socket_that_a_killed_server_left_is_replaced(tmp_path, path, server):
    server.process.kill()
    server.process.wait()
    assert path.exists()
    shutil.copytree(tmp_path / "first", tmp_path / "again")
    with running(tmp_path / "again", tmp_path / "log2", "--admin-socket", str(path)), admin(path) as asking:
        assert asking.post("/v1/reload").status_code == 200


@pytest.mark.parametrize("kind", ["file", "server", "folder", "long"])
def test_a_path_where_no_socket_can_be_is_refused_with_one_line(tmp_path, path, kind):
    with socket.socket(socket.AF_UNIX) as other:
        match kind:
            case "file":
                path.write_text("mine")
            case "server":
                other.bind(str(path))
                other.listen()
            case "folder":
                path = tmp_path / "nowhere" / "admin.sock"
            case _:
                path = tmp_path / ("x" * 120)
        command = [sys.executable, "-m", "serving", str(BUNDLE), "--port", "0", "--admin-socket", str(path)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert f"--admin-socket: {path}: " in line
    assert kind != "file" or path.read_text() == "mine"
