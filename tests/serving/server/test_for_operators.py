"""What operators rely on besides health and metrics: proxies, warnings, headers of every response."""

import json
import os
import re
import signal
import threading
import time
from typing import Any

import httpx
import pytest
from fastapi.testclient import TestClient

from serving.embedder import Embedder
from serving.errors import UsageError
from serving.server.api_keys import ApiKeys
from serving.server.app import create_app
from serving.server.limits import Limits
from serving.server.log_stream import LogStream
from serving.server.pipeline import Pipeline
from serving.server.serve_command import ServeOptions, check_serve_options, warn_of_no_keys
from tests.servers import refused, running

BUNDLE = "demo/model-from-scratch"
KEY = "a-key-of-some-length"
PATHS = (
    "/healthz",
    "/readyz",
    "/metrics",
    "/v1/model",
    "/docs",
    "/openapi.json",
    "/v2",
    "/v2/models/model-from-scratch",
)


@pytest.fixture(scope="module")
def embedder() -> Embedder:
    return Embedder.load(BUNDLE)


@pytest.fixture(scope="module")
def client(embedder) -> TestClient:
    return TestClient(create_app(Pipeline(embedder, Limits())), follow_redirects=False)


@pytest.mark.parametrize("path", PATHS)
def test_head_is_answered_like_get_without_the_body(client, path):
    got, head = client.get(path), client.head(path)
    assert (head.status_code, head.content) == (200, b"")
    if path != "/metrics":  # each answer changes it
        assert head.headers["content-length"] == got.headers["content-length"]


def test_head_of_an_address_for_uploads_is_405(client):
    assert client.head("/v1/embed").status_code == 405


@pytest.mark.parametrize("path", ["/v1/model/", "/healthz/", "/v2/", "/v1/embed/"])
def test_no_address_redirects_to_the_host_that_a_client_names(client, path):
    answer = client.get(path, headers={"host": "evil.example"})
    assert "no such address" in refused(answer, 404)
    assert "location" not in answer.headers


@pytest.mark.parametrize("path", [*PATHS, "/nothing"])
def test_no_response_is_guessed_to_be_of_another_type(client, path):
    assert client.get(path).headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize("path", ["/healthz", "/audio/healthz"])
def test_under_a_root_path_addresses_work_with_it_and_without(embedder, path):
    client = TestClient(create_app(Pipeline(embedder, Limits()), ApiKeys([KEY]), root_path="/audio"))
    assert client.get(path).json() == {"status": "ok"}  # open, also with keys
    key = {"x-api-key": KEY}
    model = path.replace("healthz", "v1/model")
    assert client.get(model, headers=key).status_code == 200
    refused(client.get(model), 401)
    assert client.get("/openapi.json").json()["servers"] == [{"url": "/audio"}]
    refused(client.get("/audiohealthz", headers=key), 404)


@pytest.mark.parametrize("root_path", ["audio", "/audio/", "/", "//", "/a b", "/a\n"])
def test_a_root_path_that_is_none_is_refused(root_path):
    with pytest.raises(UsageError, match="--root-path: got"):
        check_serve_options(ServeOptions(BUNDLE, root_path=root_path))


def test_the_log_has_the_clients_address_also_behind_a_proxy_on_this_machine(tmp_path):
    with running(BUNDLE, tmp_path / "log") as server:
        httpx.get(f"{server.address}/healthz")
        httpx.get(f"{server.address}/healthz", headers={"x-forwarded-for": "203.0.113.9"})
        server.process.terminate()
        assert server.process.wait(30) == 0
        assert [line["client"] for line in server.log() if line["event"] == "request"] == ["127.0.0.1", "203.0.113.9"]


@pytest.mark.parametrize(
    ("host", "keys", "words"),
    [
        ("0.0.0.0", None, "--host: everybody who reaches this machine can use the server"),
        ("::", None, "--host: everybody who reaches this machine can use the server"),
        ("0.0.0.0", "keys", None),
        ("127.0.0.1", None, None),
        ("::1", None, None),
    ],
)
def test_a_server_on_a_network_without_keys_is_warned_of(tmp_path, caplog, host, keys, words):
    warn_of_no_keys(ServeOptions(BUNDLE, api_key_file=keys), host)
    warnings = [record.message for record in caplog.records if record.levelname == "WARNING"]
    assert len(warnings) == (words is not None)
    assert words is None or warnings[0].startswith(words)


@pytest.mark.parametrize("mode", [0o620, 0o602])
def test_a_key_file_that_others_can_write_to_is_warned_of_at_the_start_and_at_each_reload(tmp_path, mode):
    keys = tmp_path / "keys"
    keys.write_text(f"{KEY}\n")
    keys.chmod(0o644)

    def warnings(log: list[dict[str, Any]]) -> int:
        return sum(line["event"].startswith("--api-key-file: other users can write to it") for line in log)

    with running(BUNDLE, tmp_path / "log", "--api-key-file", str(keys), "--backend", "onnxruntime") as server:
        assert warnings(server.log()) == 0
        keys.chmod(mode)
        server.process.send_signal(signal.SIGHUP)
        log = server.log_until(lambda log: any(line["event"] == "reloaded" for line in log))
        assert warnings(log) == 1
    with running(BUNDLE, tmp_path / "log", "--api-key-file", str(keys), "--backend", "onnxruntime") as server:
        assert warnings(server.log()) == 1


