"""The server as a process: a listening socket, a call when it is ready, and an orderly end on a signal."""

import asyncio
import contextlib
import errno
import logging
import math
import signal
import socket
from collections.abc import Awaitable, Callable, Sequence
from types import FrameType
from typing import Protocol

import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send

from serving.errors import UsageError
from serving.server.connection import OnRefusal, connection_class
from serving.server.limits import Limits

KEEP_ALIVE_S = 75  # for idle connections: longer than the 60 s of common load balancers, so that they close first
GRACE_S = 5  # added to the time of a request when the server ends
BACKLOG = 2048  # connections that wait to be accepted
OTHER_FILES = 200  # open files besides connections: libraries, the model, the log

logger = logging.getLogger(__name__)


class OtherServer(Protocol):
    """A server beside that of HTTP."""

    async def start(self) -> None: ...

    async def stop(self) -> None:
        """Finish what is under way, within the time of a request and GRACE_S."""
        ...


def free_port(host: str, port: int) -> int:
    """The port itself, or for 0 a free one, for a server that opens its sockets itself. errors: as `listen`"""
    with listen(host, port) as listener:
        return listener.getsockname()[1]


def listen(host: str, port: int) -> socket.socket:
    """A listening TCP socket. Port 0 takes a free port.

    errors   UsageError: the port is in use, or the host or the port is not available
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
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            raise UsageError(f"port {port} is in use on {host}; stop what uses it, or give another --port") from error
        raise UsageError(
            f"{host} port {port}: cannot listen there ({error.strerror}); give another --host or --port"
        ) from error
    return listener


def address_of(listener: socket.socket) -> str:
    """The socket's address as a URL, like http://127.0.0.1:8000."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def run_until_signal(
    app: ASGIApp,
    listener: socket.socket,
    limits: Limits,
    on_refusal: OnRefusal,
    on_ready: Callable[[asyncio.AbstractEventLoop], None],
    on_stop: Callable[[], None],
    on_hangup: Callable[[], object],
    others: Sequence[OtherServer] = (),
) -> None:
    """Answer requests until SIGINT or SIGTERM, then finish those under way. Only for the main thread.

    on_refusal  see `connection_class`
    on_ready    called once, when requests are answered, with the event loop
    on_stop     called by the signal
    on_hangup   called by SIGHUP, also by one that was blocked until requests are answered
    others      servers that start and stop with this one, in its event loop
    """
    allow_open_files((1 + len(others)) * limits.max_connections + OTHER_FILES)
    loops: list[asyncio.AbstractEventLoop] = []
    stopping: list[asyncio.Future[None]] = []

    def stop(number: int, frame: FrameType | None) -> None:
        on_stop()
        server.force_exit = server.should_exit and number == signal.SIGINT  # Ctrl-C twice does not wait for requests
        server.should_exit = True
        if loops:
            loops[0].call_soon_threadsafe(stop_others)

    def stop_others() -> None:
        if not stopping:
            stopping.extend(asyncio.ensure_future(other.stop()) for other in others)

    async def end() -> None:
        stop_others()
        if not server.force_exit:
            await asyncio.gather(*stopping)

    async def start() -> None:
        for other in others:
            await other.start()
        # uvicorn's own handlers are replaced: they raise the signal again at the end, and the exit code would not be 0.
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, stop)
        if hasattr(signal, "SIGHUP"):  # not on Windows
            signal.signal(signal.SIGHUP, lambda number, frame: on_hangup())
        loops.append(asyncio.get_running_loop())
        on_ready(loops[0])
        if hasattr(signal, "SIGHUP"):
            # One that came during the start has waited, see serving/__main__.py: it tells of files already read.
            signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGHUP])

    config = uvicorn.Config(
        _with_lifespan(app, start, end),
        http=connection_class(limits, on_refusal),
        log_config=None,
        access_log=False,
        lifespan="on",
        ws="none",
        server_header=False,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=math.ceil(limits.request_timeout_s + GRACE_S),
    )
    logging.getLogger("uvicorn.error").addFilter(_is_no_cancellation)
    server = uvicorn.Server(config)
    server.run(sockets=[listener])


def allow_open_files(count: int) -> None:
    """Raise this process's limit of open files to `count`, or log that the system does not allow as many."""
    try:
        import resource
    except ImportError:  # Windows has no such limit
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= count:
        return
    most = count if hard == resource.RLIM_INFINITY else min(count, hard)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    if most < count:
        logger.warning(
            "--max-connections: the system allows fewer open files", extra={"allowed": hard, "needed": count}
        )


def _with_lifespan(
    app: ASGIApp, on_startup: Callable[[], Awaitable[None]], on_end: Callable[[], Awaitable[None]]
) -> ASGIApp:
    """The application, with calls when the server starts, and when it has finished all requests."""

    async def handle(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "lifespan":
            await app(scope, receive, send)
            return
        await receive()
        await on_startup()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await on_end()
        await send({"type": "lifespan.shutdown.complete"})

    return handle


def _is_no_cancellation(record: logging.LogRecord) -> bool:
    """False for the traceback of a request that was cancelled at the end: the line before it already says so."""
    return not (record.exc_info and isinstance(record.exc_info[1], asyncio.CancelledError))
