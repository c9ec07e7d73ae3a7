"""Uploads that processes decode: the same answers as from threads, whatever becomes of a process."""

import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from fastapi.testclient import TestClient

from serving.audio import Recording, Window
from serving.backends.bundle_runtime import open_front_end
from serving.backends.fft_front_end import FftLogMel
from serving.backends.runtime import identity
from serving.embedder import Embedder
from serving.errors import AudioError, BackendError, UsageError
from serving.log_mel import LogMelConfig
from serving.server.app import create_app
from serving.server.decoders import DECODER_BYTES, Decoders, choose_decoders
from serving.server.limits import Limits
from serving.server.pipeline import Pipeline
from serving.server.shared_file import KEPT_BYTES, SharedFile
from tests.bundle_copies import copy_bundle
from tests.servers import Server, client_of, refused, running
from tests.sounds import encoded, harmonics

BUNDLE = Path("demo/model-from-scratch")
SOUND = encoded(harmonics(16_000, 2.0))
LONG = encoded(harmonics(16_000, 20.0))
WINDOW = Window(16_000, 1600, 1600)


@pytest.fixture(scope="module")
def embedder() -> Embedder:
    return Embedder.load(BUNDLE, "onnxruntime", threads=1)


@pytest.fixture(scope="module")
def by_threads(embedder) -> TestClient:
    return client_of(embedder, processes=1)


@pytest.fixture(scope="module")
def by_processes(embedder):
    pipeline = Pipeline(embedder, Limits(processes=2))
    yield TestClient(create_app(pipeline))
    pipeline.close()


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with running(BUNDLE, tmp_path_factory.mktemp("server") / "log", "--processes", "2") as server:
        yield server


def without_times(answer: httpx.Response) -> dict[str, Any]:
    body = answer.json()
    for each in (body, *body.get("results", [])):
        each.pop("timings_ms", None)
    return body


def children(process: int) -> list[int]:
    """The child processes that have not ended, whichever thread has started them."""
    listed = " ".join(each.read_text() for each in Path(f"/proc/{process}/task").glob("*/children"))
    return [each for each in map(int, listed.split()) if is_alive(each)]