@pytest.mark.parametrize(
    "origin",
    [
        "https://example.org/",
        "https://example.org/page",
        "https://Example.org",
        "https://example.org:443",
        "http://example.org:80",
        "https://example.org:",
        "https://user@example.org",
        "https://exämple.org",
        "https://",
        "HTTPS://example.org",
        "null",
    ],
)
def test_an_origin_that_no_browser_sends_is_refused(origin):
    with pytest.raises(UsageError, match=r"^--cors-origin: got .* without a path or slash at the end"):
        check_serve_options(ServeOptions(BUNDLE, cors_origin=("https://example.org", origin)))


@pytest.mark.parametrize(
    "origin", ["*", "https://a-b.example.org", "http://localhost:3000", "http://[::1]:8080", "http://127.0.0.1:443"]
)
def test_an_origin_as_browsers_send_it_is_allowed(embedder, origin):
    check_serve_options(ServeOptions(BUNDLE, cors_origin=(origin,)))
    client = TestClient(create_app(Pipeline(embedder, Limits()), cors_origins=[origin]))
    answer = client.get("/healthz", headers={"origin": origin})
    assert answer.headers["access-control-allow-origin"] == origin


def test_the_log_stays_one_json_object_a_line_when_many_requests_write_at_once(tmp_path):
    with running(BUNDLE, tmp_path / "log") as server:
        with httpx.Client(base_url=server.address) as client:
            for i in range(200):
                client.get(f"/{i}%01")
        server.process.terminate()
        assert server.process.wait(30) == 0
        lines = [json.loads(line) for line in server.stderr.read_text().splitlines()]
    assert [line["path"] for line in lines if line["event"] == "request"] == [f"/{i}\x01" for i in range(200)]


def test_a_refused_preflight_has_the_form_of_all_errors(embedder):
    client = TestClient(create_app(Pipeline(embedder, Limits()), cors_origins=["https://example.org"]))
    headers = {"origin": "https://elsewhere.org", "access-control-request-method": "POST"}
    answer = client.options("/v1/embed", headers=headers)
    assert "Disallowed CORS origin" in refused(answer, 400)
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "access-control-allow-origin" not in answer.headers


TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


def test_a_trace_goes_on_in_the_response_and_in_the_log(tmp_path):
    with running(BUNDLE, tmp_path / "log") as server:
        sent = {"traceparent": f"00-{TRACE}-{PARENT}-01"}
        for path in ("/v1/model", "/nothing"):
            answer = httpx.get(f"{server.address}{path}", headers=sent)
            version, trace, span, flags = answer.headers["traceparent"].split("-")
            assert (version, trace, flags) == ("00", TRACE, "01")
            assert re.fullmatch("[0-9a-f]{16}", span)
            assert span != PARENT
            request_id = answer.headers["x-request-id"]

            def lines(log: list[dict[str, Any]], request_id: str = request_id) -> list[dict[str, Any]]:
                return [line for line in log if line.get("request_id") == request_id]

            (line,) = lines(server.log_until(lambda log: bool(lines(log))))
            assert (line["trace_id"], line["span_id"], line["parent_span_id"]) == (TRACE, span, PARENT)


@pytest.mark.parametrize(
    ("header", "is_valid"),
    [
        (f"00-{TRACE}-{PARENT}-01", True),
        (f"cc-{TRACE}-{PARENT}-01-what-the-future-will-be-like", True),
        (f"00-{TRACE}-{PARENT}-01-more", False),
        (f"ff-{TRACE}-{PARENT}-01", False),
        (f"00-{'0' * 32}-{PARENT}-01", False),
        (f"00-{TRACE}-{'0' * 16}-01", False),
        (f"00-{TRACE.upper()}-{PARENT}-01", False),
        (f"00-{TRACE}-{PARENT}", False),
        ("", False),
    ],
)
def test_a_trace_that_the_standard_does_not_allow_is_left_out(client, header, is_valid):
    answer = client.get("/healthz", headers={"traceparent": header})
    assert answer.status_code == 200
    assert ("traceparent" in answer.headers) == is_valid


def test_lines_that_come_while_earlier_ones_are_written_are_not_lost_at_the_end():
    reader, writer = os.pipe()
    log = LogStream(writer)
    long = "a" * 200_000 + "\n"  # more than a pipe holds: the write waits for its reader
    log.write(long)
    received = os.read(reader, 1)
    log.write("the last line\n")
    closing = threading.Thread(target=log.close)
    closing.start()
    time.sleep(0.1)  # the log is told to end while it writes
    while len(received) < len(long):
        received += os.read(reader, len(long) - len(received))
    closing.join()
    os.close(writer)
    with os.fdopen(reader, "rb") as rest:
        assert rest.read() == b"the last line\n"
    assert log.dropped_lines == 0
