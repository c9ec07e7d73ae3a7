"""The Open Inference Protocol over gRPC: NVIDIA's own client works unchanged, and hostile messages harm nobody."""

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
from typing import Any

import httpx
import numpy as np
import pytest

from demo.bundle_choice import FROM_SCRATCH
from serving.embedder import Embedder
from serving.extras import pip_install
from tests.absent_packages import environment_without
from tests.bundle_copies import copy_bundle
from tests.servers import Server, running
from tests.serving.server.sockets import watched_health
from tests.sounds import encoded, harmonics

grpc = pytest.importorskip("grpc", reason="grpcio is not installed")
triton = pytest.importorskip("tritonclient.grpc", reason="tritonclient[grpc] is not installed")
from tritonclient.grpc import service_pb2 as schema  # noqa: E402
from tritonclient.utils import InferenceServerException  # noqa: E402

BUNDLE, MODEL, SAMPLES = FROM_SCRATCH, FROM_SCRATCH.name, 77_040
KEY = "a-key-of-a-grpc-client"
SERVICE = "/inference.GRPCInferenceService/"


@pytest.fixture(scope="module")
def embedder() -> Embedder:
    return Embedder.load(BUNDLE)


@pytest.fixture(scope="module")
def server(tmp_path_factory) -> Iterator[Server]:
    log = tmp_path_factory.mktemp("server") / "log"
    flags = "--grpc-port 0 --max-seconds 60 --max-upload-mb 12 --max-held-mb 12 --request-timeout-s 10"
    with running(BUNDLE, log, *flags.split()) as server:
        yield server


@pytest.fixture
def client(server) -> Iterator[Any]:
    with triton.InferenceServerClient(server.grpc_address) as client:
        yield client


@pytest.fixture(scope="module")
def waveform() -> np.ndarray:
    """Three windows that differ: [3, SAMPLES] float32."""
    rng = np.random.default_rng(0)
    return (0.1 * rng.standard_normal((3, SAMPLES)) * [[0.1], [1.0], [3.0]]).astype(np.float32)


def asked(waveform: np.ndarray, name: str = "waveform", datatype: str = "FP32") -> Any:
    return triton.InferInput(name, list(waveform.shape), datatype).set_data_from_numpy(waveform)


def request_of(waveform: np.ndarray, **fields: Any) -> Any:
    """A ModelInferRequest with typed contents."""
    tensor = schema.ModelInferRequest.InferInputTensor(name="waveform", datatype="FP32", shape=list(waveform.shape))
    tensor.contents.fp32_contents.extend(waveform.ravel().tolist())
    return schema.ModelInferRequest(model_name=MODEL, inputs=[tensor], **fields)


def infer_bytes(server: Server, content: bytes, compression: Any = None) -> schema.ModelInferResponse:
    """Call ModelInfer with these bytes."""
    with grpc.insecure_channel(server.grpc_address) as channel:
        call = channel.unary_unary(f"{SERVICE}ModelInfer", response_deserializer=schema.ModelInferResponse.FromString)
        return call(content, timeout=30, compression=compression)


def memory_mb(server: Server) -> float:
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) / 1000


def test_the_server_and_its_model_are_live_ready_and_described(client, embedder):
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready(MODEL)
    assert client.is_model_ready(MODEL, "1")
    assert client.get_server_metadata().name == "unheard"
    for version in ("", "1"):
        told = client.get_model_metadata(MODEL, version, as_json=True)
        assert (told["name"], told["versions"]) == (MODEL, ["1"])
        assert told["inputs"] == [{"name": "waveform", "datatype": "FP32", "shape": ["-1", str(SAMPLES)]}]
        assert told["outputs"] == [{"name": "embedding", "datatype": "FP32", "shape": ["-1", "128"]}]
    for model, version in (("another", ""), (MODEL, "2")):
        for ask in (client.is_model_ready, client.get_model_metadata):
            with pytest.raises(InferenceServerException) as error:
                ask(model, version)
            assert error.value.status() == "StatusCode.NOT_FOUND"


def test_the_clients_embeddings_are_those_of_python(client, embedder, waveform):
    result = client.infer(MODEL, [asked(waveform)], request_id="mine-7")
    got = result.as_numpy("embedding")
    assert (got.shape, got.dtype) == ((3, 128), np.float32)
    np.testing.assert_allclose(got, embedder.run(waveform), rtol=0, atol=1e-5)
    told = result.get_response()
    assert (told.model_name, told.model_version, told.id) == (MODEL, "1", "mine-7")
    outputs = [triton.InferRequestedOutput("embedding")]
    again = client.infer(MODEL, [asked(waveform)], model_version="1", outputs=outputs, priority=3, timeout=1000)
    np.testing.assert_array_equal(again.as_numpy("embedding"), got)


