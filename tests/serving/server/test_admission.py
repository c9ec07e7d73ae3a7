"""Who is let in and who is not, and that nobody who left, waited too long or came too late costs the others."""

import asyncio
import contextlib
import copy
import threading
import time
from collections.abc import Awaitable, Callable
from typing import Any

import anyio.to_thread
import httpx
import numpy as np
import pytest
from starlette.exceptions import HTTPException

from serving.audio import PreparedRecording
from serving.embedder import Embedder
from serving.server.admission import Admission
from serving.server.app import create_app
from serving.server.limits import Limits
from serving.server.pipeline import Pipeline
from tests.servers import client_of, refused, with_network
from tests.sounds import encoded, flac_that_claims, harmonics

FIVE_S = encoded(harmonics(16_000, 5.0))


class Held:
    """An app whose model works only while `go` is set.

    calls    how many windows each call had, without that of the canary at the start
    canaries places of the canary's sound among them
    """

    def __init__(self, embedder: Embedder, **limits: Any):
        self.go = threading.Event()
        self.calls: list[int] = []
        self.canaries: list[int] = []
        self._canary: np.ndarray | None = None
        self.go.set()
        self.pipeline = Pipeline(with_network(embedder, self._embed), Limits(**limits))
        self.app = create_app(self.pipeline)
        self.go.clear()
        self.calls.clear()

    def _embed(self, windows: np.ndarray) -> np.ndarray:
        if self._canary is None:
            self._canary = windows
        elif np.array_equal(windows, self._canary):
            self.canaries.append(len(self.calls))
        self.calls.append(len(windows))
        assert self.go.wait(30)
        return np.ones((len(windows), 128), np.float32)

    def talk(self, talk: Callable[[httpx.AsyncClient], Awaitable[None]]) -> None:
        """Run a conversation with the app; the model is let go at its end whatever happens."""

        async def run() -> None:
            transport = httpx.ASGITransport(self.app)
            async with httpx.AsyncClient(transport=transport, base_url="http://test", timeout=60) as client:
                try:
                    await asyncio.wait_for(talk(client), 60)
                finally:
                    self.go.set()

        asyncio.run(run())

    async def until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            await asyncio.sleep(0.005)


def post(client: httpx.AsyncClient, content: Any) -> asyncio.Task[httpx.Response]:
    return asyncio.create_task(client.post("/v1/embed", content=content))


def test_over_the_queue_a_request_is_refused_at_once_and_its_body_never_read(embedder):
    held = Held(embedder, max_queue_seconds=10)

    async def talk(client: httpx.AsyncClient) -> None:
        accepted = [post(client, FIVE_S), post(client, FIVE_S)]
        await held.until(lambda: held.pipeline.admission.seconds >= 10)
        read = []

        async def body():
            read.append(1)
            yield FIVE_S

        answer = await post(client, body())
        assert "too busy: about 10 s of sound wait; try again in 1 s" in refused(answer, 429)
        assert answer.headers["retry-after"] == "1"
        assert not read
        infer = await client.post("/v2/models/bundle/infer", content=body())
        assert "too busy" in refused(infer, 429)
        assert not read
        held.go.set()
        assert [(await task).status_code for task in accepted] == [200, 200]
        assert (await post(client, FIVE_S)).status_code == 200
        assert held.pipeline.admission.seconds == 0

    held.talk(talk)


def test_the_header_tells_how_much_a_recording_would_add_to_the_queue(embedder):
    held = Held(embedder, max_queue_seconds=12)

    async def talk(client: httpx.AsyncClient) -> None:
        first = post(client, FIVE_S)
        await held.until(lambda: held.pipeline.admission.seconds >= 5)
        second = post(client, encoded(harmonics(16_000, 4.0)))
        await held.until(lambda: held.pipeline.admission.seconds >= 9)
        answer = await post(client, FIVE_S)
        assert "9 s of sound wait, and this would add 5; try again" in refused(answer, 429)
        third = post(client, encoded(harmonics(16_000, 3.0)))
        await held.until(lambda: held.pipeline.admission.seconds >= 12)
        held.go.set()
        assert (await third).status_code == 200
        assert (await first).status_code == (await second).status_code == 200

    held.talk(talk)


def test_a_recording_whose_header_tells_no_length_is_judged_once_it_is_decoded(embedder):
    held = Held(embedder, max_queue_seconds=12)
    streamed = flac_that_claims(0, encoded(harmonics(16_000, 10.0), file_format="FLAC"))

    async def talk(client: httpx.AsyncClient) -> None:
        accepted = [post(client, FIVE_S), post(client, FIVE_S)]
        await held.until(lambda: held.pipeline.admission.seconds >= 10)
        assert "10 s of sound wait, and this would add 10" in refused(await post(client, streamed), 429)
        held.go.set()
        assert [(await task).status_code for task in accepted] == [200, 200]
        assert (await post(client, streamed)).status_code == 200

    held.talk(talk)


