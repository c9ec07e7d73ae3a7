"""A reload frees the model before it: the second model after each reload would fill the memory after some of them."""

import gc
import signal
import subprocess
import sys
import weakref
from pathlib import Path

import httpx
import pytest

from serving.embedder import Embedder
from serving.errors import UsageError
from serving.server.limits import Limits
from serving.server.pipeline import Pipeline
from serving.server.reload import Generation, ReloadableApp, Reloader
from serving.server.serve_command import ServeOptions, make_generation
from serving.text_model.text_model import TextModel
from tests.servers import Server, until_ready
from tests.sounds import encoded, harmonics

BUNDLE = Path("demo/model-from-scratch")
SOUND = encoded(harmonics(16_000, 1.0))
# The command, which also logs how many models are in memory when it has opened another one. Those before the last two
# are replaced, but may still be closing.
COUNTING = """
import gc, logging, sys, time, weakref
from serving.__main__ import main
from serving.server import serve_command

opened, load = [], serve_command.load_embedder

def load_and_count(*arguments):
    embedder = load(*arguments)
    opened.append(weakref.ref(embedder))
    ends = time.monotonic() + 30
    while any(each() for each in opened[:-2]) and time.monotonic() < ends:
        gc.collect()
        time.sleep(0.05)
    alive = sum(each() is not None for each in opened)
    logging.getLogger("test").info("%d of %d models are in memory", alive, len(opened))  # not yet set up for the first
    return embedder

serve_command.load_embedder = load_and_count
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="this system has no SIGHUP")
def test_a_replaced_model_is_freed_also_while_a_connection_that_used_it_stays_open(tmp_path):
    log = tmp_path / "log"
    command = [sys.executable, "-c", COUNTING, str(BUNDLE), "--port", "0", "--backend", "onnxruntime"]
    with (
        log.open("w") as stderr,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=stderr, text=True) as process,
    ):
        try:
            server = until_ready(process, log)
            with httpx.Client(base_url=server.address, timeout=60) as idle, httpx.Client(timeout=60) as other:
                ask_all_routes(idle, server)
                for done in range(1, 4):
                    process.send_signal(signal.SIGHUP)
                    server.log_until(lambda log, done=done: n_events(log, "reloaded") == done)
                    ask_all_routes(other, server)
            lines = [line["event"] for line in server.log() if line.get("logger") == "test"]
        finally:
            process.kill()
    assert lines == [f"2 of {n} models are in memory" for n in (2, 3, 4)]


def ask_all_routes(client: httpx.Client, server: Server) -> None:
    """Have an answer of each route that uses the model."""
    name = client.get(f"{server.address}/v2/models/{BUNDLE.name}").json()["name"]
    assert name == BUNDLE.name
    for path in ("/v1/model", "/readyz", "/metrics", "/docs", "/v2/health/ready", f"/v2/models/{name}/ready"):
        assert client.get(server.address + path).status_code == 200
    for path in ("/v1/embed?windows=true", "/v1/classify"):
        assert client.post(server.address + path, content=SOUND).status_code == 200


def n_events(log: list[dict], event: str) -> int:
    return sum(line["event"] == event for line in log)


def test_what_a_refused_reload_had_opened_is_freed():
    class Opened:
        pass

    references = []

    def refuse(present: Generation, bundle: Path | None) -> Generation:
        opened = Opened()
        references.append(weakref.ref(opened))
        open_index()
        raise AssertionError(opened)

    def open_index() -> None:
        try:
            Path("absent").read_bytes()
        except OSError as error:
            raise UsageError("no such index") from error

    pipeline = Pipeline(Embedder.load(BUNDLE, "onnxruntime"), Limits())
    app = ReloadableApp(make_generation(ServeOptions(BUNDLE), None, pipeline))
    assert isinstance(Reloader(app, refuse, app.replace).ask().exception(60), UsageError)
    gc.collect()
    assert [each() for each in references] == [None]


def test_a_text_model_is_freed_as_soon_as_nobody_uses_it():
    """Without the garbage collector, which an idle server runs late."""
    model = TextModel("glove", "bundle", {}, glove=None, minilm=None)
    assert not model.understands("rain")
    reference = weakref.ref(model)
    del model
    assert reference() is None
