"""The way of every request: admitted, read, decoded, batched with others, and let go."""

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from starlette.exceptions import HTTPException
from starlette.requests import Request

from serving.audio import PreparedRecording, header_seconds
from serving.cores import usable_cores
from serving.embedder import Embedder
from serving.errors import AudioError
from serving.server.admission import Admission, Ticket
from serving.server.batching import Batched, Batcher
from serving.server.limits import Limits
from serving.server.metrics import Metrics
from serving.server.priority import step_back
from serving.server.upload import File, Upload, read_upload

Result = TypeVar("Result")


@dataclass(frozen=True)
class Heard:
    """One recording and the embeddings of its windows.

    rows      [n_windows, size] float32
    queue_ms, model_ms   of the request that it came with, see `Batched`
    """

    recording: PreparedRecording
    rows: NDArray[np.float32]
    queue_ms: float
    model_ms: float


@dataclass(frozen=True)
class Answer:
    """What a request's files gave, in their order: each heard, or the reason why not.

    several  the request sent a list; without it there is one outcome, and it is heard
    """

    names: list[str]
    outcomes: list[Heard | AudioError]
    several: bool


class Pipeline:
    """Threads and queues between the requests and an embedder. Its coroutines are for one event loop."""

    def __init__(self, embedder: Embedder, limits: Limits):
        self.embedder = embedder
        self.limits = limits
        self.admission = Admission(limits)
        manifest = embedder.manifest
        self.metrics = Metrics(
            self.admission,
            {
                "network": manifest.network,
                "embedding_space": manifest.embedding_space,
                "backend": embedder.backend,
                "precision": embedder.precision,
            },
        )
        max_batch = limits.max_batch or embedder.max_batch
        self.batcher = Batcher(embedder.network, max_batch, limits.max_wait_ms / 1000, self.metrics.on_batch)
        # Headers are read at once, while decoding waits for its turn: that is how long the queue is known.
        self._headers = ThreadPoolExecutor(1, "header")
        decodes = limits.max_decodes or usable_cores()
        self._decodes = ThreadPoolExecutor(decodes, "decode", step_back)
        self._runs_model = decodes > 1  # a thread that decodes may run the model: another is there to go on decoding

    def close(self) -> None:
        """Finish what was accepted and end the threads."""
        for threads in (self._headers, self._decodes):
            threads.shutdown(cancel_futures=True)
        self.batcher.close()

    async def hear(self, request: Request) -> Answer:
        """Read a request's recordings and embed their windows.

        errors   HTTPException: 4xx or 503, see `Admission.enter`, `Ticket` and `read_upload`; 413: more sound in all
                 files than one request may have; AudioError: the one file cannot be used
        """
        with self.admission.enter() as ticket:
            upload = await read_upload(request, self.limits, ticket)
            names, several = [file.name for file in upload.files], upload.several
            with _Company() as company:
                outcomes = await self._bring_clips(upload, ticket, company)
                del upload
                ticket.release_bytes()
                heard = [each if isinstance(each, AudioError) else await self._hear(each) for each in outcomes]
        seconds = sum(each.recording.duration_s for each in company.brought)
        request.state.log |= {"files": len(names), "audio_s": round(seconds, 3)}
        return Answer(names, heard, several)

    async def embed(self, windows: NDArray[np.float32]) -> Batched:
        """Embed windows [n, samples] float32, n >= 1, in company; nobody waiting for them any more, they are dropped.

        errors   as the future of `Batcher.submit`
        """
        inputs = await self.decode(lambda: self.embedder.prepare(windows))
        return await self._embedded(self.batcher.submit(inputs))

    async def _embedded(self, rows: Future[Batched]) -> Batched:
        batched = rows.result() if rows.done() else await asyncio.wrap_future(rows)
        self.metrics.queue_seconds.observe(batched.queue_ms / 1000)
        return batched

    async def _hear(self, brought: "_Brought") -> Heard:
        batched = await self._embedded(brought.rows)
        return Heard(brought.recording, batched.rows, batched.queue_ms, batched.model_ms)

    async def decode(self, work: Callable[[], Result]) -> Result:
        """The result of work that costs as much as decoding a recording, in one of the threads for that."""
        return await _in(self._decodes, work)

    async def _bring_clips(self, upload: Upload, ticket: Ticket, company: "_Company") -> "list[_Brought | AudioError]":
        """Every file decoded, cut and on its way to the model, or the reason why not: raised where there is but one."""
        if upload.several or self.admission.tickets > 1:  # one recording alone may be of any length
            known = await _in(self._headers, lambda: [header_seconds(file.data) or 0.0 for file in upload.files])
            # A file that is too long by itself is not decoded, and tells so itself.
            self._hold(ticket, sum(seconds for seconds in known if 0 < seconds <= self.limits.max_seconds), upload)
        found = 0.0

        def bring(file: File) -> _Brought | None:
            recording = self.embedder.prepare_bytes(file.data, file.name, self.limits.max_seconds)
            self.admission.tell(lambda: count(recording))
            # With nobody else there this thread, which is awake, runs the model too.
            here = self._runs_model and not upload.several
            return company.bring(recording, lambda: self.batcher.submit(recording.inputs, here=here))

        def count(recording: PreparedRecording) -> None:
            nonlocal found
            self.metrics.decode_seconds.observe(sum(recording.milliseconds.values()) / 1000)
            found += recording.duration_s
            if not company.ended:
                try:
                    self._hold(ticket, max(found, ticket.seconds), upload)
                except HTTPException as error:
                    company.end(error)

        async def read(file: File) -> _Brought | AudioError:
            try:
                each = await self.decode(lambda: bring(file))
            except AudioError as error:
                if not upload.several:
                    raise
                return error
            self.admission.catch_up()
            if company.refusal:
                raise company.refusal
            assert each is not None, "only a refusal ends the company while this waits"
            return each

        if not upload.several:
            return [await read(upload.files[0])]
        tasks = [asyncio.ensure_future(read(file)) for file in upload.files]
        try:
            return await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()

    def _hold(self, ticket: Ticket, seconds: float, upload: Upload) -> None:
        if upload.several and seconds > self.limits.max_seconds:
            most = f"{self.limits.max_seconds:g} s"
            raise HTTPException(
                413, f"{len(upload.files)} files: last more than {most} together, the most here; send fewer at a time"
            )
        ticket.hold_seconds(seconds)


@dataclass(frozen=True)
class _Brought:
    """A recording whose windows are with the batcher."""

    recording: PreparedRecording
    rows: Future[Batched]


class _Company:
    """The recordings of one request; when it ends, however it does, nobody waits for their windows any more.

    refusal  why it ended before its time
    """

    def __init__(self):
        self.brought: list[_Brought] = []
        self.refusal: HTTPException | None = None
        self.ended = False

    def __enter__(self) -> "_Company":
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def end(self, refusal: HTTPException | None = None) -> None:
        """Take back what is with the batcher."""
        self.ended, self.refusal = True, self.refusal or refusal
        for each in self.brought:
            each.rows.cancel()  # does nothing where they are there

    def bring(self, recording: PreparedRecording, submit: Callable[[], Future[Batched]]) -> _Brought | None:
        """Submit a recording's windows; None: the request ended while it was decoded."""
        if self.ended:
            return None
        self.brought.append(_Brought(recording, submit()))
        return self.brought[-1]


async def _in(threads: Executor, work: Callable[[], Result]) -> Result:
    return await asyncio.get_running_loop().run_in_executor(threads, work)
