"""The server answers as the Embedder does, refuses what it cannot use in one line, and lives and dies as a process."""

import copy
import dataclasses
import gzip
import subprocess
import sys
import zlib
from typing import Any

import numpy as np
import pytest
import soxr
from fastapi.testclient import TestClient

from serving.audio import decode_audio, read_audio
from serving.embedder import Embedder
from serving.zeroshot.label_space import LabelSpace
from tests.servers import client_of, refused, with_network
from tests.sounds import encoded, flac_that_claims, harmonics


def likeness(first: list[float], second: list[float], embedder: Embedder) -> float:
    """Cosine of two embeddings after their mean is taken off: without that, noise is 0.9998 like any other sound."""
    a, b = np.array(first) - embedder.zeroshot.mean, np.array(second) - embedder.zeroshot.mean
    return float(a @ b / (np.linalg.norm(a) * np.linalg.norm(b)))


@pytest.fixture(scope="module")
def sketch(embedder) -> Embedder:
    """An embedder whose network is a random projection of the samples: a shift, a gain or another rate shows."""
    window = embedder.manifest.window.samples
    projection = np.random.default_rng(0).standard_normal((window, 128)).astype(np.float32)
    return with_network(embedder, lambda windows: windows @ projection)


@pytest.fixture(scope="module")
def client(embedder) -> TestClient:
    return client_of(embedder)


@pytest.fixture(scope="module")
def small_client(embedder) -> TestClient:
    """A server that takes 100 kB and two seconds."""
    return client_of(embedder, max_upload_mb=0.1, max_seconds=2)


def rounded(told: Any) -> Any:
    """The same JSON with its numbers to four places: a batch of another shape may move the last bits."""
    match told:
        case dict():
            return {key: rounded(value) for key, value in told.items()}
        case list():
            return [rounded(value) for value in told]
        case float():
            return round(told, 4)
    return told


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
        assert set(got["timings_ms"]) == {"decode", "resample", "front_end", "queue", "model"}
        assert min(ms for stage, ms in got["timings_ms"].items() if stage != "front_end") > 0
        assert (got["timings_ms"]["front_end"] > 0.1) == (not embedder.runtime.is_one_graph)


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


def test_the_answer_says_whether_the_sound_is_none_of_the_labels(embedder, recordings):
    path = recordings / "noise" / "0.wav"
    content, sound = path.read_bytes(), read_audio(path)
    reader = copy.copy(embedder)
    for threshold, none in ((None, False), (-1.0, False), (1.0, True)):
        reader.labels = embedder.labels.with_zeroshot(dataclasses.replace(embedder.zeroshot, threshold=threshold))
        got = client_of(reader).post("/v1/classify?labels=noise,tone", content=content).json()
        expected = reader.classify(*sound, ["noise", "tone"])
        assert got["none_of_these"] is expected.none_of_these is none
        assert got["threshold"] == threshold
        assert [row["similarity"] for row in got["ranking"]] == pytest.approx(expected.similarities, abs=1e-6)


def test_where_the_bundle_has_a_text_model_any_words_are_ranked_as_unseen(embedder, recordings):
    class Letters(LabelSpace):
        """Encodes a text by its letters."""

        knows_text = True

        def unknown_words(self, labels):
            return {}

        def encode(self, labels, descriptions=None):
            size = self.zeroshot.class_vectors.shape[1]
            return np.stack([np.resize(np.frombuffer(label.encode(), np.uint8), size) for label in labels]) / 255.0

    reader = copy.copy(embedder)
    size = embedder.zeroshot.class_vectors.shape[1]
    reader.labels = Letters(
        embedder.bundle, dataclasses.replace(embedder.zeroshot, text_mean=np.zeros(size, np.float32))
    )
    client, path = client_of(reader), recordings / "noise" / "0.wav"
    got = client.post("/v1/classify?labels=Noise,a%20creaking%20door,Hagel", content=path.read_bytes()).json()
    expected = reader.classify(*read_audio(path), ["Noise", "a creaking door", "Hagel"])
    assert [(row["label"], row["score"]) for row in got["ranking"]] == [
        (label, pytest.approx(score, abs=1e-6)) for label, score in expected
    ]
    assert {row["label"]: row["seen"] for row in got["ranking"]} == {
        "Noise": True,
        "a creaking door": False,
        "Hagel": False,
    }
    assert client.get("/v1/model").json()["typed_labels"] is True
    many = ",".join(str(i) for i in range(1_001))
    assert "got 1001; wanted at most 1000" in refused(
        client.post(f"/v1/classify?labels={many}", content=path.read_bytes()), 422
    )


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
    client = client_of(sketch)
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
        (encoded(harmonics(16_000), file_format="FLAC")[:500], 415, "not a readable audio file"),
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


