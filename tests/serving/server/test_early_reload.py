"""SIGHUP while the server starts, when nothing can be reloaded yet, does not end it: it is done when it is ready."""

import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable

import httpx
import pytest

from serving.server.process import free_port
from tests.servers import catches, until_ready

BUNDLE = "demo/model-from-scratch"


def has_begun(process: subprocess.Popen[str], port: int) -> bool:
    """Whether the command runs: it has imported nothing yet."""
    return catches(process.pid, signal.SIGTERM)


def is_loading(process: subprocess.Popen[str], port: int) -> bool:
    """Whether the port is open: the keys have been read, and the model is loaded next."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc to know when the process handles signals")
@pytest.mark.parametrize("moment", [has_begun, is_loading])
def test_a_reload_while_it_starts_is_done_when_it_is_ready(tmp_path, moment: Callable[..., bool]):
    port, log = free_port("127.0.0.1", 0), tmp_path / "log"
    command = [sys.executable, "-m", "serving", BUNDLE, "--port", str(port), "--backend", "onnxruntime"]
    with (
        log.open("w") as stderr,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=stderr, text=True) as process,
    ):
        try:
            while not moment(process, port):
                assert process.poll() is None, log.read_text()
                time.sleep(0.001)
            process.send_signal(signal.SIGHUP)
            server = until_ready(process, log)
            server.log_until(lambda log: any(line["event"] == "reloaded" for line in log))
            assert httpx.get(f"{server.address}/readyz", timeout=60).status_code == 200
            process.terminate()
            assert process.wait(60) == 0
        finally:
            process.kill()
