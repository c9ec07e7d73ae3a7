"""The server answers as the Embedder does, refuses what it cannot use in one line, and lives and dies as a process."""

import asyncio
import io
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading

import httpx
import numpy as np
import pytest
import soundfile
import soxr
from fastapi.testclient import TestClient

from serving.__main__ import main
from serving.audio import decode_audio, read_audio
from serving.embedder import Embedder, Runtime
from serving.server.app import create_app
from serving.server.limits import Limits


def harmonics(rate_hz: int, seconds: float = 5.5) -> np.ndarray:
    """A sound of 22 partials below 7 kHz that swells and fades: [n_samples] float32, the same at every rate."""
    time = np.arange(round(seconds * rate_hz)) / rate_hz
    phases = np.random.default_rng(1).uniform(0, 2 * np.pi, 22)
    partials = [np.sin(2 * np.pi * 310 * (i + 1) * time + phase) / (i + 1) for i, phase in enumerate(phases)]
    return (0.2 * (1 + np.sin(2 * np.pi * 1.5 * time)) * np.sum(partials, 0) / 2).astype(np.float32)


def encoded(wave: np.ndarray, rate_hz: int = 16_000, file_format: str = "WAV", subtype: str | None = None) -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, wave, rate_hz, format=file_format, subtype=subtype)
    return buffer.getvalue()


def likeness(first: list[float], second: list[float], embedder: Embedder) -> float:
    """Cosine of two embeddings after their mean is taken off: without that, noise is 0.9998 like any other sound."""
    a, b = np.array(first) - embedder.zeroshot.mean, np.array(second) - embedder.zeroshot.mean
    return float(a @ b / (np.linalg.norm(a) * np.linalg.norm(b)))


def with_network(embedder: Embedder, network: Runtime) -> Embedder:
    """An embedder over the same bundle with another network, [n, samples] -> [n, 128]."""
    return Embedder(embedder.bundle, network, network, embedder.zeroshot, "fake")


@pytest.fixture(scope="module")
def sketch(embedder) -> Embedder:
    """An embedder whose network is a random projection of the samples: a shift, a gain or another rate shows."""
    window = embedder.manifest.window.samples
    projection = np.random.default_rng(0).standard_normal((window, 128)).astype(np.float32)
    return with_network(embedder, lambda windows: windows @ projection)


@pytest.fixture(scope="module")
def client(embedder) -> TestClient:
    return TestClient(create_app(embedder, Limits()))


@pytest.fixture(scope="module")
def small_client(embedder) -> TestClient:
    """A server that takes 100 kB and two seconds."""
    return TestClient(create_app(embedder, Limits(max_upload_mb=0.1, max_seconds=2)))


def refused(response, status: int) -> str:
    """The message of a refusal, which must have this status and the shape of every refusal."""
    assert response.status_code == status, response.text
    body = response.json()
    assert set(body) == {"error", "request_id"}
    assert body["request_id"] == response.headers["x-request-id"]
    assert body["error"]
    assert "\n" not in body["error"]
    return body["error"]


def test_the_answer_is_the_embedding_that_python_gives_for_the_same_bytes(client, embedder):
    data = encoded(harmonics(44_100, 12.0), 44_100)
    expected = embedder.embed(*decode_audio(data))
    for answer in (client.post("/v1/embed", content=data), client.post("/v1/embed", files={"file": data})):
        assert answer.status_code == 200
        got = answer.json()
        np.testing.assert_allclose(got["embedding"], expected, rtol=0, atol=1e-6)
        assert [float(np.float32(x)) for x in got["embedding"]] == got["embedding"]
        assert got["embedding_space"] == embedder.manifest.embedding_space
        assert (got["duration_s"], got["rate_hz"], got["channels"], got["windows"]) == (12.0, 44_100, 1, None)
        assert set(got["timings_ms"]) == {"decode", "resample", "model"}
        assert min(got["timings_ms"].values()) > 0


