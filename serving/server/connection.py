"""One TCP connection: what uvicorn does, and an end to waiting for a client that sends nothing, or without end."""

import asyncio
from collections.abc import Callable
from typing import Any

from uvicorn.protocols.http.auto import AutoHTTPProtocol

Base: Any = AutoHTTPProtocol  # httptools' where that is installed, else h11's; both have what is used here
LINGER_S = 5.0  # in which the rest of a refused upload is read and thrown away, so that its client sees the refusal


def connection_class(timeout_s: float) -> type[asyncio.Protocol]:
    """A protocol for `uvicorn.Config(http=...)`.

    timeout_s   for the headers of a request, from the connection's start or from the request's first byte
    """

    class Connection(Base):
        """Uvicorn sets a time for idle connections between requests only; the guard sets that of requests."""

        _deadline: asyncio.TimerHandle | None = None

        def connection_made(self, transport: asyncio.Transport) -> None:
            super().connection_made(_Transport(transport, self._rest_to_come))
            self._end_in(timeout_s)

        def connection_lost(self, exc: Exception | None) -> None:
            self._end_in(None)
            super().connection_lost(exc)

        def data_received(self, data: bytes) -> None:
            if self.transport.lingers:
                return
            super().data_received(data)
            if self.cycle is not None and not self.cycle.response_complete:
                self._end_in(None)  # a request is under way
            elif self._deadline is None:
                self._end_in(timeout_s)

        def on_response_complete(self) -> None:
            super().on_response_complete()
            if self.cycle.more_body:
                self._end_in(LINGER_S)

        def _rest_to_come(self) -> bool:
            if self.cycle is None or not self.cycle.more_body:
                return False
            self.flow.resume_reading()
            return True

        def _end_in(self, seconds: float | None) -> None:
            if self._deadline is not None:
                self._deadline.cancel()
            self._deadline = None if seconds is None else self.loop.call_later(seconds, self.transport.abort)

    return Connection


class _Transport:
    """A transport whose close() lets the client finish sending, when it is in the middle of that.

    Closing at once would answer what it still sends with a reset, and that can destroy the answer on its way.
    """

    def __init__(self, transport: asyncio.Transport, rest_to_come: Callable[[], bool]):
        self._transport = transport
        self._rest_to_come = rest_to_come
        self.lingers = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def is_closing(self) -> bool:
        return self.lingers or self._transport.is_closing()

    def close(self) -> None:
        if self.is_closing() or not self._rest_to_come():
            self._transport.close()
            return
        self.lingers = True
        self._transport.write_eof()
