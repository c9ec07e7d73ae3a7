"""The readiness check: a fixed sound must give the embedding that it gave when the server started."""

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import numpy as np
from fastapi import Request
from fastapi.responses import JSONResponse

from serving.embedder import Embedder
from serving.probes import probe_windows
from serving.server.batching import Batched, Batcher
from serving.server.error_responses import error_response, log_fault

REUSE_S = 1.0  # a result is reused for this long, so that frequent checks do not become load
PROBE = "chirp 50 Hz to 8 kHz"  # one of the parity probes
# Relative to the embedding's length. Half-precision models differ by less between batches, broken ones by more.
TOLERANCE = 0.01


class ReadinessCheck:
    """One window of a fixed sound, and its embedding at the start.

    errors   RuntimeError: the model does not work
    """

    def __init__(self, embedder: Embedder, batcher: Batcher, clock: Callable[[], float] = time.perf_counter):
        names, windows = probe_windows(embedder.manifest.window)
        self._probe = windows[[names.index(PROBE)]]  # [1, samples]
        self._embedder = embedder
        self._batcher = batcher
        self._clock = clock
        self._reference = embedder.run(self._probe)[0]  # [size]
        if self._reference.shape != (embedder.manifest.embedding_size,) or not np.isfinite(self._reference).all():
            raise RuntimeError(f"the model gives no embedding of a test sound but {self._reference}")
        self._future: Future[Batched] | None = None
        self._started = 0.0

    async def check(self) -> None:
        """Embed the sound before all requests that wait.

        errors   RuntimeError: the embedding differs from the one at the start; else what the model raises
        """
        if self._future is None or (self._future.done() and self._clock() - self._started > REUSE_S):
            self._started = self._clock()
            self._future = self._batcher.submit(self._embedder.prepare(self._probe), first=True)
        batched = await asyncio.shield(asyncio.wrap_future(self._future))  # other checks may wait for it too
        difference, length = np.linalg.norm(batched.rows[0] - self._reference), np.linalg.norm(self._reference)
        if not difference <= TOLERANCE * length:
            raise RuntimeError(
                f"a test sound's embedding, {length:.4g} long at the start, is off by {difference:.4g} now"
            )

    async def answer(self, request: Request, draining: bool, content: dict[str, Any]) -> JSONResponse:
        """A response with this content if the server can take requests, else 503."""
        if draining:
            return error_response(request, 503, "not ready: the server is shutting down")
        try:
            await self.check()
        except Exception as error:  # every error here is the server's
            return error_response(request, 503, f"not ready: {log_fault(request, error)}")
        return JSONResponse(content)