def test_windows_come_with_their_starts_and_average_to_the_embedding(client, embedder):
    wave = harmonics(16_000, 12.0)
    got = client.post("/v1/embed?windows=true", content=encoded(wave, subtype="FLOAT")).json()
    rows = [window["embedding"] for window in got["windows"]]
    np.testing.assert_allclose(rows, embedder.embed_windows(wave, 16_000), rtol=0, atol=1e-6)
    np.testing.assert_allclose(np.mean(rows, 0), got["embedding"], rtol=0, atol=1e-6)
    assert [window["start_s"] for window in got["windows"]] == pytest.approx([0.0, 4.8, 9.6][: len(rows)])


def test_the_ranking_is_the_one_that_python_gives(client, embedder, recordings):
    path = recordings / "noise" / "0.wav"
    got = client.post("/v1/classify", content=path.read_bytes()).json()["ranking"]
    assert [(row["label"], row["score"]) for row in got] == [
        (label, pytest.approx(score, abs=1e-6)) for label, score in embedder.classify(*read_audio(path))
    ]
    assert all(row["seen"] for row in got)
    assert sum(row["score"] for row in got) == pytest.approx(1)


def test_labels_and_offset_narrow_and_shift_the_ranking(client, embedder, recordings):
    path = recordings / "tone" / "0.wav"
    for query in ("labels=noise,tone", "labels=noise,%20tone,", "labels=noise&labels=tone"):
        got = client.post(f"/v1/classify?{query}&offset=0.5", content=path.read_bytes()).json()
        expected = embedder.classify(*read_audio(path), ["noise", "tone"], 0.5)
        assert [row["label"] for row in got["ranking"]] == [label for label, _ in expected]
        assert got["offset"] == 0.5


# The most that a sketch may be off, relative to its length. Measured: 0.0001, and 0.05 for MP3 and for eight bits;
# a shift by one sample is 0.38, another rate 1.5.
LOSSLESS, LOSSY = 0.001, 0.1


@pytest.mark.parametrize(
    ("file_format", "subtype", "rate_hz", "channels", "most"),
    [
        ("WAV", "PCM_U8", 16_000, 1, LOSSY),
        ("WAV", "PCM_16", 8_000, 1, LOSSLESS),
        ("WAV", "PCM_24", 96_000, 6, LOSSLESS),
        ("WAV", "PCM_32", 44_100, 2, LOSSLESS),
        ("WAV", "FLOAT", 22_050, 1, LOSSLESS),
        ("WAV", "DOUBLE", 192_000, 1, LOSSLESS),
        ("WAV", "ALAW", 16_000, 1, LOSSY),
        ("WAV", "ULAW", 8_000, 2, LOSSY),
        ("WAVEX", "PCM_16", 48_000, 12, LOSSLESS),
        ("FLAC", "PCM_16", 44_100, 2, LOSSLESS),
        ("FLAC", "PCM_24", 96_000, 8, LOSSLESS),
        ("OGG", "VORBIS", 44_100, 2, LOSSY),
        ("OGG", "OPUS", 48_000, 1, LOSSY),
        ("MP3", "MPEG_LAYER_III", 44_100, 2, LOSSY),
        ("MP3", "MPEG_LAYER_III", 16_000, 1, LOSSY),
    ],
)
def test_every_format_rate_and_channel_count_is_heard_as_its_samples(
    sketch, file_format, subtype, rate_hz, channels, most
):
    wave = np.repeat(harmonics(rate_hz)[:, None], channels, axis=1)
    client = TestClient(create_app(sketch, Limits()))
    answer = client.post("/v1/embed", content=encoded(wave, rate_hz, file_format, subtype))
    assert answer.status_code == 200, answer.text
    got = answer.json()
    assert (got["rate_hz"], got["channels"]) == (rate_hz, channels)
    assert got["duration_s"] == pytest.approx(5.5, abs=0.05)
    expected = sketch.embed(wave, rate_hz)
    assert np.linalg.norm(got["embedding"] - expected) <= most * np.linalg.norm(expected)