def test_a_recording_longer_than_half_the_queue_gets_in_while_that_half_is_free(embedder):
    held = Held(embedder, max_queue_seconds=12)
    long = encoded(harmonics(16_000, 40.0))

    async def talk(client: httpx.AsyncClient) -> None:
        first = post(client, FIVE_S)
        await held.until(lambda: held.pipeline.admission.seconds >= 5)
        second = post(client, long)
        await held.until(lambda: held.pipeline.admission.seconds == 5 + 12 / 2)
        assert "too busy" in refused(await post(client, FIVE_S), 429)
        held.go.set()
        assert (await first).status_code == (await second).status_code == 200
        assert (await post(client, long)).status_code == 200

    held.talk(talk)


def test_uploads_on_their_way_count_up_to_half_of_the_queue_but_slow_ones_keep_nobody_out(embedder):
    held = Held(embedder, max_queue_seconds=20)

    async def talk(client: httpx.AsyncClient) -> None:
        rest = asyncio.Event()

        async def slowly():
            yield FIVE_S[:1_000]
            await rest.wait()
            yield FIVE_S[1_000:]

        accepted = [post(client, FIVE_S), post(client, FIVE_S)]
        await held.until(lambda: held.pipeline.admission.seconds == 10)
        slow = [post(client, slowly()) for _ in range(2)]
        await held.until(lambda: held.pipeline.admission.tickets == 4)
        assert "about 20 s of sound wait" in refused(await post(client, FIVE_S), 429)
        await asyncio.sleep(1.1)
        held.go.set()
        assert [(await task).status_code for task in accepted] == [200, 200]
        assert (await post(client, FIVE_S)).status_code == 200
        rest.set()
        assert sorted([(await task).status_code for task in slow]) == [200, 200]

    held.talk(talk)


def test_an_upload_that_is_refused_before_it_is_read_ends_its_connection_unless_it_is_small(embedder):
    client = client_of(embedder, max_upload_mb=0.01)
    for content, ends in ((bytes(20_000), False), (bytes(1_000_000), False), (bytes(2_000_000), True)):
        answer = client.post("/v1/embed", content=content)
        assert answer.status_code == 413
        assert (answer.headers.get("connection") == "close") == ends
    asked = client.post("/v1/embed", content=bytes(20_000), headers={"expect": "100-continue"})
    assert asked.headers["connection"] == "close"
    assert "connection" not in client.post("/v1/embed", content=b"Dear reader,").headers


def test_uploads_that_would_not_fit_beside_the_others_are_refused(embedder):
    held = Held(embedder, max_held_mb=0.3)

    async def talk(client: httpx.AsyncClient) -> None:
        half = asyncio.Event()

        async def slowly():
            yield FIVE_S[:100_000]
            await half.wait()
            yield FIVE_S[100_000:]

        slow = post(client, slowly())
        await held.until(lambda: held.pipeline.admission.held_bytes == 100_000)
        assert "too busy: uploads of 0 MB are held" in refused(await post(client, bytes(250_000)), 429)
        held.go.set()
        assert (await post(client, encoded(harmonics(16_000, 1.0)))).status_code == 200
        half.set()
        assert (await slow).status_code == 200
        assert held.pipeline.admission.held_bytes == 0

    held.talk(talk)


def test_draining_finishes_what_was_accepted_and_takes_no_more(embedder):
    held = Held(embedder)

    async def talk(client: httpx.AsyncClient) -> None:
        accepted = post(client, FIVE_S)
        await held.until(lambda: bool(held.calls))
        held.pipeline.admission.draining = True
        assert "shutting down" in refused(answer := await post(client, FIVE_S), 503)
        assert answer.headers["retry-after"] == "1"
        for address in ("/readyz", "/v2/health/ready", "/v2/models/bundle/ready"):
            assert "shutting down" in refused(await client.get(address), 503)
        assert (await client.get("/healthz")).status_code == 200
        held.go.set()
        assert (await accepted).status_code == 200

    held.talk(talk)


def test_a_request_that_the_model_keeps_too_long_is_answered_503_and_dropped(embedder):
    held = Held(embedder, request_timeout_s=0.5, max_batch=1)

    async def talk(client: httpx.AsyncClient) -> None:
        tasks = [post(client, FIVE_S) for _ in range(3)]
        for task in tasks:
            answer = await task
            assert "not answered within 0.5 s" in refused(answer, 503)
            assert answer.headers["retry-after"] == "1"
        assert held.pipeline.admission.seconds == 0
        held.go.set()
        assert (await post(client, FIVE_S)).status_code == 200
        assert held.calls == [1, 1]  # the two that waited never reached the model

    held.talk(talk)


