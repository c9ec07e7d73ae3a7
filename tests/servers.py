"""Servers for tests: an app in this process, or the command in a process of its own."""

import contextlib
import copy
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from fastapi.testclient import TestClient

from serving.backends.runtime import Runtime
from serving.embedder import Embedder
from serving.server.app import create_app
from serving.server.limits import Limits
from serving.server.pipeline import Pipeline


class FakeGraph:
    """A function as a model: windows [n, samples] -> embeddings [n, 128]."""

    name, version, providers = "fake", "0", ["this test"]

    def __init__(self, network: Callable[[np.ndarray], np.ndarray]):
        self._network = network

    def __call__(self, batch: np.ndarray, /) -> np.ndarray:
        return self._network(batch)


def with_network(embedder: Embedder, network: Callable[[np.ndarray], np.ndarray]) -> Embedder:
    """Copy an embedder and replace its network."""
    other = copy.copy(embedder)
    other.runtime = Runtime(FakeGraph(network))
    return other


def client_of(embedder: Embedder, **limits: Any) -> TestClient:
    """A client of an app in this process that serves this embedder."""
    return TestClient(create_app(Pipeline(embedder, Limits(**limits))))


def refused(response: Any, status: int) -> str:
    """Assert that a response is a refusal with this status, and return its message."""
    assert response.status_code == status, response.text
    body = response.json()
    assert set(body) == {"error", "request_id"}
    assert body["request_id"] == response.headers["x-request-id"]
    assert body["error"]
    assert "\n" not in body["error"]
    return body["error"]


@dataclass(frozen=True)
class Server:
    """A running `python -m serving`. stderr: the file with its log; grpc_address: with --grpc-port."""

    process: subprocess.Popen[str]
    address: str
    stderr: Path
    grpc_address: str = ""

    @property
    def port(self) -> int:
        return int(self.address.rsplit(":", 1)[1])

    def log(self) -> list[dict[str, Any]]:
        """The lines logged so far."""
        return [json.loads(line) for line in self.stderr.read_text().splitlines()]

    def log_until(self, complete: Callable[[list[dict[str, Any]]], bool]) -> list[dict[str, Any]]:
        """The lines logged once they are complete: a request's line is written after its response was sent."""
        ends = time.monotonic() + 30
        while not complete(lines := self.log()):
            assert time.monotonic() < ends, lines
            time.sleep(0.02)
        return lines


@contextlib.contextmanager
def running(bundle: Path, log: Path, *flags: str) -> Iterator[Server]:
    """Run `python -m serving` on a free port until the block ends. The server is ready when the block starts."""
    command = [sys.executable, "-m", "serving", str(bundle), "--port", "0", *flags]
    with (
        log.open("w") as stderr,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=stderr, text=True) as process,
    ):
        try:
            yield until_ready(process, log)
        finally:
            process.kill()


def until_ready(process: subprocess.Popen[str], log: Path) -> Server:
    """The server in a process, once it is ready. log: the file with its stderr"""
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line, log.read_text()
    told = json.loads(line)
    return Server(process, told["address"], log, told.get("grpc_address", ""))


def catches(pid: int, number: int) -> bool:
    """Whether a process has a handler for this signal. Linux only."""
    status = Path(f"/proc/{pid}/status").read_text()
    mask = next(line for line in status.splitlines() if line.startswith("SigCgt")).split()[1]
    return bool(int(mask, 16) >> (number - 1) & 1)