def test_typed_contents_are_answered_with_typed_contents(server, embedder, waveform):
    answer = infer_bytes(server, request_of(waveform, id="typed").SerializeToString())
    (output,) = answer.outputs
    assert not answer.raw_output_contents
    assert (answer.id, output.name, output.datatype, list(output.shape)) == ("typed", "embedding", "FP32", [3, 128])
    got = np.array(output.contents.fp32_contents, np.float32).reshape(3, 128)
    np.testing.assert_allclose(got, embedder.run(waveform), rtol=0, atol=1e-5)


def test_many_at_once_each_get_their_own_rows(client, embedder, waveform):
    expected = embedder.run(waveform)
    with ThreadPoolExecutor(3) as threads:  # as many as may arrive at a time
        got = list(
            threads.map(lambda i: client.infer(MODEL, [asked(waveform[[i % 3]])]).as_numpy("embedding"), range(24))
        )
    for i, rows in enumerate(got):
        np.testing.assert_allclose(rows, expected[[i % 3]], rtol=0, atol=1e-5)


def test_the_client_raises_the_servers_words(client, waveform):
    one = waveform[:1]
    elsewhere = triton.InferInput("waveform", [1, SAMPLES], "FP32")
    elsewhere.set_shared_memory("region", 4 * SAMPLES)
    classes = [triton.InferRequestedOutput("embedding", class_count=3)]
    invalid, not_found = "StatusCode.INVALID_ARGUMENT", "StatusCode.NOT_FOUND"
    for model, inputs, outputs, status, words in (
        (
            MODEL,
            [asked(np.zeros((1, 100), np.float32))],
            None,
            invalid,
            f"got shape [1, 100]; wanted [windows, {SAMPLES}]",
        ),
        (MODEL, [asked(one, "audio")], None, invalid, "inputs: got audio; wanted waveform"),
        (MODEL, [asked(one), asked(one)], None, invalid, "inputs: got waveform, waveform"),
        (MODEL, [asked(one.astype(float), datatype="FP64")], None, invalid, "got datatype FP64; wanted FP32"),
        (MODEL, [asked(one)], [triton.InferRequestedOutput("scores")], invalid, "outputs: got scores"),
        (MODEL, [asked(one)], classes, invalid, "classification is not offered"),
        (MODEL, [elsewhere], None, invalid, "shared memory is not offered"),
        ("another", [asked(one)], None, not_found, f"got another version 1; this server has {MODEL} version 1"),
        (MODEL, [asked(waveform * np.nan)], None, invalid, "are NaN or infinite"),
        (MODEL, [asked(waveform * 1e4)], None, invalid, "divide integers by their full scale"),
        (MODEL, [asked(np.tile(one, (13, 1)))], None, "StatusCode.RESOURCE_EXHAUSTED", "larger than max"),
    ):
        with pytest.raises(InferenceServerException) as error:
            client.infer(model, inputs, outputs=outputs)
        assert words in error.value.message()
        assert error.value.status() == status


def test_what_the_protocol_does_not_have_here_is_unimplemented(client):
    with pytest.raises(InferenceServerException) as error:
        client.get_model_repository_index()
    assert error.value.status() == "StatusCode.UNIMPLEMENTED"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "inputs: got none; wanted waveform"),
        (b"\xff" * 20, "is no message of the protocol"),
        (b"\x2a\x7f", "is no message of the protocol"),
        (b"\x08\x01", "is no field of the protocol"),
        (b"\x0a\x02\xff\xff", "not UTF-8"),
        (schema.ModelInferRequest(model_name="x" * 2000).SerializeToString(), "got text of 2000 bytes"),
        (b"\x2a\x00" * 1_000_000, "more than 1000 fields"),
        (schema.ModelInferRequest(raw_input_contents=[b""] * 5000).SerializeToString(), "more than 1000 fields"),
        (request_of(np.zeros((1, 4))).SerializeToString(), "got shape [1, 4]"),
    ],
    ids=["empty", "no message", "cut", "number", "bytes for text", "long", "inputs", "tensors", "shape"],
)  # fmt: skip
def test_bytes_that_are_no_request_are_refused_with_what_is_wrong(server, content, words):
    with pytest.raises(grpc.RpcError) as error:
        infer_bytes(server, content)
    assert error.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert words in error.value.details()