def test_a_multipart_form_must_hold_one_file_or_a_list_of_them(client):
    sound = encoded(harmonics(16_000))
    assert "got the fields clip (file); wanted one file" in refused(
        client.post("/v1/embed", files={"clip": sound}), 422
    )
    text = {"file": (None, "dog.wav")}
    assert "got the fields file (text)" in refused(client.post("/v1/embed", files=text), 422)
    for fields in (("file", "file"), ("file", "files"), ("files", "clip")):
        got = ", ".join(f"{field} (file)" for field in fields)
        refusal = client.post("/v1/embed", files=[(field, sound) for field in fields])
        assert f"got the fields {got}; wanted" in refused(refusal, 422)
    assert "empty" in refused(client.post("/v1/embed", files={"file": ("a.wav", b"")}), 400)
    form = {"content-type": "multipart/form-data; boundary=xyz"}
    assert "not a whole multipart form" in refused(client.post("/v1/embed", content=sound, headers=form), 400)
    form = {"content-type": "multipart/form-data"}
    assert "boundary" in refused(client.post("/v1/embed", content=sound, headers=form), 400)


def test_a_form_that_is_cut_off_loses_no_file_silently(client):
    part = b'--xyz\r\ncontent-disposition: form-data; name="files"; filename="a.wav"\r\n\r\n' + encoded(
        harmonics(8_000)
    )
    form = {"content-type": "multipart/form-data; boundary=xyz"}
    whole = part + b"\r\n" + part + b"\r\n--xyz--\r\n"
    assert len(client.post("/v1/embed", content=whole, headers=form).json()["results"]) == 2
    for cut in (whole[:-6], whole[: -len(part)], part):
        assert "not a whole multipart form" in refused(client.post("/v1/embed", content=cut, headers=form), 400)


@pytest.mark.parametrize("charset", ["undefined", "punycode", "unicode_escape", "raw_unicode_escape"])
def test_an_odd_charset_of_a_form_is_no_fault_of_the_server(client, charset):
    head = b'--xyz\r\ncontent-disposition: form-data; name="files"; filename="\\ud800"\r\n\r\n'
    form = {"content-type": f"multipart/form-data; boundary=xyz; charset={charset}"}
    body = head + encoded(harmonics(8_000)) + b"\r\n--xyz--\r\n"
    assert client.post("/v1/embed", content=body, headers=form).status_code in (200, 400, 422)


@pytest.mark.parametrize(
    ("charset", "sent", "told"),
    [("utf-8", b"a\x01b.wav", "a\\x01b.wav"), ("unicode_escape", rb"a\nb.wav", "a\\nb.wav")],
)
def test_a_control_character_in_a_files_name_breaks_no_header(client, charset, sent, told):
    head = b'--xyz\r\ncontent-disposition: form-data; name="files"; filename="%s"\r\n\r\n' % sent
    body = head + encoded(harmonics(16_000))[:-1_000] + b"\r\n--xyz--\r\n"
    form = {"content-type": f"multipart/form-data; boundary=xyz; charset={charset}"}
    answer = client.post("/v1/embed", content=body, headers={**form, "accept": "application/octet-stream"})
    assert answer.status_code == 200
    assert answer.headers["x-audio-warnings"].startswith(f"{told}: cut off")
    (result,) = client.post("/v1/embed", content=body, headers=form).json()["results"]
    assert result["file"] == told


