"""What whoever runs the server relies on: health, metrics, logs, keys, CORS, the description of its addresses."""

import json
import re
import sys

import httpx
import numpy as np
import pytest
from fastapi.testclient import TestClient

from serving.embedder import Embedder
from serving.errors import UsageError
from serving.server.api_keys import ApiKeys
from serving.server.app import create_app
from serving.server.limits import Limits
from serving.server.pipeline import Pipeline
from tests.servers import client_of, refused, running, with_network
from tests.sounds import encoded, harmonics

KEYS = ("first-key-of-some-length", "second-key-of-some-length")
TONE = encoded(harmonics(16_000, 1.0))


def breaking(embedder: Embedder, broken) -> TestClient:
    """A client of an app whose model works at the start and never again: from then on it is `broken`."""
    networks = iter([embedder.runtime])
    return client_of(with_network(embedder, lambda windows: next(networks, broken)(windows)))


@pytest.fixture(scope="module")
def client(embedder) -> TestClient:
    return client_of(embedder)


@pytest.fixture(scope="module")
def locked(embedder) -> TestClient:
    """A client of an app that wants a key."""
    return TestClient(create_app(Pipeline(embedder, Limits()), ApiKeys(KEYS)))


def samples(metrics: str) -> dict[str, float]:
    """Prometheus's text -> value by name with labels."""
    lines = (line.rsplit(" ", 1) for line in metrics.splitlines() if not line.startswith("#"))
    return {name: float(value) for name, value in lines}


def test_the_health_addresses_answer(client):
    assert client.get("/healthz").json() == {"status": "ok"}
    assert client.get("/readyz").json() == {"status": "ready"}
    for address in ("/healthz", "/readyz"):  # some load balancers ask without wanting the answer
        answer = client.head(address)
        assert (answer.status_code, answer.content) == (200, b"")


def test_a_fault_of_ours_is_logged_under_an_id_and_told_without_detail(embedder, caplog):
    def broken(windows):
        raise RuntimeError("the secret path /srv/weights")

    client = breaking(embedder, broken)
    for method, address, status in (("POST", "/v1/embed", 500), ("GET", "/readyz", 503)):
        caplog.clear()
        response = client.request(method, address, content=TONE)
        assert refused(response, status).endswith(f"internal error, id {response.json()['request_id']}")
        (record,) = [record for record in caplog.records if record.exc_info]
        assert response.json()["request_id"] in record.message
        assert "secret path" in str(record.exc_info[1])
    assert client.get("/healthz").status_code == 200


@pytest.mark.parametrize("embedding", [np.nan, 0.5], ids=["nan", "another one"])
def test_a_model_that_went_wrong_is_not_ready(embedder, embedding):
    client = breaking(embedder, lambda windows: np.full((len(windows), 128), embedding, np.float32))
    refused(client.get("/readyz"), 503)
    refused(client.get("/v2/health/ready"), 503)
    if np.isnan(embedding):
        refused(client.post("/v1/embed", content=TONE), 500)


@pytest.mark.parametrize(
    "network",
    [lambda windows: np.full((len(windows), 128), np.nan, np.float32), lambda windows: windows[:, :5]],
    ids=["nan", "another size"],
)
def test_a_model_that_does_not_work_at_the_start_is_never_served(embedder, network):
    with pytest.raises(RuntimeError, match="no embedding of a test sound"):
        client_of(with_network(embedder, network))


def test_metrics_tell_requests_by_code_batches_times_and_what_serves(embedder):
    client = client_of(embedder)
    twelve = encoded(harmonics(16_000, 12.0))
    for content, status in ((TONE, 200), (twelve, 200), (b"Dear reader,", 415), (b"", 400)):
        assert client.post("/v1/embed", content=content).status_code == status
    client.get("/no/such/address")
    client.get("/v2/models/another")
    answer = client.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    got = samples(answer.text)
    for code, count in (("200", 2), ("415", 1), ("400", 1)):
        assert got[f'unheard_requests_total{{code="{code}",route="/v1/embed"}}'] == count
    assert got['unheard_requests_total{code="404",route="none"}'] == 1
    assert got['unheard_requests_total{code="404",route="/v2/models/{model}"}'] == 1
    assert got['unheard_request_seconds_count{route="/v1/embed"}'] == 4
    assert got['unheard_request_seconds_sum{route="/v1/embed"}'] > got["unheard_model_seconds_sum"] > 0
    assert got["unheard_batch_windows_sum"] == 3
    assert got["unheard_model_seconds_count"] == got["unheard_batch_windows_count"] == 2
    assert got["unheard_queue_seconds_count"] == got["unheard_decode_seconds_count"] == 2
    assert got["unheard_decode_seconds_sum"] > 0
    assert got["unheard_queued_audio_seconds"] == got["unheard_held_upload_bytes"] == 0
    if sys.platform == "linux":
        assert got["process_resident_memory_bytes"] > 10_000_000
    (info,) = [name for name in got if name.startswith("unheard_info{")]
    assert embedder.manifest.embedding_space in info
    assert embedder.backend in info


