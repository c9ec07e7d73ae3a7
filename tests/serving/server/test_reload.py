"""SIGHUP opens the bundle and the keys again: no request fails, and what cannot be used changes nothing."""

import shutil
import signal
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
from fastapi.testclient import TestClient

from serving.embedder import Embedder
from serving.errors import UsageError
from serving.server.api_keys import ApiKeys
from serving.server.app import create_app
from serving.server.limits import Limits
from serving.server.pipeline import Pipeline
from serving.server.serve_command import ServeOptions, make_generation
from tests.bundle_copies import copy_bundle
from tests.servers import Server, refused, running
from tests.serving.server.sockets import connect
from tests.sounds import encoded, harmonics

SOUND = encoded(harmonics(16_000, 1.0))
OLD, NEW = "the-old-key-of-a-client", "the-new-key-of-a-client"


def reload(server: Server, event: str) -> None:
    """Send SIGHUP and wait for the line that tells of its outcome."""
    before = sum(line["event"].startswith(event) for line in server.log())
    server.process.send_signal(signal.SIGHUP)
    server.log_until(lambda log: sum(line["event"].startswith(event) for line in log) > before)


def test_a_new_bundle_and_new_keys_are_swapped_in_under_load_without_a_failed_request(tmp_path):
    folder, keys = copy_bundle(Path("demo/model-from-scratch"), tmp_path / "bundle"), tmp_path / "keys"
    keys.write_text(f"{OLD}\n")
    statuses: list[int] = []
    files: list[int] = []
    done = threading.Event()
    with running(folder, tmp_path / "log", "--api-key-file", str(keys)) as server:

        def load(key: str) -> None:
            with httpx.Client(timeout=60, headers={"x-api-key": key}) as client:
                while not done.is_set():
                    statuses.append(client.post(f"{server.address}/v1/embed", content=SOUND).status_code)

        def n_files() -> int:
            model = httpx.get(f"{server.address}/v1/model", headers={"x-api-key": OLD}).json()
            return len(model["files"])

        def threads_of_process() -> int:
            return len(list(Path(f"/proc/{server.process.pid}/task").iterdir()))

        clients = [threading.Thread(target=load, args=(OLD,)) for _ in range(3)]
        for client in clients:
            client.start()
        try:
            files.append(n_files())
            shutil.rmtree(folder)  # at first another bundle, without the smaller models
            copy_bundle(Path("demo/model-from-scratch"), folder, models=["fp32"])
            keys.write_text(f"{OLD} name=phone\n{NEW} name=tablet\n")
            reload(server, "reloaded")
            before = threads_of_process()  # after the first reload, when the threads that start late are there too
            files.append(n_files())
            for _ in range(2):
                reload(server, "reloaded")
        finally:
            done.set()
            for client in clients:
                client.join()
        assert files == [files[1] + 2, files[1]]
        assert len(statuses) > 10
        assert set(statuses) == {200}
        answer = httpx.post(f"{server.address}/v1/embed", content=SOUND, headers={"x-api-key": NEW}, timeout=60)
        assert answer.status_code == 200
        lines = httpx.get(f"{server.address}/metrics", headers={"x-api-key": NEW}).text.splitlines()
        assert 'unheard_reloads_total{outcome="done"} 3.0' in lines
        assert 'unheard_key_requests_total{key="tablet"} 2.0' in lines
        wanted = {"line-1", "phone", "tablet"}
        server.log_until(lambda log: {line.get("key") for line in log if line["event"] == "request"} == wanted)
        assert threads_of_process() <= before + 8  # the replaced generations ended theirs


