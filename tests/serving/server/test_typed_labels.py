"""Labels that clients type wait in a queue of their own, and keep no other request waiting."""

import contextlib
import copy
import dataclasses
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import httpx
import numpy as np
import pytest

from serving.zeroshot.label_space import LabelSpace
from tests.servers import Server, client_of, refused, running
from tests.serving.server.sockets import connect
from tests.sounds import encoded, harmonics

BUNDLE = Path("demo/model-from-scratch")
SOUND = encoded(harmonics(16_000, 1.0))


@pytest.fixture(scope="module")
def server(tmp_path_factory) -> Iterator[Server]:
    with running(BUNDLE, tmp_path_factory.mktemp("server") / "log") as server:
        url = f"{server.address}/v1/classify?labels=an%20iron%20thing"
        assert httpx.post(url, content=SOUND, timeout=120).status_code == 200  # opens the text model
        yield server


def waiting(server: Server) -> float:
    """Characters of labels that wait."""
    lines = httpx.get(f"{server.address}/metrics", timeout=30).text.splitlines()
    return next(float(line.split()[-1]) for line in lines if line.startswith("unheard_queued_label_characters "))


def until_waiting(server: Server, least: float, most: float = 1e9) -> None:
    ends = time.monotonic() + 60
    while not least <= waiting(server) <= most:
        assert time.monotonic() < ends, waiting(server)
        time.sleep(0.02)


def send_labels(server: Server, number: int) -> socket.socket:
    """Ask for as many new labels as headers can hold, 26 kB of them, without reading the answer."""
    labels = ",".join(f"iron thing {number} {i:05d} rolling" for i in range(860))
    path = f"/v1/classify?labels={quote(labels, safe=',').replace('%20', '+')}"
    connection = connect(server)
    connection.sendall(f"POST {path} HTTP/1.1\r\nhost: t\r\ncontent-length: {len(SOUND)}\r\n\r\n".encode() + SOUND)
    return connection


@pytest.mark.parametrize("label", ["x" * 301, "word " * 51, "a_" * 60, "é" * 400])
def test_a_label_that_is_too_long_is_422_and_the_message_is_short(server, label):
    answer = httpx.post(f"{server.address}/v1/classify", params={"labels": label}, content=SOUND, timeout=30)
    message = refused(answer, 422)
    assert "wanted at most 300 characters and 50 words" in message
    assert len(message) < 200


def test_while_labels_wait_recordings_are_answered_and_further_labels_get_429(server):
    with contextlib.ExitStack() as clients:
        for number in (1, 2):
            clients.enter_context(send_labels(server, number))
        until_waiting(server, 40_000)
        for _ in range(5):
            assert httpx.post(f"{server.address}/v1/embed", content=SOUND, timeout=30).status_code == 200
        assert httpx.get(f"{server.address}/readyz", timeout=30).status_code == 200
        third = clients.enter_context(send_labels(server, 3))
        answer = b""
        while not answer.endswith(b"}") and (part := third.recv(65_536)):  # the body may come in a part of its own
            answer += part
        assert answer.startswith(b"HTTP/1.1 429 "), answer
        assert b"characters wait for the text model" in answer
        assert waiting(server) > 40_000  # all of that happened while they waited
    until_waiting(server, 0, 0)  # nothing is worked on for clients that left


def test_a_single_label_does_not_wait_for_hundreds_of_another_request(server):
    with send_labels(server, 4):
        until_waiting(server, 20_000)
        url = f"{server.address}/v1/classify?labels=a%20thing%20of%20wood,rain"
        assert httpx.post(url, content=SOUND, timeout=60).status_code == 200
        assert waiting(server) > 20_000
    until_waiting(server, 0, 0)


def test_sigterm_waits_for_no_labels_of_clients_that_left(tmp_path):
    with running(BUNDLE, tmp_path / "log") as server:
        url = f"{server.address}/v1/classify?labels=an%20iron%20thing"
        assert httpx.post(url, content=SOUND, timeout=120).status_code == 200
        with send_labels(server, 1), send_labels(server, 2):
            until_waiting(server, 40_000)
        started = time.monotonic()
        server.process.terminate()
        assert server.process.wait(60) == 0
        assert time.monotonic() - started < 10  # they would take 20 s and more


def test_readiness_sees_a_text_model_that_fails(embedder):
    class Breaking(LabelSpace):
        """Its text model breaks when `broken` is set."""

        knows_text, has_open_text_model, broken = True, True, False

        def encode_afresh(self, texts):
            return np.full((len(texts), 3), np.nan if self.broken else 1.0, np.float32)

    reader = copy.copy(embedder)
    size = embedder.zeroshot.class_vectors.shape[1]
    reader.labels = Breaking(
        embedder.bundle, dataclasses.replace(embedder.zeroshot, text_mean=np.zeros(size, np.float32))
    )
    client = client_of(reader)
    assert client.get("/readyz").status_code == 200
    reader.labels.broken = True
    time.sleep(1.1)  # a result is reused for a second
    assert client.get("/readyz").status_code == 503
