"""The readiness check: a fixed sound and a fixed text must give the vectors that they gave when the server started."""

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import numpy as np
from fastapi import Request
from fastapi.responses import JSONResponse
from numpy.typing import NDArray

from serving.embedder import Embedder
from serving.probes import probe_windows
from serving.server.batching import Batched, Batcher
from serving.server.error_responses import error_response, log_fault
from serving.server.text_worker import TextWorker

REUSE_S = 1.0  # a result is reused for this long, so that frequent checks do not become load
PROBE = "chirp 50 Hz to 8 kHz"  # one of the parity probes
# Relative to the embedding's length. Half-precision models differ by less between batches, broken ones by more.
TOLERANCE = 0.01
PROBE_TEXT = "a bell"


class ReadinessCheck:
    """One window of a fixed sound, and its embedding at the start; and the same of a text, if typed labels are known.

    errors   RuntimeError: a model does not work
    """

    def __init__(
        self, embedder: Embedder, batcher: Batcher, text: TextWorker, clock: Callable[[], float] = time.perf_counter
    ):
        names, windows = probe_windows(embedder.manifest.window)
        self._probe = windows[[names.index(PROBE)]]  # [1, samples]
        self._embedder = embedder
        self._batcher = batcher
        self._text = text
        self._clock = clock
        self._reference = embedder.run(self._probe)[0]  # [size]
        if self._reference.shape != (embedder.manifest.embedding_size,) or not np.isfinite(self._reference).all():
            raise RuntimeError(f"the model gives no embedding of a test sound but {self._reference}")
        self._text_reference = (
            embedder.labels.encode_afresh([PROBE_TEXT])[0] if embedder.labels.has_open_text_model else None
        )
        self._future: Future[Batched] | None = None
        self._text_future: Future[NDArray[np.float32]] | None = None
        self._started = 0.0

    async def check(self) -> None:
        """Embed the sound, and encode the text, before all requests that wait.

        errors   RuntimeError: the result differs from the one at the start; else what the model raises
        """
        if self._future is None or (self._future.done() and self._clock() - self._started > REUSE_S):
            self._started = self._clock()
            self._future = self._batcher.submit(self._embedder.prepare(self._probe), first=True)
            if self._text_reference is not None and (self._text_future is None or self._text_future.done()):
                self._text_future = self._text.submit(
                    lambda: self._embedder.labels.encode_afresh([PROBE_TEXT]), first=True
                )
        batched = await asyncio.shield(asyncio.wrap_future(self._future))  # other checks may wait for it too
        _compare("a test sound's embedding", batched.rows[0], self._reference)
        if self._text_future is not None and self._text_reference is not None:
            vectors = await asyncio.shield(asyncio.wrap_future(self._text_future))
            _compare("a test label's vector", vectors[0], self._text_reference)

    async def problem(self, draining: bool, request_id: str) -> str | None:
        """Why the server cannot take requests; None: it can. A fault is logged with the request's id."""
        if draining:
            return "not ready: the server is shutting down"
        try:
            await self.check()
        except Exception as error:  # every error here is the server's
            return f"not ready: {log_fault(request_id, 'readiness', error)}"
        return None

    async def answer(self, request: Request, draining: bool, content: dict[str, Any]) -> JSONResponse:
        """A response with this content if the server can take requests, else 503."""
        problem = await self.problem(draining, request.state.request_id)
        return error_response(request, 503, problem) if problem else JSONResponse(content)


def _compare(name: str, now: NDArray[np.float32], reference: NDArray[np.float32]) -> None:
    difference, length = np.linalg.norm(now - reference), np.linalg.norm(reference)
    if not difference <= TOLERANCE * length:
        raise RuntimeError(f"{name}, {length:.4g} long at the start, is off by {difference:.4g} now")
