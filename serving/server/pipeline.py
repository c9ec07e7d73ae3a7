"""The way of every request: admitted, read, decoded, batched with others, and let go."""

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from starlette.exceptions import HTTPException
from starlette.requests import Request

from serving.audio import header_seconds
from serving.cores import usable_cores
from serving.embedder import Embedder
from serving.errors import AudioError
from serving.server.admission import Admission, Ticket
from serving.server.batching import Batched, Batcher
from serving.server.clip import Clip, read_clip
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

    clip: Clip
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
        self.batcher = Batcher(embedder.runtime, max_batch, limits.max_wait_ms / 1000, self.metrics.on_batch)
        # Headers are read at once, while decoding waits for its turn: that is how long the queue is known.
        self._headers = ThreadPoolExecutor(1, "header")
        self._decodes = ThreadPoolExecutor(limits.max_decodes or usable_cores(), "decode", step_back)

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
            outcomes = await self._read_clips(upload, ticket)
            clips = [clip for clip in outcomes if isinstance(clip, Clip)]
            names, several = [file.name for file in upload.files], upload.several
            del upload
            ticket.release_bytes()
            heard = iter(await self._embed_clips(clips))
        request.state.log |= {"files": len(names), "audio_s": round(sum(clip.duration_s for clip in clips), 3)}
        return Answer(names, [next(heard) if isinstance(clip, Clip) else clip for clip in outcomes], several)

    async def embed(self, windows: NDArray[np.float32]) -> Batched:
        """Embed windows [n, samples] float32, n >= 1, in company; nobody waiting for them any more, they are dropped.

        errors   as the future of `Batcher.submit`
        """
        batched = await asyncio.wrap_future(self.batcher.submit(windows))
        self.metrics.queue_seconds.observe(batched.queue_ms / 1000)
        return batched

    async def decode(self, work: Callable[[], Result]) -> Result:
        """The result of work that costs as much as decoding a recording, in one of the threads for that."""
        return await _in(self._decodes, work)

    async def _read_clips(self, upload: Upload, ticket: Ticket) -> list[Clip | AudioError]:
        """Every file decoded and cut, or the reason why not, which is raised where there is but one."""
        if upload.several or self.admission.tickets > 1:  # one recording alone may be of any length
            known = await _in(self._headers, lambda: [header_seconds(file.data) or 0.0 for file in upload.files])
            # A file that is too long by itself is not decoded, and tells so itself.
            self._hold(ticket, sum(seconds for seconds in known if 0 < seconds <= self.limits.max_seconds), upload)
        found = 0.0

        async def read(file: File) -> Clip | AudioError:
            nonlocal found
            try:
                clip = await self.decode(lambda: read_clip(file, self.embedder, self.limits.max_seconds))
            except AudioError as error:
                if not upload.several:
                    raise
                return error
            self.metrics.decode_seconds.observe((clip.decode_ms + clip.resample_ms) / 1000)
            found += clip.duration_s
            self._hold(ticket, max(found, ticket.seconds), upload)
            return clip

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

    async def _embed_clips(self, clips: list[Clip]) -> list[Heard]:
        if not clips:
            return []
        windows = clips[0].windows if len(clips) == 1 else np.concatenate([clip.windows for clip in clips])
        batched = await self.embed(windows)
        ends = np.cumsum([len(clip.windows) for clip in clips])[:-1]
        return [
            Heard(clip, rows, batched.queue_ms, batched.model_ms)
            for clip, rows in zip(clips, np.split(batched.rows, ends), strict=True)
        ]


async def _in(threads: Executor, work: Callable[[], Result]) -> Result:
    return await asyncio.get_running_loop().run_in_executor(threads, work)