def test_what_cannot_be_used_is_refused_with_one_line_and_changes_nothing(tmp_path):
    folder, keys = copy_bundle(Path("demo/model-from-scratch"), tmp_path / "bundle"), tmp_path / "keys"
    keys.write_text(f"{OLD}\n")
    with running(folder, tmp_path / "log", "--api-key-file", str(keys)) as server:

        def status(key: str) -> int:
            answer = httpx.post(f"{server.address}/v1/embed", content=SOUND, headers={"x-api-key": key}, timeout=60)
            return answer.status_code

        keys.write_text("short\n")
        reload(server, "reload refused")
        keys.write_text(f"{NEW}\n")
        (folder / "embedder.onnx").write_bytes(b"another file")
        reload(server, "reload refused")
        (line,) = [line for line in server.log() if "embedder.onnx" in line["event"]]
        assert "has changed since the export" in line["event"]
        assert (status(OLD), status(NEW)) == (200, 401)
        server.process.terminate()
        assert server.process.wait(60) == 0


def client_with(embedder: Embedder, *lines: str) -> TestClient:
    return TestClient(create_app(Pipeline(embedder, Limits()), ApiKeys(lines)))


def test_a_key_is_valid_through_its_last_day(embedder):
    today = datetime.now(UTC).date()
    for days, status in ((1, 200), (0, 200), (-2, 401)):
        client = client_with(embedder, f"{OLD} name=phone expires={today + timedelta(days)}")
        answer = client.get("/v1/model", headers={"x-api-key": OLD})
        assert answer.status_code == status
        if status == 401:
            assert "the API key phone was valid until" in refused(answer, 401)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("name=a b", "line 1: not what may follow a key"),
        ("expires=tomorrow", "line 1: not what may follow a key"),
        ("expires=2027-02-30", "line 1: expires: got 2027-02-30"),
        ("concurrent=0", "line 1: not what may follow a key"),
        (f"name=a\n{NEW} name=a", "line 2: two keys have the name a, here and in line 1"),
        (f"name=first expires=2020-01-01\n#\n{OLD} name=second", "line 3: is the key of line 1 again"),
        (f"\n{OLD}", "line 2: is the key of line 1 again"),
    ],
)
def test_a_line_with_something_else_after_the_key_is_refused(tmp_path, line, words):
    path = tmp_path / "keys"
    path.write_text(f"{OLD} {line}\n")
    with pytest.raises(UsageError) as error:
        ApiKeys.read(path)
    assert words in str(error.value)
    assert OLD not in str(error.value)


def test_a_key_has_no_more_requests_at_a_time_than_its_line_says(tmp_path):
    """The first request of the key never sends its body, so it stays under way."""
    keys = tmp_path / "keys"
    keys.write_text(f"{OLD} name=phone concurrent=1\n{NEW} name=tablet\n")
    with running(Path("demo/model-from-scratch"), tmp_path / "log", "--api-key-file", str(keys)) as server:

        def ask(key: str) -> httpx.Response:
            return httpx.post(f"{server.address}/v1/embed", content=SOUND, headers={"x-api-key": key}, timeout=60)

        assert ask(OLD).status_code == 200
        with connect(server) as first:
            first.sendall(
                f"POST /v1/embed HTTP/1.1\r\nhost: t\r\nx-api-key: {OLD}\r\ncontent-length: 9\r\n\r\n".encode()
            )
            ends = time.monotonic() + 30
            while (answer := ask(OLD)).status_code == 200:
                assert time.monotonic() < ends
            assert "1 requests with this API key are under way" in refused(answer, 429)
            assert answer.headers["retry-after"] == "1"
            assert ask(NEW).status_code == 200


def test_a_file_whose_keys_have_all_expired_is_warned_of(embedder, caplog):
    pipeline = Pipeline(embedder, Limits())
    options = ServeOptions(Path("bundle"))
    expired = f"{OLD} expires=2020-01-01"
    make_generation(options, ApiKeys([expired, NEW]), pipeline)
    make_generation(options, None, pipeline)
    assert caplog.records == []
    make_generation(options, ApiKeys([expired]), pipeline)
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert record.message.startswith("--api-key-file: all keys have expired, so every request gets 401")
