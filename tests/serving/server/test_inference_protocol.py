"""The Open Inference Protocol: NVIDIA's own client works unchanged, and what does not fit is refused in its words."""

import gzip
import json
from collections.abc import Iterator
from functools import reduce
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient

from serving.server.api_keys import ApiKeys
from serving.server.app import create_app
from serving.server.limits import Limits
from serving.server.pipeline import Pipeline
from tests.servers import Server, client_of, refused, running
from tests.sounds import encoded, harmonics

SAMPLES = 77_040
MODEL = "bundle"  # the name of the bundle's folder
INFER = f"/v2/models/{MODEL}/infer"


@pytest.fixture(scope="module")
def triton() -> Any:
    """NVIDIA's client."""
    return pytest.importorskip("tritonclient.http", reason="tritonclient[http] is not installed")


@pytest.fixture(scope="module")
def server(bundle_folder, tmp_path_factory) -> Iterator[Server]:
    with running(bundle_folder, tmp_path_factory.mktemp("server") / "log", "--max-seconds", "60") as server:
        yield server


@pytest.fixture(scope="module")
def client(triton, server) -> Iterator[Any]:
    with triton.InferenceServerClient(server.address.removeprefix("http://"), concurrency=4) as client:
        yield client


@pytest.fixture(scope="module")
def http(embedder) -> TestClient:
    return client_of(embedder, max_seconds=60)


@pytest.fixture(scope="module")
def waveform() -> np.ndarray:
    """Three windows that differ: [3, SAMPLES] float32."""
    rng = np.random.default_rng(0)
    return (0.1 * rng.standard_normal((3, SAMPLES)) * [[0.1], [1.0], [3.0]]).astype(np.float32)


def asked(triton: Any, waveform: np.ndarray, binary: bool) -> Any:
    tensor = triton.InferInput("waveform", list(waveform.shape), "FP32")
    return tensor.set_data_from_numpy(waveform, binary_data=binary)


def test_the_server_and_its_model_are_live_ready_and_described(client, embedder):
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready(MODEL)
    assert client.is_model_ready(MODEL, "1")
    assert not client.is_model_ready("another")
    assert not client.is_model_ready(MODEL, "2")
    assert "binary_tensor_data" in client.get_server_metadata()["extensions"]
    for version in ("", "1"):
        told = client.get_model_metadata(MODEL, version)
        assert (told["name"], told["versions"]) == (MODEL, ["1"])
        assert told["inputs"] == [{"name": "waveform", "datatype": "FP32", "shape": [-1, SAMPLES]}]
        assert told["outputs"] == [{"name": "embedding", "datatype": "FP32", "shape": [-1, 128]}]
        assert told["parameters"]["embedding_space"] == embedder.manifest.embedding_space


@pytest.mark.parametrize("packing", [None, "gzip", "deflate"])
@pytest.mark.parametrize("binary_out", [True, False, None], ids=["binary out", "json out", "default out"])
@pytest.mark.parametrize("binary_in", [True, False], ids=["binary in", "json in"])
def test_the_clients_embeddings_are_those_of_python(triton, client, embedder, waveform, binary_in, binary_out, packing):
    outputs = None if binary_out is None else [triton.InferRequestedOutput("embedding", binary_data=binary_out)]
    result = client.infer(
        MODEL,
        [asked(triton, waveform, binary_in)],
        outputs=outputs,
        request_id="mine-7",
        request_compression_algorithm=packing,
        response_compression_algorithm=packing,
    )
    got = result.as_numpy("embedding")
    assert (got.shape, got.dtype) == ((3, 128), np.float32)
    np.testing.assert_allclose(got, embedder.run(waveform), rtol=0, atol=1e-5)
    told = result.get_response()
    assert (told["model_name"], told["model_version"], told["id"]) == (MODEL, "1", "mine-7")
    assert ("data" in told["outputs"][0]) == (binary_out is False)


def test_many_at_once_each_get_their_own_rows(triton, client, embedder, waveform):
    expected = embedder.run(waveform)
    waiting = [
        client.async_infer(MODEL, [asked(triton, waveform[[i % 3]], True)], model_version="1") for i in range(24)
    ]
    for i, request in enumerate(waiting):
        got = request.get_result().as_numpy("embedding")
        np.testing.assert_allclose(got, expected[[i % 3]], rtol=0, atol=1e-5)


def test_a_window_and_the_same_sound_as_a_file_embed_alike(triton, client, http):
    sound = harmonics(16_000, SAMPLES / 16_000)
    result = client.infer(MODEL, [asked(triton, sound[None], True)])
    told = http.post("/v1/embed", content=encoded(sound, subtype="FLOAT")).json()["embedding"]
    np.testing.assert_allclose(result.as_numpy("embedding")[0], told, rtol=0, atol=1e-5)


