"""Raw connections to a server, and a watch on how fast it answers meanwhile."""

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from tests.servers import Server

HEALTH = b"GET /healthz HTTP/1.1\r\nhost: test\r\n\r\n"


def connect(server: Server) -> socket.socket:
    return socket.create_connection(("127.0.0.1", server.port), timeout=30)


def read_all(connection: socket.socket) -> bytes:
    """What arrives until the server closes or resets the connection."""
    received = b""
    with contextlib.suppress(ConnectionError):
        while data := connection.recv(65_536):
            received += data
    return received


def send_and_read(server: Server, data: bytes) -> bytes:
    """Send bytes on a connection of their own, as far as the server takes them, and read until the end."""
    with connect(server) as connection:
        with contextlib.suppress(ConnectionError):
            connection.sendall(data)
        return read_all(connection)


def status_of(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1])


def ask_health(connection: socket.socket) -> None:
    connection.sendall(HEALTH)
    answer = b""
    while not answer.endswith(b'{"status":"ok"}'):
        received = connection.recv(65_536)
        assert received, "the connection was closed"
        answer += received


@dataclass
class HealthTimes:
    """How long /healthz took, in seconds."""

    seconds: list[float] = field(default_factory=list)

    def assert_fast(self, limit_s: float = 0.1) -> None:
        """19 of 20 are within the limit; the rest is left to what else this machine does."""
        assert len(self.seconds) >= 5
        assert np.percentile(self.seconds, 95) < limit_s, sorted(self.seconds)[-10:]


@contextlib.contextmanager
def watched_health(server: Server) -> Iterator[HealthTimes]:
    """Ask /healthz every 10 ms on one connection while the block runs."""
    times, done = HealthTimes(), threading.Event()

    def ask() -> None:
        with connect(server) as connection:
            while not done.wait(0.01):
                started = time.perf_counter()
                ask_health(connection)
                times.seconds.append(time.perf_counter() - started)

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield times
    finally:
        done.set()
        thread.join()
