"""Reload: open a bundle and the keys again, and swap them in without a failed request."""

import asyncio
import logging
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from queue import SimpleQueue
from traceback import clear_frames

from fastapi import FastAPI
from starlette.types import Receive, Scope, Send

from serving.errors import UnheardError
from serving.memory import trim_memory
from serving.server.api_keys import ApiKeys
from serving.server.app_state import drop_pipeline
from serving.server.pipeline import Pipeline
from serving.server.thread_priority import lower_thread_priority

logger = logging.getLogger(__name__)


@dataclass(eq=False)
class Generation:
    """An application, its pipeline and its keys, from a start or a reload.

    keys     None: all requests are answered
    running  requests that it has not finished
    """

    app: FastAPI
    pipeline: Pipeline
    keys: ApiKeys | None
    running: int = 0
    is_replaced: bool = False

    def close_if_finished(self) -> None:
        """Free a replaced generation when its last request ends."""
        if self.is_replaced and not self.running:
            threading.Thread(target=self._close, name="close").start()

    def _close(self) -> None:
        self.pipeline.close()
        drop_pipeline(self.app)
        trim_memory()


class ReloadableApp:
    """An ASGI application that can be replaced. Requests under way finish where they began.

    loop  that of the requests, once they are answered
    """

    def __init__(self, first: Generation):
        self.current = first
        self.loop: asyncio.AbstractEventLoop | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self.use() as generation:
            # A copy: the application writes itself into it, and an idle connection keeps that of its last request.
            await generation.app({**scope}, receive, send)

    @contextmanager
    def use(self) -> Iterator[Generation]:
        """The current generation, for one request: it is not closed before the context ends."""
        generation = self.current
        generation.running += 1
        try:
            yield generation
        finally:
            generation.running -= 1
            generation.close_if_finished()

    def replace(self, new: Generation) -> None:
        """Give new requests to another generation. Only in the event loop's thread."""
        old, self.current = self.current, new
        new.pipeline.announce()
        old.is_replaced = True
        old.close_if_finished()

    def replace_from_thread(self, new: Generation) -> None:
        """As `replace`, in another thread than the event loop's."""
        assert self.loop is not None, "requests are answered already"
        done: Future[None] = Future()
        self.loop.call_soon_threadsafe(lambda: done.set_result(self.replace(new)))
        done.result()


class Reloader:
    """A thread that makes new generations, one after the other. Those asked for meanwhile with one bundle count as one.

    make  makes the next generation from the present one and the folder of a bundle; None: the present folder.
          UnheardError: it is refused
    swap  gives new requests to it; called in this thread
    """

    def __init__(
        self,
        app: ReloadableApp,
        make: Callable[[Generation, Path | None], Generation],
        swap: Callable[[Generation], object],
    ):
        self._app = app
        self._make = make
        self._swap = swap
        self._asked: SimpleQueue[tuple[Path | None, Future[Generation]]] = SimpleQueue()
        threading.Thread(target=self._work, name="reload", daemon=True).start()

    def ask(self, bundle: Path | None = None) -> Future[Generation]:
        """Reload soon. A signal handler may call it.

        bundle   the folder to serve from now on; None: the present one
        returns  a future with the new generation, which has the new requests; or with what `make` raised
        """
        outcome: Future[Generation] = Future()
        self._asked.put((bundle, outcome))
        return outcome

    def _work(self) -> None:
        lower_thread_priority()
        while True:
            asked = [self._asked.get()]
            while not self._asked.empty():
                asked.append(self._asked.get())
            for bundle, group in groupby(asked, key=lambda pair: pair[0]):
                self._reload(bundle, [outcome for _, outcome in group])

    def _reload(self, bundle: Path | None, outcomes: list[Future[Generation]]) -> None:
        reloads = self._app.current.pipeline.metrics.reloads
        # One whose client has gone is cancelled, and takes no result.
        waited_for = [outcome for outcome in outcomes if outcome.set_running_or_notify_cancel()]
        try:
            new = self._make(self._app.current, bundle)
            self._swap(new)
        except Exception as error:  # the server must survive it
            if isinstance(error, UnheardError):
                reloads.labels("refused").inc()
                logger.error("reload refused, the bundle and the keys stay as they were: %s", error)
            else:
                reloads.labels("failed").inc()
                logger.error("reload failed, the bundle and the keys stay as they were", exc_info=error)
            clear_frames(error.__traceback__)  # otherwise the error keeps what was opened before it
            for outcome in waited_for:
                outcome.set_exception(error)
            return
        reloads.labels("done").inc()
        opened = new.pipeline.embedder.bundle
        about = {"embedding_space": opened.manifest.embedding_space, "bundle": str(opened.folder)}
        logger.info("reloaded", extra=about)
        for outcome in waited_for:
            outcome.set_result(new)