def test_a_request_keeps_the_id_that_its_client_gave_it_unless_it_is_no_id(client):
    for given in ("a", "Trace_1.2-3", "x" * 64):
        answer = client.get("/healthz", headers={"x-request-id": given})
        assert answer.headers["x-request-id"] == given
        refusal = client.post("/v1/embed", content=b"", headers={"x-request-id": given})
        refused(refusal, 400)
        assert refusal.json()["request_id"] == given
    for given in ("", "x" * 65, "a b", '{"a":1}', "ä".encode("latin-1")):
        made = client.get("/healthz", headers={"x-request-id": given}).headers["x-request-id"]
        assert re.fullmatch("[0-9a-f]{12}", made)


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("header", ["authorization", "x-api-key"])
def test_each_key_opens_in_either_header(locked, key, header):
    value = f"bearer {key}" if header == "authorization" else key
    answer = locked.post("/v1/embed", content=TONE, headers={header: value})
    assert answer.status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"authorization": f"Bearer {KEYS[0][:-1]}"},
        {"authorization": f"Bearer {KEYS[0]}x"},
        {"authorization": KEYS[0]},
        {"authorization": f"Basic {KEYS[0]}"},
        {"authorization": "Bearer "},
        {"x-api-key": ""},
        {"x-api-key": "\xff" * 30},
    ],
    ids=["none", "shorter", "longer", "no scheme", "another scheme", "empty bearer", "empty", "not ASCII"],
)
def test_without_a_key_nothing_but_health_and_docs_is_answered(locked, headers):
    raw = {name: value.encode("latin-1") for name, value in headers.items()}
    for method, address in (
        ("POST", "/v1/embed"),
        ("POST", "/v1/classify"),
        ("GET", "/v1/model"),
        ("GET", "/metrics"),
        ("GET", "/v2"),
        ("POST", "/v2/models/bundle/infer"),
        ("GET", "/nothing"),
    ):
        answer = locked.request(method, address, headers=raw)
        assert "no valid API key" in refused(answer, 401)
        assert answer.headers["www-authenticate"] == "Bearer"
    for address in ("/healthz", "/readyz", "/v2/health/live", "/v2/health/ready", "/docs", "/openapi.json"):
        assert locked.get(address, headers=raw).status_code == 200


def test_a_key_file_holds_a_key_a_line_and_comments(tmp_path):
    path = tmp_path / "keys"
    path.write_text(f"# for the phone\n{KEYS[0]}\n\n  {KEYS[1]}  \n")
    keys = ApiKeys.read(path)
    assert all(map(keys.find, KEYS))
    assert not any(map(keys.find, ("# for the phone", "", "third-key-of-some-length", KEYS[0].upper())))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "cannot be read (No such file"),
        (b"", "has no key"),
        (b"# nothing\n\n", "has no key"),
        (f"{KEYS[0]}\n{KEYS[0][:15]}\n".encode(), "line 2: not a key; wanted at least 16"),
        (b"a key that has spaces in it\n", "line 1: not a key"),
        ("ключ-из-многих-букв\n".encode(), "line 1: not a key"),
        (b"\xff\xfe" * 20, "cannot be read (not UTF-8)"),
    ],
)
def test_a_key_file_that_is_none_is_refused(tmp_path, content, words):
    path = tmp_path / "keys"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UsageError) as error:
        ApiKeys.read(path)
    assert words in str(error.value)
    assert KEYS[0][:15] not in str(error.value)


