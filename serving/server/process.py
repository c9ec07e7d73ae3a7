"""The server's life as a process: a listening socket, a line when it is ready, a clean end on a signal."""

import asyncio
import errno
import logging
import math
import socket
from collections.abc import Callable
from types import FrameType

import uvicorn
from fastapi import FastAPI

from serving.errors import UsageError
from serving.server.connection import connection_class

KEEP_ALIVE_S = 75  # for idle connections: longer than the 60 s of common load balancers, so that they close first
GRACE_S = 5  # beyond the time that a request may take, when the signal to end comes


def listen(host: str, port: int) -> socket.socket:
    """A listening TCP socket. Port 0 takes a free one.

    errors   UsageError: the port is in use, or the host or the port cannot be had
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except (socket.gaierror, UnicodeError) as error:
        raise UsageError(f"host {host}: not known ({error.args[-1]}); give another --host") from error
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(2048)
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            raise UsageError(f"port {port} is in use on {host}; stop what uses it, or give another --port") from error
        raise UsageError(
            f"{host} port {port}: cannot listen there ({error.strerror}); give another --host or --port"
        ) from error
    return listener


def address_of(listener: socket.socket) -> str:
    """http://127.0.0.1:8000"""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def serve(
    app: FastAPI,
    listener: socket.socket,
    request_timeout_s: float,
    on_ready: Callable[[], None],
    on_stop: Callable[[], None],
) -> None:
    """Answer requests until SIGINT or SIGTERM, then finish those under way. Only from the main thread.

    on_ready   called once, when requests are answered
    on_stop    called by the signal
    """
    config = uvicorn.Config(
        app,
        http=connection_class(request_timeout_s),
        log_config=None,
        access_log=False,
        lifespan="off",
        ws="none",
        server_header=False,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=math.ceil(request_timeout_s + GRACE_S),
    )
    logging.getLogger("uvicorn.error").addFilter(_is_news)
    _Server(config, on_ready, on_stop).run(sockets=[listener])


def _is_news(record: logging.LogRecord) -> bool:
    """False for the traceback of a request that was cut off when its grace was over: the line before it says so."""
    return not (record.exc_info and isinstance(record.exc_info[1], asyncio.CancelledError))


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, on_ready: Callable[[], None], on_stop: Callable[[], None]):
        super().__init__(config)
        self._on_ready = on_ready
        self._on_stop = on_stop

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._on_ready()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self._on_stop()
        super().handle_exit(sig, frame)
        self._captured_signals.clear()  # it would raise them again at the end, but they are obeyed then
