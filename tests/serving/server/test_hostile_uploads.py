"""Hundreds of malformed and odd uploads: each is heard or refused in one line, none is a fault, the limits hold."""

import functools
import io
import struct
import tarfile
import zipfile
from collections.abc import Callable, Iterator

import httpx
import numpy as np
import pytest
import soundfile
from fastapi.testclient import TestClient

from tests.servers import client_of, refused, running
from tests.sounds import encoded, flac_that_claims, harmonics

SECONDS = 10  # the longest that the server of these tests takes
REFUSALS = (400, 413, 415, 422)
Cases = Iterator[tuple[str, bytes]]


@functools.cache
def short(file_format: str, subtype: str | None = None, rate_hz: int = 16_000, channels: int = 1) -> bytes:
    """A third of a second."""
    wave = np.repeat(harmonics(rate_hz, 0.3)[:, None], channels, axis=1)
    return encoded(wave, rate_hz, file_format, subtype)


def chunk(name: bytes, data: bytes, length: int | None = None) -> bytes:
    """A RIFF chunk, of which the length may lie."""
    return name + struct.pack("<I", len(data) if length is None else length) + data + b"\0" * (len(data) % 2)


def wav(*chunks: bytes, length: int | None = None) -> bytes:
    return chunk(b"RIFF", b"WAVE" + b"".join(chunks), length)


def fmt(tag: int = 1, channels: int = 1, rate_hz: int = 16_000, align: int = 2, bits: int = 16) -> bytes:
    return chunk(b"fmt ", struct.pack("<HHIIHH", tag, channels, rate_hz, rate_hz * align & 2**32 - 1, align, bits))


SAMPLES = (10_000 * harmonics(16_000, 0.3)).astype("<i2").tobytes()
DATA = chunk(b"data", SAMPLES)
# Every subtype that libsndfile writes into WAV; some want one or two channels, and refuse to be written otherwise.
WAV_SUBTYPES = sorted(soundfile.available_subtypes("WAV"))


def sample_formats() -> Cases:
    for subtype in WAV_SUBTYPES:
        for channels in (1, 2, 3, 4, 5, 6, 7, 8):
            for rate_hz in (4_000, 44_100, 192_000) if channels < 3 else (8_000,):
                try:
                    yield f"{subtype}, {channels} channels, {rate_hz} Hz", short("WAV", subtype, rate_hz, channels)
                except soundfile.LibsndfileError:
                    continue


def other_containers() -> Cases:
    for file_format in ("W64", "RF64", "AIFF", "AU", "CAF", "WAVEX", "VOC", "SVX", "NIST", "IRCAM", "PAF", "MAT5"):
        yield file_format, short(file_format)
    for rate_hz in (8_000, 11_025, 22_050, 32_000, 48_000, 88_200, 96_000, 176_400):
        yield f"FLAC {rate_hz} Hz", short("FLAC", "PCM_16", rate_hz)
        yield f"WAV {rate_hz} Hz", short("WAV", "PCM_16", rate_hz)


def hardly_any_samples() -> Cases:
    for n_samples in (0, 1, 2, 3):
        for file_format, subtype in (("WAV", "PCM_16"), ("WAV", "FLOAT"), ("FLAC", "PCM_16"), ("OGG", "VORBIS")):
            for rate_hz in (8_000, 192_000):
                wave = np.full(n_samples, 0.1, np.float32)
                yield (
                    f"{n_samples} samples, {file_format} {subtype} {rate_hz} Hz",
                    encoded(wave, rate_hz, file_format, subtype),
                )
    yield "one MP3 frame", encoded(np.zeros(1, np.float32), 16_000, "MP3")