def test_no_page_from_elsewhere_may_ask_unless_it_is_allowed(embedder, client):
    origin = {"origin": "https://example.org"}
    preflight = origin | {"access-control-request-method": "POST", "access-control-request-headers": "authorization"}
    assert "access-control-allow-origin" not in client.get("/healthz", headers=origin).headers
    refused(client.options("/v1/embed", headers=preflight), 405)
    allowed = TestClient(create_app(Pipeline(embedder, Limits()), ApiKeys(KEYS), ["https://example.org"]))
    answer = allowed.options("/v1/embed", headers=preflight)
    assert answer.status_code == 200
    assert answer.headers["access-control-allow-origin"] == "https://example.org"
    refusal = allowed.post("/v1/embed", headers=origin)
    refused(refusal, 401)  # and the page may read why
    assert refusal.headers["access-control-allow-origin"] == "https://example.org"
    assert "x-request-id" in refusal.headers["access-control-expose-headers"].lower()
    other = allowed.get("/healthz", headers={"origin": "https://elsewhere.org"})
    assert "access-control-allow-origin" not in other.headers


def test_the_description_tells_every_address_with_examples_and_failures(client):
    description = client.get("/openapi.json").json()
    paths = description["paths"]
    assert {"/v1/embed", "/v1/classify", "/v1/model", "/healthz", "/readyz", "/metrics", "/v2"} <= set(paths)
    for address in ("/v1/embed", "/v1/classify"):
        post = paths[address]["post"]
        assert set(post["requestBody"]["content"]) == {"application/octet-stream", "multipart/form-data"}
        assert {"200", "400", "401", "408", "413", "415", "422", "429", "500", "503"} <= set(post["responses"])
    assert "application/octet-stream" in paths["/v1/embed"]["post"]["responses"]["200"]["content"]
    example = paths["/v2/models/{model}/infer"]["post"]["requestBody"]["content"]["application/json"]["example"]
    assert example["inputs"][0]["name"] == "waveform"


def test_docs_show_all_addresses_and_fetch_nothing_from_anywhere(client):
    answer = client.get("/docs")
    assert answer.headers["content-type"].startswith("text/html")
    assert answer.headers["content-security-policy"].startswith("default-src 'none'")
    for path in client.get("/openapi.json").json()["paths"]:
        assert f"</span> {path}</h2>" in answer.text
    assert "curl --data-binary @dog.ogg http://127.0.0.1:8000/v1/embed" in answer.text
    assert '"embedding_space": "c5bcdf06b371a5a6..."' in answer.text.replace("&quot;", '"')
    assert '"decode": 1.9' in answer.text.replace("&quot;", '"')
    assert "`" not in answer.text
    assert not re.findall(r"<(?:script|link|img|iframe)|\bsrc=|@import|url\(", answer.text)
    assert set(re.findall(r'(?:href|action)="([^"]*)"', answer.text)) == {
        "openapi.json",
        "v1/embed",
        "v1/classify",
        "v1/search",
    }


def test_docs_of_a_server_with_keys_show_where_the_key_goes_and_no_form(locked):
    page = locked.get("/docs").text
    assert "Authorization: Bearer KEY" in page
    assert "<form" not in page


def test_every_line_of_the_log_is_json_with_the_request_id_and_never_the_sound(bundle_folder, tmp_path):
    with running(bundle_folder, tmp_path / "log") as server:
        headers = {"x-request-id": "mine-1"}
        answer = httpx.post(f"{server.address}/v1/embed?windows=true", content=TONE, headers=headers, timeout=60)
        assert answer.status_code == 200
        refusal = httpx.post(f"{server.address}/v1/embed", content=b"Dear reader,", timeout=60)
        httpx.get(f"{server.address}/healthz", timeout=60)
        server.process.terminate()
        assert server.process.wait(30) == 0
        lines = server.log()
    first, *requests = lines
    assert (first["event"], first["address"]) == ("serving", server.address)
    assert all({"event", "level", "logger", "timestamp"} <= set(line) for line in lines)
    assert [(line["method"], line["path"], line["status"]) for line in requests] == [
        ("POST", "/v1/embed", 200),
        ("POST", "/v1/embed", 415),
        ("GET", "/healthz", 200),
    ]
    assert requests[0]["request_id"] == "mine-1"
    assert requests[1]["request_id"] == refusal.json()["request_id"]
    assert requests[0]["received_bytes"] == len(TONE)
    assert requests[0]["audio_s"] == 1.0
    assert requests[0]["ms"] > 0
    assert max(len(json.dumps(line)) for line in lines) < 500


def test_the_log_level_silences_requests_but_not_faults(bundle_folder, tmp_path):
    with running(bundle_folder, tmp_path / "log", "--log-level", "warning") as server:
        assert httpx.post(f"{server.address}/v1/embed", content=TONE, timeout=60).status_code == 200
        server.process.terminate()
        assert server.process.wait(30) == 0
        assert server.log() == []