def test_stereo_48k_wav_embeds_like_its_mono_16k_twin(client, embedder):
    stereo = encoded(np.repeat(harmonics(48_000)[:, None], 2, axis=1), 48_000)
    mono = encoded(harmonics(16_000))
    first, second = (client.post("/v1/embed", content=data).json()["embedding"] for data in (stereo, mono))
    assert likeness(first, second, embedder) >= 0.999
    other = client.post("/v1/embed", content=encoded(harmonics(16_000)[::2])).json()["embedding"]
    assert likeness(first, other, embedder) < 0.99


def test_real_clips_embed_alike_as_they_are_and_as_stereo_48k_flac(client, embedder, esc10):
    for path in sorted((esc10 / "audio").glob("*.*"))[::40]:
        wave, rate_hz = read_audio(path)
        twin = soxr.resample(np.repeat(wave.mean(axis=1, keepdims=True), 2, axis=1), rate_hz, 48_000, quality="VHQ")
        bodies = (path.read_bytes(), encoded(twin, 48_000, "FLAC", "PCM_24"))
        first, second = (client.post("/v1/embed", content=body).json()["embedding"] for body in bodies)
        assert likeness(first, second, embedder) >= 0.999, path.name


@pytest.mark.parametrize("wave", [np.zeros(80_000, np.float32), np.ones(1, np.float32)], ids=["silence", "one sample"])
def test_silence_and_a_single_sample_are_sound_too(client, wave):
    answer = client.post("/v1/embed", content=encoded(wave))
    assert answer.status_code == 200
    assert np.isfinite(answer.json()["embedding"]).all()
    assert client.post("/v1/classify", content=encoded(wave)).status_code == 200


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        (b"", 400, "empty"),
        (b"Dear reader,\n" * 99, 415, "not a readable audio file"),
        (encoded(harmonics(16_000), file_format="FLAC")[:20_000], 415, "not a readable audio file"),
        (encoded(harmonics(16_000))[:30], 415, "not a readable audio file"),
        (encoded(np.zeros(0, np.float32)), 422, "no samples"),
        (encoded(np.full(80_000, np.nan, np.float32), subtype="FLOAT"), 422, "80000 of 80000 samples are NaN"),
        (encoded(np.array([0, np.inf], np.float32), subtype="FLOAT"), 422, "1 of 2 samples are NaN or infinite"),
        (encoded(np.full(99, 1e30, np.float32), subtype="FLOAT"), 422, "divide integers by their full scale"),
    ],
    ids=["empty", "text", "cut flac", "cut wav header", "zero samples", "all NaN", "an infinity", "1e30"],
)
@pytest.mark.parametrize("address", ["/v1/embed", "/v1/classify"])
def test_a_body_that_is_no_sound_is_refused_with_its_cause(client, address, body, status, words):
    assert words in refused(client.post(address, content=body), status)
    if body:
        assert words in refused(client.post(address, files={"file": ("sound.wav", body)}), status)


def test_a_multipart_form_must_hold_one_file_in_the_right_field(client):
    sound = encoded(harmonics(16_000))
    assert "got the fields clip (file); wanted one file" in refused(
        client.post("/v1/embed", files={"clip": sound}), 422
    )
    text = {"file": (None, "dog.wav")}
    assert "got the fields file (text)" in refused(client.post("/v1/embed", files=text), 422)
    two = [("file", sound), ("file", sound)]
    assert "got the fields file (file), file (file)" in refused(client.post("/v1/embed", files=two), 422)
    assert "empty" in refused(client.post("/v1/embed", files={"file": ("a.wav", b"")}), 400)
    form = {"content-type": "multipart/form-data; boundary=xyz"}
    assert "not a whole multipart form" in refused(client.post("/v1/embed", content=sound, headers=form), 400)
    form = {"content-type": "multipart/form-data"}
    assert "boundary" in refused(client.post("/v1/embed", content=sound, headers=form), 400)


