"""Reload on SIGHUP: open the bundle and the keys again, and swap them in without a failed request."""

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from starlette.types import ASGIApp, Receive, Scope, Send

from serving.errors import UnheardError
from serving.server.api_keys import ApiKeys
from serving.server.pipeline import Pipeline
from serving.server.thread_priority import lower_thread_priority

logger = logging.getLogger(__name__)


@dataclass(eq=False)
class Generation:
    """An application, its pipeline and its keys, from a start or a reload.

    keys     None: all requests are answered
    running  requests that it has not finished
    """

    app: ASGIApp
    pipeline: Pipeline
    keys: ApiKeys | None
    running: int = 0
    is_replaced: bool = False

    def close_if_finished(self) -> None:
        """Free a replaced generation when its last request ends."""
        if self.is_replaced and not self.running:
            threading.Thread(target=self.pipeline.close, name="close").start()


class ReloadableApp:
    """An ASGI application that can be replaced. Requests under way finish where they began."""

    def __init__(self, first: Generation):
        self.current = first

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self.use() as generation:
            await generation.app(scope, receive, send)

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


class Reloader:
    """A thread that makes a new generation each time that it is asked to; several requests at once count as one.

    make  makes the next generation from the present one. UnheardError: it is refused
    swap  called with it in this thread
    """

    def __init__(
        self, app: ReloadableApp, make: Callable[[Generation], Generation], swap: Callable[[Generation], object]
    ):
        self._app = app
        self._make = make
        self._swap = swap
        self._asked = threading.Event()
        threading.Thread(target=self._work, name="reload", daemon=True).start()

    def ask(self) -> None:
        """Reload soon. A signal handler may call it."""
        self._asked.set()

    def _work(self) -> None:
        lower_thread_priority()
        while self._asked.wait():
            self._asked.clear()
            reloads = self._app.current.pipeline.metrics.reloads
            try:
                new = self._make(self._app.current)
            except UnheardError as error:
                reloads.labels("refused").inc()
                logger.error("reload refused, the bundle and the keys stay as they were: %s", error)
            except Exception as error:  # the server must survive it
                reloads.labels("failed").inc()
                logger.error("reload failed, the bundle and the keys stay as they were", exc_info=error)
            else:
                self._swap(new)
                reloads.labels("done").inc()
                space = new.pipeline.embedder.manifest.embedding_space
                logger.info("reloaded", extra={"embedding_space": space})