def cut_off() -> Cases:
    """Every file cut at the boundaries of its parts, just before and just after."""
    whole = {
        "WAV": wav(fmt(), chunk(b"LIST", b"INFOISFT\x04\0\0\0test"), DATA),
        "FLAC": short("FLAC"),
        "OGG": short("OGG", "VORBIS", 44_100),
        "OPUS": short("OGG", "OPUS", 48_000),
        "MP3": short("MP3"),
    }
    marks = {"WAV": (b"WAVE", b"fmt ", b"LIST", b"data"), "FLAC": (b"\xff\xf8",), "MP3": (b"\xff\xfb", b"\xff\xf3")}
    for name, data in whole.items():
        boundaries = {4, 8, len(data) // 2, len(data) - 1}
        for mark in marks.get(name, (b"OggS",)):
            place = data.find(mark)
            while place >= 0 and len(boundaries) < 24:
                boundaries |= {place, place + len(mark)}
                place = data.find(mark, place + 1)
        for boundary in sorted(boundaries):
            for cut in (boundary - 1, boundary, boundary + 1):
                if 0 < cut < len(data):
                    yield f"{name} cut at {cut}", data[:cut]


def lying_headers() -> Cases:
    for length in (0, 1, 3, len(SAMPLES) - 2, len(SAMPLES) + 2, 2**31 - 1, 2**31, 2**32 - 1):
        yield f"data of {length} bytes", wav(fmt(), chunk(b"data", SAMPLES, length))
        yield f"RIFF of {length} bytes", wav(fmt(), DATA, length=length)
    for channels in (0, 2, 3, 255, 1024, 1025, 65_535):
        yield f"{channels} channels", wav(fmt(channels=channels), DATA)
        yield f"{channels} channels, aligned", wav(fmt(channels=channels, align=2 * channels % 65_536), DATA)
    for rate_hz in (0, 1, 99, 100, 2_000_000, 2_000_001, 2**31 - 1, 2**31, 2**32 - 1):
        yield f"{rate_hz} Hz", wav(fmt(rate_hz=rate_hz), DATA)
    for bits in (0, 1, 7, 12, 17, 33, 64, 255, 65_535):
        yield f"{bits} bits", wav(fmt(bits=bits, align=(bits + 7) // 8), DATA)
    for align in (0, 1, 3, 65_535):
        yield f"blocks of {align} bytes", wav(fmt(align=align), DATA)
    for tag in (0, 2, 3, 6, 7, 0x11, 0x31, 0x55, 0x161, 0xFFFE, 0xFFFF):
        yield f"format {tag}", wav(fmt(tag), DATA)
    flac = short("FLAC")
    for n_samples in (0, 1, 100, 4_799, 4_801, 10**9, 2**36 - 1):
        yield f"FLAC of {n_samples} samples", flac_that_claims(n_samples, flac)
    yield "data before fmt", wav(DATA, fmt())
    yield "no data", wav(fmt())
    yield "no fmt", wav(DATA)
    yield "two fmt", wav(fmt(), fmt(channels=2, align=4), DATA)
    yield "two data", wav(fmt(), DATA, DATA)
    yield "a thousand chunks", wav(fmt(), *[chunk(b"junk", b"x")] * 1_000, DATA)
    yield "a chunk of 4 GB", wav(fmt(), chunk(b"junk", b"", 2**32 - 1), DATA)
    ogg = bytearray(short("OGG", "VORBIS", 44_100))
    last = ogg.rfind(b"OggS")
    ogg[last + 6 : last + 14] = struct.pack("<q", 2**62)
    yield "OGG that ends in a century", bytes(ogg)


def no_sound_in_the_numbers() -> Cases:
    for value in (np.nan, np.inf, -np.inf, 1e30, -1e30, 101.0):
        for place in (0, 2_000, -1):
            wave = harmonics(16_000, 0.3)
            wave[place] = value
            yield f"{value} at {place}", encoded(wave, subtype="FLOAT")
    yield "integers as floats", encoded(30_000 * harmonics(16_000, 0.3), subtype="DOUBLE")


def junk_around() -> Cases:
    id3 = b"ID3\x04\x00\x00" + bytes([0, 0, 7, 0x68]) + b"TIT2" + bytes(1_000 - 4)
    lying = b"ID3\x04\x00\x00\x7f\x7f\x7f\x7f"
    for name in ("MP3", "WAV", "FLAC", "OGG"):
        data = short(name)
        yield f"ID3 before {name}", id3 + data
        yield f"ID3 of 256 MB before {name}", lying + data
        yield f"ID3v1 after {name}", data + b"TAG" + bytes(125)
        yield f"a kilobyte before {name}", b"x" * 1_000 + data
        yield f"zeros after {name}", data + bytes(100_000)
        yield f"{name} twice", data + data
        yield f"{name} backwards", data[::-1]


def not_audio() -> Cases:
    text = b"All work and no play makes Jack a dull boy.\n" * 200
    yield "text", text
    yield "UTF-16", text.decode().encode("utf-16")
    yield "HTML", b"<!doctype html><html><body>" + text
    yield "JSON", b'{"audio": "' + text.replace(b"\n", b"") + b'"}'
    yield "PNG", b"\x89PNG\r\n\x1a\n" + bytes(5_000)
    yield "PDF", b"%PDF-1.7\n" + text
    yield "ELF", b"\x7fELF\x02\x01\x01" + bytes(5_000)
    yield "M4A", b"\0\0\0\x20ftypM4A \0\0\0\0M4A mp42isom\0\0\0\0" + bytes(5_000)
    yield "WebM", b"\x1a\x45\xdf\xa3" + bytes(5_000)
    yield "one byte", b"R"
    yield "zeros", bytes(10_000)
    yield "ones", b"\xff" * 10_000
    bomb = io.BytesIO()
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("sound.wav", bytes(50_000_000))
    yield "a zip bomb", bomb.getvalue()
    archive_of = io.BytesIO()
    with tarfile.open(fileobj=archive_of, mode="w:gz") as archive:
        member = tarfile.TarInfo("sound.wav")
        member.size = len(short("WAV"))
        archive.addfile(member, io.BytesIO(short("WAV")))
    yield "a tar", archive_of.getvalue()
    rng = np.random.default_rng(0)
    for magic in (b"RIFF", b"RIFX", b"RF64", b"fLaC", b"OggS", b"ID3", b"\xff\xfb", b"FORM", b".snd", b"caff", b"riff"):
        for size in (20, 4_000):
            yield f"{magic!r} and {size} random bytes", magic + rng.bytes(size)


def damaged() -> Cases:
    """Good files with some bytes changed at random."""
    rng = np.random.default_rng(0)
    files = {
        "WAV": short("WAV"),
        "FLAC": short("FLAC"),
        "OGG": short("OGG"),
        "MP3": short("MP3"),
        "AIFF": short("AIFF"),
    }
    for name, data in files.items():
        for i in range(24):
            bad = bytearray(data)
            reach = 64 if i % 2 else len(bad)  # every other one in its header
            for place in rng.integers(0, reach, 1 + i):
                bad[place] = rng.integers(256)
            yield f"{name} damaged, {i}", bytes(bad)


def long_silence() -> bytes:
    """Ten hours in 100 kB."""
    file = io.BytesIO()
    with soundfile.SoundFile(file, "w", 1_000, 1, format="FLAC", subtype="PCM_16") as writer:
        for _ in range(36):
            writer.write(np.zeros(1_000_000, np.int16))
    return file.getvalue()


def endless() -> Cases:
    silence = long_silence()
    assert len(silence) < 500_000
    yield "ten hours of FLAC", silence
    yield "ten hours of FLAC that claims to be streamed", flac_that_claims(0, silence)
    yield "eight channels of FLAC", encoded(np.zeros((48_000 * 20, 8), np.float32), 48_000, "FLAC", "PCM_16")


FAMILIES: dict[str, Callable[[], Cases]] = {
    "sample formats": sample_formats,
    "other containers": other_containers,
    "hardly any samples": hardly_any_samples,
    "cut off": cut_off,
    "lying headers": lying_headers,
    "no sound in the numbers": no_sound_in_the_numbers,
    "junk around": junk_around,
    "not audio": not_audio,
    "damaged": damaged,
    "endless": endless,
}
HEARD = ("sample formats", "other containers")
REFUSED = ("no sound in the numbers", "not audio", "endless")


@pytest.fixture(scope="module")
def client(embedder) -> TestClient:
    return client_of(embedder, max_seconds=SECONDS, max_upload_mb=5)


@pytest.mark.parametrize("family", FAMILIES)
def test_whatever_is_sent_is_heard_or_refused_in_one_line_and_within_the_limits(client, family):
    expected = client.post("/v1/embed", content=short("WAV")).json()["embedding"]
    faults: list[str] = []
    statuses: dict[int, int] = {}
    for name, data in FAMILIES[family]():
        answer = client.post("/v1/embed", content=data)
        statuses[answer.status_code] = statuses.get(answer.status_code, 0) + 1
        if answer.status_code == 200:
            told = answer.json()
            good = np.isfinite(told["embedding"]).all() and 0 < told["duration_s"] <= SECONDS and family not in REFUSED
        else:
            good = answer.status_code in REFUSALS and bool(refused(answer, answer.status_code)) and family not in HEARD
        if not good:
            faults.append(f"{name}: {answer.status_code} {answer.text[:200]}")
    assert not faults
    again = client.post("/v1/embed", content=short("WAV")).json()["embedding"]
    np.testing.assert_allclose(again, expected, rtol=0, atol=1e-6)
    if family not in (*HEARD, *REFUSED):
        assert len(statuses) > 1, statuses  # some of them are sound


def test_there_are_hundreds_of_different_ones():
    uploads = {data for family in FAMILIES.values() for _, data in family()}
    assert len(uploads) >= 300


@pytest.mark.parametrize("family", FAMILIES)
def test_in_one_list_the_bad_files_do_not_spoil_a_good_one(embedder, family):
    with client_of(embedder) as client:  # one event loop, as a server has
        alone = client.post("/v1/embed", content=short("WAV")).json()["embedding"]
        files = [("files", (name, data)) for name, data in FAMILIES[family]()]
        for start in range(0, len(files), 40):
            sent = [*files[start : start + 40], ("files", ("good.wav", short("WAV")))]
            answer = client.post("/v1/embed", files=sent)
            assert answer.status_code == 200, answer.text
            results = answer.json()["results"]
            assert len(results) == len(sent)
            np.testing.assert_allclose(results[-1]["embedding"], alone, rtol=0, atol=1e-5)


def boundary_cases() -> dict[str, bytes]:
    sound, line = short("WAV"), b"\r\n"
    disposition = b'content-disposition: form-data; name="file"; filename="a.wav"'
    part = disposition + line * 2 + sound + line
    return {
        "nothing": b"",
        "no boundary": part,
        "no end": b"--xyz" + line + part,
        "no headers": b"--xyz" + line * 2 + sound + line + b"--xyz--",
        "headers without end": b"--xyz" + line + disposition,
        "no name": b"--xyz" + line + b"content-disposition: form-data" + line * 2 + sound + line + b"--xyz--",
        "not a form": b"--xyz" + line + b"content-disposition: attachment" + line * 2 + sound + line + b"--xyz--",
        "bytes before": b"junk" * 99 + line + b"--xyz" + line + part + b"--xyz--",
        "a name of 100 kB": b"--xyz" + line + disposition.replace(b"a.wav", b"a" * 100_000) + line * 2 + b"--xyz--",
        "a name that is no text": b"--xyz"
        + line
        + disposition.replace(b"a.wav", b"\xff\xfe\0")
        + line * 2
        + b"--xyz--",
        "a thousand fields": b"".join(b"--xyz" + line + disposition + line * 2 + line for _ in range(1_000))
        + b"--xyz--",
        "zeros": bytes(10_000),
    }


@pytest.mark.parametrize("name", boundary_cases())
def test_a_form_that_is_none_is_refused(client, name):
    headers = {"content-type": "multipart/form-data; boundary=xyz"}
    answer = client.post("/v1/embed", content=boundary_cases()[name], headers=headers)
    assert answer.status_code in REFUSALS, answer.text
    refused(answer, answer.status_code)


@pytest.mark.parametrize(
    "content_type",
    [
        "multipart/form-data; boundary=" + "x" * 5_000,
        "multipart/form-data; boundary=\xff",
        "multipart/form-data; charset=x",
        "MULTIPART/FORM-DATA",
        "multipart/form-data; boundary=",
        "multipart/form-data;;;=;boundary",
    ],
)
def test_a_content_type_that_makes_no_sense_is_refused(client, content_type):
    headers = {"content-type": content_type.encode("latin-1")}
    answer = client.post("/v1/embed", content=short("WAV"), headers=headers)
    assert answer.status_code in REFUSALS, answer.text
    refused(answer, answer.status_code)


def test_what_decoders_print_of_damaged_files_does_not_break_the_log(bundle_folder, tmp_path):
    with running(bundle_folder, tmp_path / "log") as server:
        for name, data in damaged():
            answer = httpx.post(f"{server.address}/v1/embed", content=data, headers={"x-request-id": name.split()[0]})
            assert answer.status_code < 500
        server.process.terminate()
        assert server.process.wait(30) == 0
        log = server.log()
    assert [line["status"] for line in log if line["event"] == "request"].count(200) > 10
    assert any("mpg123" in line["text"] for line in log if line["event"] == "printed")
    assert {line["event"] for line in log} == {"serving", "request", "printed"}