def test_a_header_that_cannot_be_sent_is_a_fault_of_ours_and_not_a_broken_response(embedder, monkeypatch):
    monkeypatch.setattr("serving.server.upload.is_printable", lambda character: True)
    form = {"content-type": "multipart/form-data; boundary=xyz", "accept": "application/octet-stream"}
    head = b'--xyz\r\ncontent-disposition: form-data; name="file"; filename="a\x01b.wav"\r\n\r\n'
    body = head + encoded(harmonics(16_000))[:-1_000] + b"\r\n--xyz--\r\n"
    assert "internal error" in refused(client_of(embedder).post("/v1/embed", content=body, headers=form), 500)


def test_each_file_of_a_list_has_its_own_answer_in_its_place(client):
    long, short = encoded(harmonics(44_100, 12.0), 44_100), encoded(harmonics(8_000, 1.0), 8_000, "FLAC")
    sent = [("files", ("a.wav", long)), ("files", ("b.txt", b"Dear reader,")), ("files", ("c.flac", short))]
    sent.append(("files", ("d.wav", b"")))
    for address, query in (("/v1/embed", "?windows=true"), ("/v1/classify", "?labels=tone,noise&offset=0.5")):
        answer = client.post(address + query, files=sent)
        assert answer.status_code == 200
        results = answer.json()["results"]
        assert [result["file"] for result in results] == ["a.wav", "b.txt", "c.flac", "d.wav"]
        for result, data in ((results[0], long), (results[2], short)):
            alone = client.post(address + query, content=data).json()
            for told in (result, alone):
                del told["timings_ms"]
            del result["file"]
            assert rounded(result) == rounded(alone)
        for result in (results[1], results[3]):
            assert set(result) == {"file", "error", "status"}
            assert result["status"] == 415
            reason = "is an empty file" if result["file"] == "d.wav" else "not a readable audio file"
            assert result["error"].startswith(f"{result['file']}: {reason}")


def test_a_list_of_one_file_is_answered_as_a_list_and_no_file_at_all_is_refused(client):
    (result,) = client.post("/v1/embed", files=[("files", encoded(harmonics(16_000)))]).json()["results"]
    assert len(result["embedding"]) == 128
    form = {"content-type": "multipart/form-data; boundary=xyz"}
    assert "got the fields none" in refused(client.post("/v1/embed", content=b"--xyz--\r\n", headers=form), 422)


def test_the_files_of_a_list_together_may_not_last_longer_than_one_may(embedder):
    client = client_of(embedder, max_seconds=2)
    one = ("files", encoded(harmonics(16_000, 0.9)))
    assert client.post("/v1/embed", files=[one] * 2).status_code == 200
    assert "3 files: last more than 2 s together" in refused(client.post("/v1/embed", files=[one] * 3), 413)
    too_long = ("files", ("long.wav", encoded(harmonics(16_000, 2.5))))
    first, second = client.post("/v1/embed", files=[one, too_long]).json()["results"]
    assert len(first["embedding"]) == 128
    assert second["status"] == 413
    streamed = flac_that_claims(0, encoded(np.zeros(16_000 * 60, np.float32), file_format="FLAC"))
    refusals = client.post("/v1/embed", files=[("files", streamed)] * 9).json()["results"]
    assert [refusal["status"] for refusal in refusals] == [413] * 9


def test_bare_numbers_are_those_of_the_json_and_their_shape_stands_in_a_header(client):
    data, raw = encoded(harmonics(16_000, 12.0)), {"accept": "application/octet-stream"}
    told = client.post("/v1/embed?windows=true", content=data).json()
    for query, shape, expected in (
        ("", "128", told["embedding"]),
        ("?windows=true", "2,128", [window["embedding"] for window in told["windows"]]),
    ):
        answer = client.post(f"/v1/embed{query}", content=data, headers=raw)
        assert answer.headers["content-type"] == "application/octet-stream"
        assert (answer.headers["x-embedding-shape"], answer.headers["x-embedding-dtype"]) == (shape, "<f4")
        assert answer.headers["x-embedding-space"] == told["embedding_space"]
        got = np.frombuffer(answer.content, "<f4").reshape(*map(int, shape.split(",")))
        np.testing.assert_array_equal(got, np.array(expected, np.float32))
    both = [("files", data), *2 * [("files", encoded(harmonics(16_000, 1.0)))]]
    answer = client.post("/v1/embed", files=both, headers=raw)
    assert answer.headers["x-embedding-shape"] == "3,128"
    np.testing.assert_allclose(np.frombuffer(answer.content, "<f4")[:128], told["embedding"], rtol=0, atol=1e-5)


