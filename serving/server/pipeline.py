"""The stages of a request: admission, upload, decoding, batching, result."""

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, TypeVar

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
from serving.server.decoders import Decoders
from serving.server.limits import Limits
from serving.server.metrics import Metrics
from serving.server.pending import PendingRecording, PendingRecordings
from serving.server.readiness import ReadinessCheck
from serving.server.text_worker import TextWorker
from serving.server.thread_priority import lower_thread_priority
from serving.server.tracing import Tracing
from serving.server.upload import UploadedFile, UploadedFiles, read_files

if TYPE_CHECKING:
    from serving.search.search_index import SearchIndex

Result = TypeVar("Result")

LONG_S = 30.0  # a recording beyond it is decoded beside short ones, not before them


@dataclass(frozen=True)
class EmbeddedUpload:
    """One recording and the embeddings of its windows.

    rows                 [n_windows, size] float32
    queue_ms, model_ms   as in `Batched`
    """

    recording: PreparedRecording
    rows: NDArray[np.float32]
    queue_ms: float
    model_ms: float

    @property
    def stages_ms(self) -> dict[str, float]:
        """The time of each stage, in milliseconds."""
        return self.recording.milliseconds | {"queue": self.queue_ms, "model": self.model_ms}


@dataclass(frozen=True)
class UploadResult:
    """The outcomes of a request's files, in their order: each file embedded, or the reason why it was not.

    is_list  the request sent a list of files; otherwise there is one outcome, and it is embedded
    """

    names: list[str]
    outcomes: list[EmbeddedUpload | AudioError]
    is_list: bool