def test_the_client_raises_the_servers_words(triton, client, waveform):
    from tritonclient.utils import InferenceServerException

    short = np.zeros((1, 100), np.float32)
    wrong_name = triton.InferInput("audio", [1, SAMPLES], "FP32").set_data_from_numpy(waveform[:1])
    double = triton.InferInput("waveform", [1, SAMPLES], "FP64").set_data_from_numpy(waveform[:1].astype(float))
    scores = [triton.InferRequestedOutput("scores")]
    classes = [triton.InferRequestedOutput("embedding", class_count=3)]
    elsewhere = triton.InferInput("waveform", [1, SAMPLES], "FP32")
    elsewhere.set_shared_memory("region", 4 * SAMPLES)
    good = asked(triton, waveform[:1], True)
    for model, inputs, outputs, status, words in (
        (MODEL, [asked(triton, short, True)], None, 400, f"got shape [1, 100]; wanted [windows, {SAMPLES}]"),
        (MODEL, [asked(triton, short, False)], None, 400, "got shape [1, 100]"),
        (MODEL, [wrong_name], None, 400, "inputs: got audio; wanted waveform"),
        (MODEL, [good, good], None, 400, "inputs: got waveform, waveform"),
        (MODEL, [double], None, 400, "got datatype FP64; wanted FP32"),
        (MODEL, [good], scores, 400, "outputs: got scores; wanted embedding"),
        (MODEL, [good], classes, 400, "classification is not offered"),
        (MODEL, [elsewhere], None, 400, "shared memory is not offered"),
        ("another", [good], None, 404, f"got another version 1; this server has {MODEL} version 1"),
        (MODEL, [asked(triton, waveform * np.nan, True)], None, 400, "are NaN or infinite"),
        (MODEL, [asked(triton, waveform * 1e4, True)], None, 400, "divide integers by their full scale"),
        (MODEL, [asked(triton, np.tile(waveform, (5, 1)), True)], None, 413, "got 72.225 s; wanted at most 60"),
    ):
        with pytest.raises(InferenceServerException) as error:
            client.infer(model, inputs, outputs=outputs)
        assert words in error.value.message()
        assert error.value.status() == str(status)


def test_the_client_brings_its_key_in_a_header(embedder, http, waveform):
    locked = TestClient(create_app(Pipeline(embedder, Limits()), ApiKeys(["a-key-of-some-length"])))
    body = {"inputs": [{"name": "waveform", "datatype": "FP32", "shape": [1, SAMPLES], "data": waveform[0].tolist()}]}
    assert "no valid API key" in refused(locked.post(INFER, json=body), 401)
    assert locked.get("/v2/health/live").status_code == locked.get("/v2/health/ready").status_code == 200
    key = {"authorization": "Bearer a-key-of-some-length"}
    assert locked.post(INFER, json=body, headers=key).json() == http.post(INFER, json=body).json()


def test_rows_may_be_nested_lists_and_whole_numbers(http, embedder):
    windows = np.zeros((2, SAMPLES), np.float32)
    windows[0, ::7] = 1
    data = [[int(value) for value in row] for row in windows]
    body = {"inputs": [{"name": "waveform", "datatype": "FP32", "shape": [2, SAMPLES], "data": data}]}
    (output,) = http.post(INFER, json=body).json()["outputs"]
    got = np.array(output["data"], np.float32).reshape(output["shape"])
    np.testing.assert_allclose(got, embedder.run(windows), rtol=0, atol=1e-5)


