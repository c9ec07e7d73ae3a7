"""A transport that closes without destroying the response on its way."""

import asyncio
from collections.abc import Callable
from typing import Any

LINGER_S = 5.0  # for which the rest of a refused upload is read and discarded, so that its client sees the response


class LingeringTransport:
    """A transport whose close() lets a client finish sending, and aborts if the client does not read the response.

    Closing while the client sends makes the operating system answer with a reset, which can destroy the response.
    """

    def __init__(self, transport: asyncio.Transport, has_input_left: Callable[[], bool], write_timeout_s: float):
        """has_input_left: whether the client is still sending."""
        self._transport = transport
        self._has_input_left = has_input_left
        self._write_timeout_s = write_timeout_s
        self.lingers = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def is_closing(self) -> bool:
        """Whether the connection is closed or about to be."""
        return self.lingers or self._transport.is_closing()

    def close(self) -> None:
        """Close now, or after the client has sent the rest."""
        if self.is_closing() or not self._has_input_left():
            self._transport.close()
            if self._transport.get_write_buffer_size():
                asyncio.get_running_loop().call_later(self._write_timeout_s, self._transport.abort)
            return
        self.lingers = True
        self._transport.write_eof()
        asyncio.get_running_loop().call_later(LINGER_S, self._transport.abort)