class Pipeline:
    """Threads, queues and perhaps processes between the requests and an embedder. Its coroutines run in one event loop.

    earlier  the pipeline that this one takes over from: they share the admission, the metrics and the tracing
    tracing  None: no spans are sent
    index    of sounds that the embedder's model embedded; None: there is none to search
    """

    def __init__(
        self,
        embedder: Embedder,
        limits: Limits,
        earlier: "Pipeline | None" = None,
        tracing: Tracing | None = None,
        index: "SearchIndex | None" = None,
    ):
        self.embedder = embedder
        self.index = index
        self.limits = limits
        self.admission = earlier.admission if earlier else Admission(limits)
        self.metrics = earlier.metrics if earlier else Metrics(self.admission)
        self.tracing = earlier.tracing if earlier else tracing or Tracing()
        processes = limits.processes or 1
        decodes = limits.max_decodes or max(usable_cores(), processes)
        self._decoders: Decoders | None = None
        if min(processes, decodes) > 1:
            decodes = min(processes, decodes)
            # Before any thread starts: a process that cannot start must leave none behind.
            window, front_end = embedder.manifest.window, embedder.runtime.front_end
            self._decoders = Decoders(window, front_end, decodes, self.metrics.decode_process_ends.inc)
        self.max_batch = limits.max_batch or embedder.max_batch
        self.batcher = Batcher(embedder.network, self.max_batch, limits.max_wait_ms / 1000, self.metrics.on_batch)
        self.text = TextWorker(embedder, self.admission.busy)
        # Audio headers are read in a thread of their own: so the length of a file is known before a decoder is free.
        self._headers = ThreadPoolExecutor(1, "header")
        self._decodes = ThreadPoolExecutor(decodes, "decode", lower_thread_priority)
        # A long recording takes seconds to decode, above all one of many channels: such leave a decoder to the others.
        self._long_decodes = asyncio.Semaphore(max(1, decodes // 2))
        # A decoder thread may also run the model if another one is left to decode.
        self._decoders_run_model = decodes > 1
        if earlier is None:
            self.announce()

    def announce(self) -> None:
        """Let the metrics show this pipeline."""
        manifest = self.embedder.manifest
        self.metrics.describe(
            {
                "network": manifest.network,
                "embedding_space": manifest.embedding_space,
                "backend": self.embedder.backend,
                "precision": self.embedder.precision,
            }
        )
        self.metrics.watch("queued_label_characters", "characters of typed labels that wait", lambda: self.text.waiting)

    @cached_property
    def readiness(self) -> ReadinessCheck:
        """The readiness check. RuntimeError on the first use: the model does not work."""
        return ReadinessCheck(self.embedder, self.batcher, self.text)

    def close(self) -> None:
        """Finish the accepted requests and end the threads and processes."""
        for threads in (self._headers, self._decodes):
            threads.shutdown(cancel_futures=True)
        if self._decoders:
            self._decoders.close()
        self.text.close()
        self.batcher.close()

    async def embed_files(self, request: Request) -> UploadResult:
        """Read a request's recordings and embed their windows.

        errors   HTTPException: 4xx or 503, see `Admission.enter`, `Ticket` and `read_files`; 413: the files together
                 hold more sound than one request may have; AudioError: the only file cannot be used
        """
        with self.admission.enter() as ticket:
            upload = await read_files(request, self.limits, ticket)
            names, is_list = [file.name for file in upload.files], upload.is_list
            with PendingRecordings() as pending:
                submitted = await self._submit_recordings(upload, ticket, pending)
                del upload
                ticket.release_bytes()
                outcomes = [
                    each if isinstance(each, AudioError) else await self._await_recording(each) for each in submitted
                ]
        seconds = sum(each.recording.duration_s for each in pending.submitted)
        request.state.log |= {"files": len(names), "audio_s": round(seconds, 3), "stages_ms": _stages_ms(outcomes)}
        return UploadResult(names, outcomes, is_list)

    async def embed_windows(self, windows: NDArray[np.float32]) -> Batched:
        """Embed windows [n, samples] float32, n >= 1, in batches shared with other requests.

        A cancelled call drops the windows that no batch has taken yet.
        errors   those of the future of `Batcher.submit`
        """
        inputs = await self.decode(lambda: self.embedder.prepare(windows))
        return await self._await_batch(self.batcher.submit(inputs))

    async def decode(self, work: Callable[[], Result]) -> Result:
        """Run work in one of the decoder threads and return its result."""
        return await _run_in(self._decodes, work)

    async def _await_batch(self, future: Future[Batched]) -> Batched:
        batched = future.result() if future.done() else await asyncio.wrap_future(future)
        self.metrics.queue_seconds.observe(batched.queue_ms / 1000)
        return batched

    async def _await_recording(self, pending: PendingRecording) -> EmbeddedUpload:
        batched = await self._await_batch(pending.future)
        return EmbeddedUpload(pending.recording, batched.rows, batched.queue_ms, batched.model_ms)

    async def _submit_recordings(
        self, upload: UploadedFiles, ticket: Ticket, pending: PendingRecordings
    ) -> list[PendingRecording | AudioError]:
        """Decode every file and submit its windows.

        returns  for each file the submitted recording, or the error of a file in a list
        errors   AudioError: the only file cannot be used
        """
        known: list[float] = []
        if upload.is_list or self.admission.tickets > 1:  # a single recording in an idle server may have any length
            known = await _run_in(self._headers, lambda: [header_seconds(file.data) or 0.0 for file in upload.files])
            # A file that is too long by itself does not count here: decoding it raises DurationError.
            claimed = sum(seconds for seconds in known if 0 < seconds <= self.limits.max_seconds)
            self._check_together(claimed, upload)
            ticket.expect_seconds(claimed)
        if not upload.is_list:
            is_long = bool(known) and known[0] > LONG_S
            return [await self._submit_recording(upload.files[0], is_long, upload, ticket, pending)]

        async def submit(file: UploadedFile, seconds: float) -> PendingRecording | AudioError:
            try:
                return await self._submit_recording(file, seconds > LONG_S, upload, ticket, pending)
            except AudioError as error:
                return error

        tasks = [asyncio.ensure_future(submit(*each)) for each in zip(upload.files, known, strict=True)]
        try:
            return await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()

    async def _submit_recording(
        self, file: UploadedFile, is_long: bool, upload: UploadedFiles, ticket: Ticket, pending: PendingRecordings
    ) -> PendingRecording:
        """is_long: it may last longer than LONG_S; of such recordings not all decoders are used."""
        prepare_bytes = self._decoders.prepare if self._decoders else self.embedder.prepare_bytes

        def decode_and_submit() -> PendingRecording | None:
            recording = prepare_bytes(file.data, file.name, self.limits.max_seconds)
            self.admission.defer(lambda: self._count(recording, upload, ticket, pending))
            # An idle model runs in this thread, which is awake already.
            here = self._decoders_run_model and not upload.is_list
            return pending.submit(recording, lambda: self.batcher.submit(recording.inputs, here=here))

        async with self._long_decodes if is_long else nullcontext():
            recording = await self.decode(decode_and_submit)
        self.admission.run_deferred()
        if pending.refusal:
            raise pending.refusal
        assert recording is not None, "while this waits, only a refusal ends the request"
        return recording

    def _count(
        self, recording: PreparedRecording, upload: UploadedFiles, ticket: Ticket, pending: PendingRecordings
    ) -> None:
        """Count a decoded recording in the metrics and in the request's ticket."""
        self.metrics.decode_seconds.observe(sum(recording.milliseconds.values()) / 1000)
        ticket.decoded_s += recording.duration_s
        if not pending.ended:
            try:
                self._check_together(ticket.decoded_s, upload)
                ticket.hold_seconds(ticket.decoded_s)
            except HTTPException as error:
                pending.end(error)

    def _check_together(self, seconds: float, upload: UploadedFiles) -> None:
        """Refuse a list of files with more sound than one request may have. HTTPException 413."""
        if upload.is_list and seconds > self.limits.max_seconds:
            most = f"{self.limits.max_seconds:g} s"
            raise HTTPException(
                413, f"{len(upload.files)} files: last more than {most} together, the most here; send fewer at a time"
            )


def _stages_ms(outcomes: Sequence[EmbeddedUpload | AudioError]) -> dict[str, float]:
    """The time of each stage, in milliseconds, of all recordings together."""
    total: Counter[str] = Counter()
    for outcome in outcomes:
        if isinstance(outcome, EmbeddedUpload):
            total.update(outcome.stages_ms)
    return {stage: round(ms, 3) for stage, ms in total.items()}


async def _run_in(threads: Executor, work: Callable[[], Result]) -> Result:
    return await asyncio.get_running_loop().run_in_executor(threads, work)