TENSOR = {"name": "waveform", "datatype": "FP32", "shape": [1, SAMPLES]}


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "JSON cannot be read"),
        (b"\xff\xfe", "JSON cannot be read"),
        (b"[" * 100_000, "JSON cannot be read"),
        (b"[]", "inputs: got None; wanted a list there"),
        (b"{}", "inputs: got None"),
        ({"inputs": []}, "inputs: got none; wanted waveform"),
        ({"inputs": ["waveform"]}, "name: got None"),
        ({"inputs": [{}]}, "name: got None"),
        ({"inputs": [{"name": "waveform"}]}, "shape: got None"),
        ({"inputs": [TENSOR]}, "data: got None; wanted a list there"),
        ({"inputs": [TENSOR | {"shape": "1"}]}, "shape: got 1"),
        ({"inputs": [TENSOR | {"shape": [0, SAMPLES]}]}, f"got shape [0, {SAMPLES}]"),
        ({"inputs": [TENSOR | {"shape": [-1, SAMPLES]}]}, f"got shape [-1, {SAMPLES}]"),
        ({"inputs": [TENSOR | {"shape": [True, SAMPLES]}]}, f"got shape [True, {SAMPLES}]"),
        ({"inputs": [TENSOR | {"shape": [1.0, SAMPLES]}]}, "got shape [1.0"),
        ({"inputs": [TENSOR | {"shape": [1, float(SAMPLES)], "data": SAMPLES * [0.5]}]}, f"got shape [1, {SAMPLES}.0]"),
        ({"inputs": [TENSOR | {"shape": [1, -SAMPLES]}]}, f"got shape [1, -{SAMPLES}]"),
        ({"inputs": [TENSOR | {"shape": [1, 10**30]}]}, "got shape [1, 1000000000"),
        ({"inputs": [TENSOR | {"shape": [1, [SAMPLES]]}]}, f"got shape [1, [{SAMPLES}]]"),
        ({"inputs": [TENSOR | {"shape": [SAMPLES]}]}, f"got shape [{SAMPLES}]"),
        ({"inputs": [TENSOR | {"shape": [10**30, SAMPLES], "data": [0.0]}]}, "got shape [1000000000"),
        ({"inputs": [TENSOR | {"shape": [10**4250, SAMPLES]}]}, "got shape [1000000000"),
        ({"inputs": [TENSOR | {"name": "\ud800"}]}, "got \\ud800; wanted waveform"),
        ({"inputs": [TENSOR | {"data": [0.0] * 99}]}, f"got data of 99 float64; wanted {SAMPLES} numbers"),
        ({"inputs": [TENSOR | {"data": ["0"] * SAMPLES}]}, f"got str in its data; wanted {SAMPLES} numbers"),
        ({"inputs": [TENSOR | {"data": [None] * SAMPLES}]}, f"got NoneType in its data; wanted {SAMPLES} numbers"),
        ({"inputs": [TENSOR | {"data": [True] * SAMPLES}]}, f"got bool in its data; wanted {SAMPLES} numbers"),
        ({"inputs": [TENSOR | {"data": [[0.0], [0.0, 1.0]]}]}, "no array of numbers"),
        ({"inputs": [TENSOR | {"data": reduce(lambda inner, _: [inner], range(700), [0.0])}]}, "no array of numbers"),
        ({"inputs": [TENSOR | {"data": [10**400, *[0] * (SAMPLES - 1)]}]}, "beyond the range of floats"),
        ({"inputs": [TENSOR | {"data": ["x" * 10**6, *[0] * (SAMPLES - 1)]}]}, "got str in its data"),
        ({"inputs": [TENSOR | {"data": [1e300] * SAMPLES}]}, "are NaN or infinite"),
        ({"inputs": [TENSOR | {"data": [float("nan")] * SAMPLES}]}, "are NaN or infinite"),
        ({"inputs": [TENSOR | {"parameters": {"binary_data_size": 4 * SAMPLES}}]}, "and 0 bytes after the JSON"),
        ({"inputs": [TENSOR | {"parameters": {"binary_data_size": "x"}}]}, "got binary_data_size x"),
        ({"inputs": [TENSOR | {"parameters": []}]}, "parameters: got []"),
        ({"inputs": [TENSOR | {"data": [0.0] * SAMPLES}], "outputs": {}}, None),
        ({"inputs": [TENSOR | {"data": [0.0] * SAMPLES}], "outputs": [3]}, "name: got None"),
        ({"inputs": [TENSOR | {"data": [0.0] * SAMPLES}], "parameters": 3}, "parameters: got 3"),
    ],
)
def test_a_request_that_is_none_is_refused_with_what_is_wrong(http, body, words):
    answer = http.post(INFER, content=body if isinstance(body, bytes) else json.dumps(body))
    if words is None:
        assert answer.status_code == 200
    else:
        assert words in refused(answer, 400)


@pytest.mark.parametrize("length", ["-1", "1e3", "x", "", "99999999", "²"])
def test_a_wrong_length_of_the_json_is_refused(http, length):
    answer = http.post(INFER, content=b"{}", headers={"inference-header-content-length": length.encode()})
    assert "inference-header-content-length: got" in refused(answer, 400)


def test_bytes_that_do_not_fill_the_tensor_are_refused(http, waveform):
    size = 4 * SAMPLES
    for said, sent in ((size, size - 4), (size, size + 4), (size - 4, size - 4), (0, 0)):
        head = json.dumps({"inputs": [TENSOR | {"parameters": {"binary_data_size": said}}]}).encode()
        answer = http.post(
            INFER,
            content=head + waveform[:2].tobytes()[:sent],
            headers={"inference-header-content-length": str(len(head))},
        )
        assert f"got binary_data_size {said} and {sent} bytes after the JSON; wanted {size}" in refused(answer, 400)


def test_a_packed_request_stops_at_the_limit_of_uploads(embedder):
    small = client_of(embedder, max_upload_mb=0.1)
    bomb = gzip.compress(bytes(50_000_000))
    answer = small.post(INFER, content=bomb, headers={"content-encoding": "gzip"})
    assert "larger than 0.1 MB" in refused(answer, 413)