def test_values_that_do_not_fill_the_tensor_are_refused(server, waveform):
    both = request_of(waveform[:1], raw_input_contents=[waveform[0].tobytes()])
    short = request_of(waveform[:1])
    del short.inputs[0].contents.fp32_contents[5:]
    doubles = request_of(waveform[:1])
    doubles.inputs[0].contents.fp64_contents.append(1.0)
    two = request_of(waveform[:1], raw_input_contents=[b"", b""])
    two.inputs[0].ClearField("contents")
    for request, words in (
        (both, "wanted one of them"),
        (short, f"got 20 bytes of values; wanted {4 * SAMPLES}"),
        (doubles, "got contents of another type"),
        (two, "got 2 tensors"),
    ):
        with pytest.raises(grpc.RpcError) as error:
            infer_bytes(server, request.SerializeToString())
        assert words in error.value.details()


def test_a_packed_message_is_not_unpacked(server):
    """3 MB of zeros are 3 kB: unpacked without a bound, a message at the limit would fill the memory."""
    before = memory_mb(server)
    with pytest.raises(grpc.RpcError) as error:
        infer_bytes(server, bytes(3_000_000), grpc.Compression.Gzip)
    assert error.value.code() == grpc.StatusCode.UNIMPLEMENTED
    assert memory_mb(server) < before + 10