def test_a_form_upload_may_be_as_large_as_any_other(client):
    large = encoded(np.random.default_rng(0).uniform(-0.1, 0.1, (44_100 * 20, 2)), 44_100, subtype="PCM_24")
    assert len(large) > 5_000_000
    assert client.post("/v1/embed", files={"file": large}).status_code == 200


def test_an_upload_over_the_limit_is_refused_whether_or_not_its_length_is_said(small_client):
    data = bytes(100_001)
    words = "larger than 0.1 MB"
    assert words in refused(small_client.post("/v1/embed", content=data), 413)
    assert words in refused(small_client.post("/v1/embed", content=iter([data[:60_000], data[60_000:]])), 413)
    assert words in refused(small_client.post("/v1/embed", files={"file": data}), 413)
    assert "readable" in refused(small_client.post("/v1/embed", content=data[:100_000]), 415)


def test_a_recording_over_the_limit_is_refused_however_small_its_file(small_client):
    assert small_client.post("/v1/embed", content=encoded(harmonics(16_000, 2.0))).status_code == 200
    for body in (encoded(harmonics(16_000, 2.1)), encoded(np.zeros(16_000 * 600, np.float32), file_format="FLAC")):
        assert "lasts more than 2 s" in refused(small_client.post("/v1/embed", content=body), 413)


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("/v1/embed?windows=maybe", "windows: got 'maybe'"),
        ("/v1/embed?window=true", "window: not a parameter"),
        ("/v1/classify?labels=cow", "labels: got cow; this bundle knows clicks, noise, tone"),
        ("/v1/classify?labels=", "labels: got no label"),
        ("/v1/classify?labels=tone,tone", "labels: got tone more than once"),
        ("/v1/classify?offset=nan", "offset: got 'nan'"),
        ("/v1/classify?offset=1e300", "offset: got '1e300'"),
        ("/v1/classify?offset=a%0Ab", "offset: got"),
    ],
)
def test_a_wrong_parameter_is_named_with_what_came(client, address, words):
    assert words in refused(client.post(address, content=encoded(harmonics(16_000))), 422)


def test_a_wrong_address_or_method_says_the_way_out(client):
    assert "/docs" in refused(client.get("/v2/nothing"), 404)
    response = client.get("/v1/embed")
    assert "use POST" in refused(response, 405)
    assert response.headers["allow"] == "POST"


def test_the_model_tells_its_manifest_and_what_runs_it(client, embedder):
    got = client.get("/v1/model").json()
    assert got["network"] == "yamnet-compact"
    assert [row["label"] for row in got["classes"]] == embedder.zeroshot.class_names
    assert got["embedding_space"] == embedder.manifest.embedding_space
    assert got["window"] == {"rate_hz": 16_000, "samples": 77_040, "hop_samples": 76_800}
    assert got["scores"] == embedder.manifest.scores
    assert got["backend"] == "onnxruntime"
    assert got["providers"]
    assert {"onnxruntime", "soundfile", "soxr"} <= set(got["versions"])


def test_the_health_addresses_answer_and_the_schema_documents_the_upload(client):
    assert client.get("/healthz").json() == {"status": "ok"}
    assert client.get("/readyz").json() == {"status": "ready"}
    paths = client.get("/openapi.json").json()["paths"]
    for address in ("/v1/embed", "/v1/classify"):
        post = paths[address]["post"]
        assert set(post["requestBody"]["content"]) == {"application/octet-stream", "multipart/form-data"}
        assert {"200", "400", "413", "415", "422", "500"} <= set(post["responses"])


