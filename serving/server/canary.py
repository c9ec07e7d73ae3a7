"""Whether the model still works: the embedding of a fixed sound, compared with what it was when the server started."""

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
from serving.server.failures import failure, unexpected

KEPT_S = 1.0  # whoever asks sooner gets the last answer: asking must not become work
SOUND = "chirp 50 Hz to 8 kHz"  # of the parity probes
# Of the embedding's length. Half-precision models differ by less from batch to batch, broken ones by more.
TOLERANCE = 0.01


class Canary:
    """One window of a fixed sound and its embedding at the start.

    errors   RuntimeError: the model does not work
    """

    def __init__(self, embedder: Embedder, batcher: Batcher, clock: Callable[[], float] = time.perf_counter):
        names, windows = probe_windows(embedder.manifest.window)
        self._sound = windows[[names.index(SOUND)]]  # [1, samples]
        self._embedder = embedder
        self._batcher = batcher
        self._clock = clock
        self._reference = embedder.run(self._sound)[0]  # [size]
        if self._reference.shape != (embedder.manifest.embedding_size,) or not np.isfinite(self._reference).all():
            raise RuntimeError(f"the model gives no embedding of a test sound but {self._reference}")
        self._future: Future[Batched] | None = None
        self._asked = 0.0

    async def check(self) -> None:
        """Embed the sound, ahead of all requests that wait.

        errors   RuntimeError: another embedding than at the start; else what the model raises
        """
        if self._future is None or (self._future.done() and self._clock() - self._asked > KEPT_S):
            self._asked = self._clock()
            self._future = self._batcher.submit(self._embedder.prepare(self._sound), first=True)
        batched = await asyncio.shield(asyncio.wrap_future(self._future))  # others may wait for it too
        off, length = np.linalg.norm(batched.rows[0] - self._reference), np.linalg.norm(self._reference)
        if not off <= TOLERANCE * length:
            raise RuntimeError(f"a test sound's embedding, {length:.4g} long at the start, is off by {off:.4g} now")

    async def answer(self, request: Request, draining: bool, content: dict[str, Any]) -> JSONResponse:
        """This content where the server can take requests, else 503."""
        if draining:
            return failure(request, 503, "not ready: the server is shutting down")
        try:
            await self.check()
        except Exception as error:  # whatever it is, it is ours, and the answer is the same
            return failure(request, 503, f"not ready: {unexpected(request, error)}")
        return JSONResponse(content)