def is_alive(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def wait_until(condition) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def embedding_of(server: Server, sound: bytes) -> httpx.Response:
    return httpx.post(f"{server.address}/v1/embed", content=sound, timeout=60)


@contextlib.contextmanager
def stopped_processes(server: Server) -> Iterator[list[int]]:
    """The processes that decode. They are stopped until the block ends."""
    workers = children(server.process.pid)
    assert workers  # one that has ended is replaced when it is needed
    try:
        for worker in workers:
            os.kill(worker, signal.SIGSTOP)
        yield workers
    finally:
        for worker in filter(is_alive, workers):
            os.kill(worker, signal.SIGCONT)


def send(server: Server, threads: ThreadPoolExecutor) -> Future[httpx.Response]:
    """Send a recording, which waits for a process when this returns."""
    answer = threads.submit(embedding_of, server, SOUND)
    wait_until(lambda: b"unheard_held_upload_bytes 0.0" not in metrics_of(server))
    time.sleep(0.2)
    return answer


def metrics_of(server: Server) -> bytes:
    return httpx.get(f"{server.address}/metrics").content


@pytest.mark.parametrize("kind", ["WAV", "FLAC", "OGG", "MP3"])
@pytest.mark.parametrize("query", ["/v1/embed?windows=true", "/v1/classify"])
def test_processes_give_the_answers_of_threads(by_threads, by_processes, kind, query):
    sound = encoded(harmonics(44_100, 12.0), 44_100, kind)
    answers = [without_times(client.post(query, content=sound)) for client in (by_threads, by_processes)]
    assert answers[0] == answers[1]


def test_processes_give_the_answers_of_threads_to_a_list_with_files_that_are_none(by_threads, by_processes):
    files = [("files", (f"{i}.wav", body)) for i, body in enumerate([SOUND, b"", b"not audio", LONG, SOUND])]
    answers = [without_times(client.post("/v1/embed", files=files)) for client in (by_threads, by_processes)]
    assert answers[0] == answers[1]
    assert sum("error" in each for each in answers[1]["results"]) == 2


@pytest.mark.parametrize(("sound", "status"), [(b"not audio", 415), (encoded(np.zeros(0, np.float32)), 422)])
def test_a_file_that_cannot_be_used_has_the_same_4xx(by_threads, by_processes, sound, status):
    messages = [refused(client.post("/v1/embed", content=sound), status) for client in (by_threads, by_processes)]
    assert messages[0] == messages[1]


def test_a_recording_that_is_too_long_is_413(embedder):
    pipeline = Pipeline(embedder, Limits(processes=2, max_seconds=10))
    try:
        refused(TestClient(create_app(pipeline)).post("/v1/embed", content=LONG), 413)
    finally:
        pipeline.close()


@pytest.mark.parametrize("kind", ["waveform", "by FFT", "by a graph"])
def test_the_input_from_a_process_is_that_of_a_thread_to_the_last_bit(embedder, kind):
    bundle = embedder.bundle
    if kind == "by FFT":
        pytest.importorskip("scipy")
        front_end = FftLogMel(LogMelConfig(**bundle.manifest.front_end))
    else:
        front_end = identity if kind == "waveform" else open_front_end(bundle)
    window = bundle.manifest.window
    decoders = Decoders(window, front_end, 2)
    try:
        got = decoders.prepare(LONG, "a", 60.0)
    finally:
        decoders.close()
    wanted = Recording.from_bytes(LONG, "a", window.rate_hz).prepare(window, front_end)
    np.testing.assert_array_equal(got.inputs, wanted.inputs)
    assert got.levels_dbfs == wanted.levels_dbfs
    assert (got.duration_s, got.rate_hz, got.channels) == (wanted.duration_s, wanted.rate_hz, wanted.channels)


def ends_at_a_loud_sound(windows: np.ndarray) -> np.ndarray:
    if windows.max() > 0.9:
        os.kill(os.getpid(), signal.SIGSEGV)
    if windows.max() > 0.8:
        raise ZeroDivisionError("of the front end")
    return windows


def wav_of(level: float) -> bytes:
    return encoded(np.full(1600, level, np.float32))


def test_a_file_that_ends_two_processes_is_an_error_and_others_are_decoded(caplog):
    ends: list[int] = []
    decoders = Decoders(WINDOW, ends_at_a_loud_sound, 2, lambda: ends.append(1))
    try:
        for _ in range(2):
            with pytest.raises(
                AudioError, match=r"^loud: cannot be read \(a process that read it ended twice, SIGSEGV"
            ):
                decoders.prepare(wav_of(0.95), "loud", 9.0)
            assert decoders.prepare(wav_of(0.5), "soft", 9.0).inputs.max() == pytest.approx(0.5, abs=1e-4)
    finally:
        decoders.close()
    assert len(ends) == 4
    assert [record.levelname for record in caplog.records] == ["WARNING", "ERROR"] * 2


def test_a_fault_in_a_process_is_raised_here_with_its_place_there():
    before = children(os.getpid())
    decoders = Decoders(WINDOW, ends_at_a_loud_sound, 2)
    try:
        with pytest.raises(ZeroDivisionError) as caught:
            decoders.prepare(wav_of(0.85), "fault", 9.0)
        assert "ends_at_a_loud_sound" in caught.value.__notes__[0]
        assert decoders.prepare(wav_of(0.5), "soft", 9.0).levels_dbfs
    finally:
        decoders.close()
    assert children(os.getpid()) == before


class EndsWhenOpened:
    """A front end that ends the process that reads its pickle."""

    def __call__(self, windows: np.ndarray) -> np.ndarray:
        return windows

    def __reduce__(self) -> tuple[Any, ...]:
        return os._exit, (3,)


def test_processes_that_cannot_start_are_one_error_and_none_is_left():
    before = children(os.getpid())
    with pytest.raises(BackendError, match=r"ended at its start \(exit code 3\).* --processes 1"):
        Decoders(WINDOW, EndsWhenOpened(), 3)
    assert children(os.getpid()) == before


def test_a_request_whose_process_is_killed_is_answered_by_another_one(server):
    wanted = embedding_of(server, SOUND).json()["embedding"]
    with ThreadPoolExecutor() as threads:
        with stopped_processes(server) as workers:
            answer = send(server, threads)
            for worker in workers:
                os.kill(worker, signal.SIGKILL)
        assert answer.result().json()["embedding"] == wanted
        answers = list(threads.map(lambda _: embedding_of(server, SOUND), range(8)))
    assert [each.json()["embedding"] for each in answers] == [wanted] * 8
    ended = [line for line in server.log() if "ended_by" in line]
    assert ended
    assert {(line["level"], line["ended_by"]) for line in ended} == {("warning", "SIGKILL")}
    assert b"unheard_decode_process_ends_total 0.0" not in metrics_of(server)


def test_the_answer_to_a_client_that_left_goes_to_no_other_one(server):
    wanted = embedding_of(server, SOUND).json()["embedding"]
    with ThreadPoolExecutor() as threads:
        sound = encoded(harmonics(16_000, 7.0))
        with stopped_processes(server) as workers:
            for _ in workers:
                with pytest.raises(httpx.ReadTimeout):
                    httpx.post(f"{server.address}/v1/embed", content=sound, timeout=0.5)
            waiting = threads.submit(embedding_of, server, SOUND)
        assert waiting.result().json()["embedding"] == wanted
    wait_until(lambda: b"unheard_queued_audio_seconds 0.0" in metrics_of(server))


def test_a_signal_to_all_processes_of_the_service_lets_the_request_finish(tmp_path):
    with running(BUNDLE, tmp_path / "log", "--processes", "2") as server, ThreadPoolExecutor() as threads:
        with stopped_processes(server) as workers:
            answer = send(server, threads)
            for process in (*workers, server.process.pid):
                os.kill(process, signal.SIGTERM)
        assert answer.result().status_code == 200
        assert server.process.wait(30) == 0
        assert not any(map(is_alive, workers))
        assert not [line for line in server.log() if line["level"] in ("warning", "error")]


def test_a_killed_server_leaves_no_process(tmp_path):
    with running(BUNDLE, tmp_path / "log", "--processes", "2") as server, ThreadPoolExecutor() as threads:
        with stopped_processes(server) as workers:
            answer = send(server, threads)
            server.process.kill()
            server.process.wait()
        wait_until(lambda: not any(map(is_alive, workers)))
        assert isinstance(answer.exception(), httpx.TransportError)
    assert "Traceback" not in (tmp_path / "log").read_text()


def test_a_reload_replaces_the_processes_and_a_refused_one_leaves_none_behind(tmp_path):
    folder = copy_bundle(BUNDLE, tmp_path / "bundle")
    with running(folder, tmp_path / "log", "--processes", "2") as server:
        first = children(server.process.pid)
        server.process.send_signal(signal.SIGHUP)
        server.log_until(lambda log: any(line["event"] == "reloaded" for line in log))
        wait_until(lambda: not any(map(is_alive, first)))
        second = children(server.process.pid)
        assert len(second) == 2
        (folder / "manifest.json").write_text("{}")
        server.process.send_signal(signal.SIGHUP)
        server.log_until(lambda log: any(line["event"].startswith("reload refused") for line in log))
        os.kill(second[0], signal.SIGKILL)  # another one starts without the folder
        os.kill(second[1], signal.SIGKILL)
        assert embedding_of(server, SOUND).status_code == 200
        assert len(children(server.process.pid)) <= 2


def test_a_pipeline_whose_model_does_not_work_leaves_no_process_after_a_reload(embedder, monkeypatch):
    from serving.server import serve_command
    from serving.server.reload import Generation

    options = serve_command.ServeOptions(BUNDLE, limits=Limits(processes=2))
    present = Generation(None, Pipeline(embedder, Limits()), None)  # type: ignore[arg-type]
    monkeypatch.setattr(Embedder, "run", lambda self, windows: np.full((1, 128), np.nan, np.float32))
    before, threads = children(os.getpid()), threading.active_count()
    with pytest.raises(RuntimeError, match="gives no embedding"):
        serve_command.next_generation(options, present, None)
    assert children(os.getpid()) == before
    assert threading.active_count() == threads


@pytest.mark.parametrize(
    ("asked", "decodes", "free", "wanted"),
    [
        (None, 4, 2**40, 1),
        (None, 6, 2**40, 6),
        (None, 16, 5 * DECODER_BYTES, 5),
        (None, 16, DECODER_BYTES, 1),
        (1, 16, 2**40, 1),
        (3, 2, 2**40, 3),
    ],
)
def test_as_many_processes_as_decode_at_a_time_from_five_on_if_memory_allows(monkeypatch, asked, decodes, free, wanted):
    monkeypatch.setattr("serving.bulk.processes.free_memory", lambda: free)
    assert choose_decoders(Limits(max_decodes=decodes, processes=asked)) == wanted


def test_no_more_processes_are_started_than_recordings_are_decoded_at_a_time(embedder):
    before = children(os.getpid())
    pipeline = Pipeline(embedder, Limits(max_decodes=2, processes=5))
    assert len(children(os.getpid())) == len(before) + 2
    pipeline.close()
    assert children(os.getpid()) == before


@pytest.mark.parametrize("asked", [0, -1, 257])
def test_a_wrong_number_of_processes_is_refused(asked):
    with pytest.raises(UsageError, match=r"^--processes: got .*; wanted 1 to 256"):
        Limits(processes=asked).check()


def test_a_shared_file_gives_back_the_memory_of_a_large_upload():
    file = SharedFile()
    try:
        content = os.urandom(3 * KEPT_BYTES)
        assert file.read(file.write(content)) == content
        file.clear()
        assert os.fstat(file.descriptor).st_size == KEPT_BYTES
        assert file.read(file.write(b"short")) == b"short"
        assert file.read(file.write(b"")) == b""
    finally:
        file.close()