def test_a_fault_of_ours_is_logged_under_an_id_and_told_without_detail(embedder, caplog):
    def broken(windows):
        raise RuntimeError("the secret path /srv/weights")

    client = TestClient(create_app(with_network(embedder, broken), Limits()))
    for method, address, status in (("POST", "/v1/embed", 500), ("GET", "/readyz", 503)):
        response = client.request(method, address, content=encoded(harmonics(16_000)))
        assert refused(response, status).endswith(f"internal error, id {response.json()['request_id']}")
        record = caplog.records[-1]
        assert response.json()["request_id"] in record.message
        assert "secret path" in str(record.exc_info[1])
    assert client.get("/healthz").status_code == 200


def test_a_model_that_gives_nan_is_not_ready_and_its_embedding_is_never_sent(embedder):
    network = with_network(embedder, lambda windows: np.full((len(windows), 128), np.nan, np.float32))
    client = TestClient(create_app(network, Limits()))
    refused(client.get("/readyz"), 503)
    refused(client.post("/v1/embed", content=encoded(harmonics(16_000))), 500)


def test_other_requests_are_answered_while_the_model_works(embedder):
    working, done = threading.Event(), threading.Event()

    def slow(windows):
        working.set()
        assert done.wait(30)
        return np.zeros((len(windows), 128), np.float32)

    app = create_app(with_network(embedder, slow), Limits())

    async def talk() -> int:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
            upload = asyncio.create_task(client.post("/v1/embed", content=encoded(harmonics(16_000))))
            while not working.is_set():
                await asyncio.sleep(0.01)
            assert (await client.get("/healthz")).status_code == 200
            assert not upload.done()
            done.set()
            return (await upload).status_code

    assert asyncio.run(talk()) == 200


@pytest.mark.parametrize("ending", [signal.SIGTERM, signal.SIGINT])
def test_the_command_serves_until_a_signal_and_then_exits_with_0(bundle_folder, embedder, ending):
    command = [sys.executable, "-m", "serving", str(bundle_folder), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            ready = json.loads(process.stdout.readline())
            data = encoded(harmonics(16_000))
            answer = httpx.post(f"{ready['address']}/v1/embed", content=data, timeout=60)
            np.testing.assert_allclose(answer.json()["embedding"], embedder.embed(*decode_audio(data)), atol=1e-6)
            process.send_signal(ending)
            rest, errors = process.communicate(timeout=30)
        finally:
            process.kill()
    assert process.returncode == 0, errors
    assert rest == ""
    assert ready["address"] in errors
    assert "Traceback" not in errors


def test_a_port_in_use_ends_the_command_with_2_and_one_line(bundle_folder):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        command = [sys.executable, "-m", "serving", str(bundle_folder), "--port", str(port)]
        process = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert process.returncode == 2
    assert process.stdout == ""
    assert process.stderr == (f"error: port {port} is in use on 127.0.0.1; stop what uses it, or give another --port\n")


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


WITHOUT_TORCH = """
import sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "torchaudio"):
            raise AssertionError("serving imported " + name)

for name in ("torch", "torchaudio"):
    sys.modules.pop(name, None)
sys.meta_path.insert(0, Blocker())

import serving
import serving.__main__
from fastapi.testclient import TestClient
from serving.embedder import Embedder
from serving.server.app import create_app
from serving.server.limits import Limits

client = TestClient(create_app(Embedder.load(sys.argv[1]), Limits()))
answer = client.post("/v1/embed", content=sys.stdin.buffer.read())
assert answer.status_code == 200, answer.text
assert len(answer.json()["embedding"]) == 128
heavy = {"torch", "torchaudio", "matplotlib", "scipy", "sklearn", "pandas", "gradio"} & set(sys.modules)
assert not heavy, heavy
"""


def test_the_server_answers_where_torch_is_not_installed(bundle_folder):
    process = subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH, str(bundle_folder)],
        input=encoded(harmonics(16_000)),
        capture_output=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        timeout=120,
        check=False,
    )
    assert process.returncode == 0, process.stderr.decode()
