"""Uploads that claim more sound than they have, or hold more than others, leave room for a light client."""

import contextlib
import io
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
import soundfile

from serving.server.admission import Admission
from serving.server.limits import Limits
from tests.servers import Server, running
from tests.serving.server.sockets import connect
from tests.sounds import encoded, flac_that_claims, harmonics

BUNDLE = Path("demo/model-from-scratch")
SOUND = encoded(harmonics(16_000, 1.0))


@pytest.fixture(scope="module")
def server(tmp_path_factory) -> Iterator[Server]:
    """A queue of 60 s, so that few requests can fill it."""
    with running(BUNDLE, tmp_path_factory.mktemp("server") / "log", "--max-queue-seconds", "60") as server:
        assert httpx.post(f"{server.address}/v1/embed", content=SOUND, timeout=60).status_code == 200
        yield server


def served(server: Server, requests: int) -> float:
    """The share of a light client's requests that are answered: one at a time, with a pause after each."""
    answered = 0
    with httpx.Client(timeout=60) as client:
        for _ in range(requests):
            answered += client.post(f"{server.address}/v1/embed", content=SOUND).status_code == 200
            time.sleep(0.02)
    return answered / requests


@contextlib.contextmanager
def repeated(server: Server, content: bytes, clients: int) -> Iterator[None]:
    """Clients that send the same upload again and again."""
    done = threading.Event()

    def send() -> None:
        with httpx.Client(timeout=60) as client:
            while not done.is_set():
                client.post(f"{server.address}/v1/embed", content=content)

    threads = [threading.Thread(target=send) for _ in range(clients)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        done.set()
        for thread in threads:
            thread.join()


def test_a_flac_of_99_bytes_that_claims_299_seconds_counts_as_what_is_in_it(server):
    silence = io.BytesIO()
    soundfile.write(silence, np.zeros(160, np.int16), 16_000, format="FLAC")
    liar = flac_that_claims(299 * 16_000, silence.getvalue())[:99]
    with repeated(server, liar, 4):
        assert served(server, 30) >= 0.8


def test_a_slow_upload_after_long_recordings_keeps_nobody_out(server):
    long = encoded(harmonics(16_000, 120.0))
    for _ in range(15):
        assert httpx.post(f"{server.address}/v1/embed", content=long, timeout=60).status_code == 200
    with connect(server) as upload:
        upload.sendall(f"POST /v1/embed HTTP/1.1\r\nhost: t\r\ncontent-length: {len(long)}\r\n\r\n".encode())
        upload.sendall(long[:1_000_000])  # fast enough to count
        assert served(server, 10) == 1


def test_no_upload_counts_more_than_half_of_the_queue_and_claims_teach_nothing():
    admission = Admission(Limits(max_queue_seconds=60))
    typical = admission.typical_s
    with admission.enter() as first, admission.enter() as second:
        first.expect_seconds(299)
        assert admission.seconds == typical
        assert admission.typical_s == typical
        first.hold_seconds(299)
        assert admission.seconds == 30
        second.hold_seconds(30)
        assert admission.typical_s < 30
    assert admission.seconds == 0


def silence(channels: int) -> bytes:
    """290 s at 48 kHz as FLAC: 110 kB for eight channels, which would be 446 MB."""
    file = io.BytesIO()
    with soundfile.SoundFile(file, "w", 48_000, channels, "PCM_16", format="FLAC") as flac:
        for _ in range(29):
            flac.write(np.zeros((480_000, channels), np.int16))
    return file.getvalue()


def test_a_light_client_is_served_beside_long_recordings_of_eight_channels(tmp_path):
    long, stop = silence(8), threading.Event()
    long_s: list[float] = []
    light_s: list[float] = []
    with running(BUNDLE, tmp_path / "log", "--max-decodes", "2") as server:  # also on one core

        def timed(client: httpx.Client, content: bytes, times: list[float]) -> int:
            started = time.perf_counter()
            status = client.post(f"{server.address}/v1/embed", content=content).status_code
            if status == 200:
                times.append(time.perf_counter() - started)
            return status

        def attack() -> None:
            with httpx.Client(timeout=120) as client:
                while not stop.is_set():
                    timed(client, long, long_s)

        threads = [threading.Thread(target=attack) for _ in range(2)]
        for thread in threads:
            thread.start()
        with httpx.Client(timeout=60) as light:
            time.sleep(0.5)
            statuses = [timed(light, SOUND, light_s) for _ in range(20)]
        stop.set()
        for thread in threads:
            thread.join()
    assert statuses == [200] * 20
    # With all decoders taken by the long ones, the light client waited as long as they take.
    assert np.median(light_s) < 0.25 * np.median(long_s), (light_s, long_s)


def test_eight_channels_take_no_more_memory_than_one(server):
    peaks = []
    for channels in (1, 8):
        content = silence(channels)
        with contextlib.suppress(OSError):
            Path(f"/proc/{server.process.pid}/clear_refs").write_text("5")  # the peak starts again
        answer = httpx.post(f"{server.address}/v1/embed", content=content, timeout=120)
        assert answer.status_code == 200, answer.text
        assert answer.json()["channels"] == channels
        status = Path(f"/proc/{server.process.pid}/status").read_text()
        peaks.append(int(status.split("VmHWM:")[1].split()[0]) / 1000)
    assert peaks[1] - peaks[0] < 100, peaks