def test_millions_of_empty_messages_take_no_memory_and_do_not_stop_the_server(server):
    """Read into objects, the first of them took 133 MB. gRPC may keep nine received messages of 3 MB and a copy."""
    before = memory_mb(server)
    with watched_health(server) as health:
        for content in (b"\x2a\x00", b"\x3a\x00", b"\x2a\x02\x2a\x00"):
            for _ in range(3):
                with pytest.raises(grpc.RpcError):
                    infer_bytes(server, content * (3_000_000 // len(content)))
        time.sleep(0.2)
    health.assert_fast()
    assert memory_mb(server) < before + 60


def test_slow_senders_do_not_keep_a_quick_one_out(server, client, waveform):
    """Two messages may arrive at a time here: 12 MB of them are held at most, and each may have 3.9 MB."""
    go_on = threading.Event()

    def slowly() -> Iterator[bytes]:
        go_on.wait(60)
        yield b""

    with grpc.insecure_channel(server.grpc_address) as channel:
        call = channel.stream_unary(f"{SERVICE}ModelInfer")
        slow = [call.future(slowly(), timeout=60) for _ in range(3)]
        time.sleep(1.5)
        for _ in range(4):
            client.infer(MODEL, [asked(waveform[:1])])
        ended = [each for each in slow if each.done()]
        assert len(ended) == 1
        assert ended[0].code() == grpc.StatusCode.RESOURCE_EXHAUSTED
        assert "this one was the slowest" in ended[0].details()
        assert ("retry-after", "1") in [tuple(pair) for pair in ended[0].trailing_metadata()]
        rest = [each.exception(timeout=30) for each in slow if each not in ended]
        go_on.set()
    assert {error.code() for error in rest} == {grpc.StatusCode.DEADLINE_EXCEEDED}  # --request-timeout-s is 10
    assert "the upload took longer than 10 s" in rest[0].details()


def test_connections_are_bounded_and_free_places_are_used_again(tmp_path):
    flags = ["--grpc-port", "0", "--max-connections", "20"]
    with running(BUNDLE, tmp_path / "log", *flags) as server:
        port = int(server.grpc_address.rpartition(":")[2])
        before = len(list(Path(f"/proc/{server.process.pid}/fd").iterdir()))
        idle = [socket.create_connection(("127.0.0.1", port)) for _ in range(60)]
        time.sleep(0.5)
        assert len(list(Path(f"/proc/{server.process.pid}/fd").iterdir())) <= before + 20 + 5
        for connection in idle:
            connection.close()
        with grpc.insecure_channel(server.grpc_address) as channel:
            call = channel.unary_unary(
                f"{SERVICE}ServerLive", response_deserializer=schema.ServerLiveResponse.FromString
            )
            assert call(b"", timeout=30, wait_for_ready=True).live


def test_a_full_queue_refuses_grpc_and_http_alike(tmp_path, waveform):
    with running(BUNDLE, tmp_path / "log", "--grpc-port", "0", "--max-queue-seconds", "1") as server:
        statuses: list[str] = []

        def ask(_: int) -> None:
            with triton.InferenceServerClient(server.grpc_address) as client:
                try:
                    client.infer(MODEL, [asked(np.tile(waveform, (10, 1)))])
                    statuses.append("OK")
                except InferenceServerException as error:
                    statuses.append(str(error.status()))

        with ThreadPoolExecutor(8) as threads:
            list(threads.map(ask, range(24)))
        assert set(statuses) == {"OK", "StatusCode.RESOURCE_EXHAUSTED"}
        assert httpx.post(f"{server.address}/v1/embed", content=encoded(harmonics(16_000, 1.0))).status_code == 200
        lines = httpx.get(f"{server.address}/metrics").text.splitlines()
        route = f'route="{SERVICE}ModelInfer"'
        assert f'unheard_requests_total{{code="200",{route}}} {statuses.count("OK")}.0' in lines
        assert f'unheard_requests_total{{code="429",{route}}} {24 - statuses.count("OK")}.0' in lines
        assert "unheard_queued_audio_seconds 0.0" in lines
        assert "unheard_held_upload_bytes 0.0" in lines


def test_the_key_the_request_id_and_the_trace_are_in_the_metadata(tmp_path, waveform):
    keys = tmp_path / "keys"
    keys.write_text(f"{KEY} name=phone\n")
    trace, parent = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
    flags = ["--grpc-port", "0", "--api-key-file", str(keys)]
    with running(BUNDLE, tmp_path / "log", *flags) as server:
        with triton.InferenceServerClient(server.grpc_address) as client:
            assert client.is_server_live()
            assert client.is_server_ready()
            for headers in (None, {"authorization": "Bearer another-key-of-a-client"}):
                with pytest.raises(InferenceServerException) as error:
                    client.infer(MODEL, [asked(waveform)], headers=headers)
                assert error.value.status() == "StatusCode.UNAUTHENTICATED"
                assert "no valid API key" in error.value.message()
            client.infer(MODEL, [asked(waveform)], headers={"authorization": f"Bearer {KEY}"})
        with grpc.insecure_channel(server.grpc_address) as channel:
            metadata = [("x-api-key", KEY), ("x-request-id", "mine"), ("traceparent", f"00-{trace}-{parent}-01")]
            _, call = channel.unary_unary(f"{SERVICE}ServerMetadata").with_call(b"", metadata=metadata)
        told = dict(call.initial_metadata())
        assert told["x-request-id"] == "mine"
        assert told["traceparent"].startswith(f"00-{trace}-")
        log = server.log_until(lambda log: sum(line["event"] == "request" for line in log) == 6)
        lines = [line for line in log if line["event"] == "request"]
        assert [line.get("key") for line in lines[2:]] == [None, None, "phone", "phone"]
        assert (lines[-1]["request_id"], lines[-1]["trace_id"], lines[-1]["parent_span_id"]) == ("mine", trace, parent)
        assert {line["client"] for line in lines} == {"127.0.0.1"}


def test_sigterm_finishes_calls_under_way_and_a_reload_fails_none(tmp_path, waveform):
    folder = copy_bundle(BUNDLE, tmp_path / MODEL)
    with running(folder, tmp_path / "log", "--grpc-port", "0") as server:
        outcomes: list[str] = []
        ending = threading.Event()

        def load() -> None:
            with triton.InferenceServerClient(server.grpc_address) as client:
                while not ending.is_set():
                    rows = client.infer(MODEL, [asked(waveform)]).as_numpy("embedding")
                    outcomes.append("ok" if rows.shape == (3, 128) else "wrong")

        clients = [threading.Thread(target=load) for _ in range(3)]
        for client in clients:
            client.start()
        shutil.rmtree(folder)
        copy_bundle(BUNDLE, folder, models=["fp32"])
        server.process.send_signal(signal.SIGHUP)
        server.log_until(lambda log: any(line["event"] == "reloaded" for line in log))
        time.sleep(0.3)
        ending.set()
        for client in clients:
            client.join()
        assert set(outcomes) == {"ok"}
        answers: list[Any] = []
        with triton.InferenceServerClient(server.grpc_address) as client:
            minutes = [asked(np.tile(waveform, (20, 1)))]
            client.async_infer(MODEL, minutes, callback=lambda result, error: answers.append(error or result))
            time.sleep(0.1)
            server.process.terminate()
            assert server.process.wait(60) == 0
        assert answers[0].as_numpy("embedding").shape == (60, 128)


def test_without_grpcio_the_flag_says_how_to_get_it():
    command = [sys.executable, "-m", "serving", str(BUNDLE), "--port", "0", "--grpc-port", "0"]
    done = subprocess.run(command, env=environment_without("grpc"), capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line == f"error: --grpc-port: grpcio is not installed; get it with: {pip_install('grpc')}"


def test_a_taken_port_is_refused_with_one_line(server):
    port = server.grpc_address.rpartition(":")[2]
    command = [sys.executable, "-m", "serving", str(BUNDLE), "--port", "0", "--grpc-port", port]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert f"port {port} is in use" in done.stderr