def test_a_client_that_leaves_is_not_worked_for(embedder):
    held = Held(embedder, max_batch=1)

    async def leave(after: Callable[[], bool]) -> None:
        """A request whose client closes the connection when `after` holds."""
        messages = [{"type": "http.request", "body": FIVE_S, "more_body": False}]

        async def receive() -> dict[str, Any]:
            if messages:
                return messages.pop()
            await held.until(after)
            return {"type": "http.disconnect"}

        async def send(message: dict[str, Any]) -> None:
            raise AssertionError("nobody is there to read it")

        scope = {"type": "http", "method": "POST", "path": "/v1/embed", "query_string": b"", "headers": []}
        await held.app(scope, receive, send)

    async def talk(client: httpx.AsyncClient) -> None:
        first = post(client, FIVE_S)
        await held.until(lambda: held.calls == [1])
        await leave(lambda: held.pipeline.admission.seconds == 10)
        assert held.pipeline.admission.seconds == 5
        held.go.set()
        assert (await first).status_code == 200
        assert (await post(client, FIVE_S)).status_code == 200
        assert held.calls == [1, 1]
        metrics = (await client.get("/metrics")).text
        assert 'unheard_requests_total{code="499",route="/v1/embed"} 1.0' in metrics

    held.talk(talk)


def test_no_more_recordings_are_decoded_at_a_time_than_allowed(embedder):
    at_once, most, turn = 0, 0, threading.Condition()

    class Counting(Embedder):
        def prepare_bytes(self, data: bytes, name: str, max_seconds: float | None = None) -> PreparedRecording:
            nonlocal at_once, most
            with turn:
                at_once += 1
                most = max(most, at_once)
                turn.notify_all()
                turn.wait_for(lambda: most >= allowed, 10)  # for as many as may be at once, also on a busy machine
            time.sleep(0.02)  # for one too many
            with turn:
                at_once -= 1
            return super().prepare_bytes(data, name, max_seconds)

    for allowed in (1, 3):
        most = 0
        counting = copy.copy(embedder)
        counting.__class__ = Counting
        app = create_app(Pipeline(counting, Limits(max_decodes=allowed)))

        async def talk(app: Any = app) -> list[int]:
            async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
                return [
                    answer.status_code for answer in await asyncio.gather(*[post(client, FIVE_S) for _ in range(9)])
                ]

        assert asyncio.run(talk()) == [200] * 9
        assert most == allowed


def test_other_requests_are_answered_while_the_model_works(embedder):
    held = Held(embedder)

    async def talk(client: httpx.AsyncClient) -> None:
        upload = post(client, FIVE_S)
        await held.until(lambda: bool(held.calls))
        assert (await client.get("/healthz")).status_code == 200
        assert not upload.done()
        held.go.set()
        assert (await upload).status_code == 200

    held.talk(talk)


def test_a_refusal_waits_for_no_thread(embedder):
    held = Held(embedder, max_queue_seconds=5)

    async def talk(client: httpx.AsyncClient) -> None:
        accepted = [post(client, FIVE_S), post(client, FIVE_S)]  # each counts as half of the queue
        await held.until(lambda: held.pipeline.admission.seconds >= 5)
        limiter = anyio.to_thread.current_default_thread_limiter()
        limiter.total_tokens = 1
        async with limiter:  # no thread is left for frameworks that would like one
            refused(await asyncio.wait_for(post(client, FIVE_S), 20), 429)
            refused(await asyncio.wait_for(client.get("/nothing"), 20), 404)
            refused(await asyncio.wait_for(client.post("/v1/embed?windows=maybe"), 20), 422)
        held.go.set()
        assert [(await task).status_code for task in accepted] == [200, 200]

    held.talk(talk)


def test_readiness_does_not_wait_behind_the_queue_nor_become_work(embedder):
    held = Held(embedder, max_batch=1)

    async def talk(client: httpx.AsyncClient) -> None:
        uploads = [post(client, encoded(harmonics(16_000, 30.0))) for _ in range(3)]
        await held.until(lambda: bool(held.calls) and held.pipeline.admission.seconds == 90)
        ready = [asyncio.create_task(client.get("/readyz")) for _ in range(20)]
        await asyncio.sleep(0.1)
        held.go.set()
        assert {(await task).status_code for task in ready} == {200}
        assert {(await task).status_code for task in uploads} == {200}
        assert len(held.calls) == 19
        assert held.canaries == [1]  # after the window that was under way, and once for all who asked

    held.talk(talk)


def test_retry_after_is_about_as_long_as_an_answer_takes():
    now = 0.0
    admission = Admission(Limits(max_queue_seconds=1), clock=lambda: now)
    for _ in range(50):
        with admission.enter():
            now += 7.0
    with admission.enter() as first, admission.enter() as second:
        first.hold_seconds(2)
        second.hold_seconds(2)
        with pytest.raises(HTTPException) as refusal:
            admission.enter()
    assert refusal.value.headers == {"retry-after": "7"}


def test_what_a_ticket_held_is_given_back_however_its_request_ends():
    admission = Admission(Limits())
    for ending in (ValueError(), asyncio.CancelledError(), HTTPException(429)):
        with contextlib.suppress(type(ending)), admission.enter() as ticket:
            ticket.hold_bytes(1_000)
            ticket.hold_seconds(0.1)
            ticket.hold_seconds(0.3)
            assert admission.seconds == 0.3
            raise ending
    assert (admission.tickets, admission.seconds, admission.held_bytes) == (0, 0, 0)