def test_bare_numbers_have_no_place_for_a_file_that_cannot_be_used(client):
    raw = {"accept": "application/octet-stream"}
    sent = [("files", encoded(harmonics(16_000))), ("files", ("b.txt", b"Dear reader,"))]
    assert "b.txt: not a readable" in refused(client.post("/v1/embed", files=sent, headers=raw), 415)
    assert "ask for JSON" in refused(client.post("/v1/embed?windows=true", files=sent[:1], headers=raw), 422)


@pytest.mark.parametrize(("packing", "pack"), [("gzip", gzip.compress), ("deflate", zlib.compress)])
def test_a_packed_body_is_unpacked_up_to_the_limit(client, small_client, packing, pack):
    data, headers = encoded(harmonics(16_000)), {"content-encoding": packing}
    expected = client.post("/v1/embed", content=data).json()["embedding"]
    got = client.post("/v1/embed", content=pack(data), headers=headers).json()["embedding"]
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-6)
    bomb = pack(bytes(30_000_000))
    assert len(bomb) < 40_000
    assert "larger than 0.1 MB" in refused(small_client.post("/v1/embed", content=bomb, headers=headers), 413)
    assert "cut off" in refused(client.post("/v1/embed", content=pack(data)[:-9], headers=headers), 400)
    assert "goes on" in refused(client.post("/v1/embed", content=2 * pack(data), headers=headers), 400)
    assert f"is not {packing}" in refused(client.post("/v1/embed", content=data, headers=headers), 400)
    other = {"content-encoding": "br"}
    assert "got br" in refused(client.post("/v1/embed", content=data, headers=other), 415)


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
    assert got["backend"] == embedder.backend
    assert got["providers"]
    assert {embedder.backend, "soundfile", "soxr"} <= set(got["versions"])


def test_the_health_addresses_answer_and_the_schema_documents_the_upload(client):
    assert client.get("/healthz").json() == {"status": "ok"}
    assert client.get("/readyz").json() == {"status": "ready"}
    paths = client.get("/openapi.json").json()["paths"]
    for address in ("/v1/embed", "/v1/classify"):
        post = paths[address]["post"]
        assert set(post["requestBody"]["content"]) == {"application/octet-stream", "multipart/form-data"}
        assert {"200", "400", "413", "415", "422", "500"} <= set(post["responses"])


ANSWER_ONCE = """
import sys

import serving
import serving.__main__
from fastapi.testclient import TestClient
from serving.embedder import Embedder
from serving.server.app import create_app
from serving.server.limits import Limits
from serving.server.pipeline import Pipeline

client = TestClient(create_app(Pipeline(Embedder.load(sys.argv[1], "onnxruntime"), Limits())))
answer = client.post("/v1/embed", content=sys.stdin.buffer.read())
assert answer.status_code == 200, answer.text
assert len(answer.json()["embedding"]) == 128
heavy = {"torch", "torchaudio", "matplotlib", "scipy", "sklearn", "pandas", "gradio"} & set(sys.modules)
assert not heavy, heavy
"""


def test_the_server_answers_where_torch_is_not_installed(bundle_folder, without_torch):
    process = subprocess.run(
        [sys.executable, "-c", ANSWER_ONCE, str(bundle_folder)],
        input=encoded(harmonics(16_000)),
        capture_output=True,
        env=without_torch,
        timeout=120,
        check=False,
    )
    assert process.returncode == 0, process.stderr.decode()
