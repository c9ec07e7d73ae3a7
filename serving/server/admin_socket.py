"""The admin socket: a Unix socket for the server's owner alone, where a reload is asked for and its outcome told.

    curl --unix-socket /run/unheard/admin.sock -X POST http://admin/v1/reload
    curl --unix-socket /run/unheard/admin.sock http://admin/v1/reload -d '{"bundle": "/srv/unheard/second"}'

It has a thread and an event loop of its own, so that nothing that happens on it delays the requests.
"""

import asyncio
import contextlib
import json
import os
import socket
import stat
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from serving.errors import UnheardError, UsageError
from serving.server.error_responses import install_error_handlers
from serving.server.metrics import Metrics
from serving.server.reload import Reloader
from serving.server.request_middleware import RequestMiddleware
from serving.server.tracing import Tracing

MAX_BODY_BYTES = 65_536
TIMEOUT_S = 600.0  # a large bundle is hashed, opened and tried
END_S = 5.0  # at the end, for a reload under way


@contextlib.contextmanager
def listen_to_owner(path: Path | None) -> Iterator[socket.socket | None]:
    """A listening Unix socket that only this user, and root, can connect to, until the context ends.

    path     None: no socket
    errors   UsageError: the path is in use, or no socket can be there
    """
    if path is None:
        yield None
        return
    with _bind(path) as listener:
        try:
            yield listener
        finally:
            path.unlink(missing_ok=True)


def _bind(path: Path) -> socket.socket:
    if not hasattr(socket, "AF_UNIX"):
        raise UsageError("--admin-socket: this system has no Unix sockets; leave it out")
    _remove_stale(path)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    umask = os.umask(0o177)
    try:
        listener.bind(str(path))
        listener.listen()
    except OSError as error:
        listener.close()
        reason = error.strerror or str(error)
        raise UsageError(f"--admin-socket: {path}: no socket can be there ({reason}); give another path") from error
    finally:
        os.umask(umask)
    return listener


def _remove_stale(path: Path) -> None:
    """Remove the socket of a server that has ended."""
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        if not stat.S_ISSOCK(path.lstat().st_mode):
            raise UsageError(f"--admin-socket: {path}: is there and is no socket; give another path")
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as other:
            try:
                other.connect(str(path))
            except ConnectionRefusedError:
                path.unlink()
                return
            except OSError as error:
                raise UsageError(f"--admin-socket: {path}: is not usable ({error.strerror}); give another") from error
        raise UsageError(f"--admin-socket: {path}: another server listens there; give another path")


class AdminSocket:
    """The server on a socket from `listen_to_owner`."""

    def __init__(self, listener: socket.socket, reloader: Reloader, metrics: Metrics, tracing: Tracing):
        app = RequestMiddleware(create_admin_app(reloader), TIMEOUT_S, metrics, tracing)
        config = uvicorn.Config(
            app, log_config=None, access_log=False, lifespan="off", ws="none", timeout_graceful_shutdown=round(END_S)
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, args=([listener],), name="admin", daemon=True)

    async def start(self) -> None:
        self._thread.start()

    async def stop(self) -> None:
        self._server.should_exit = True
        await asyncio.to_thread(self._thread.join, 2 * END_S)


def create_admin_app(reloader: Reloader) -> FastAPI:
    """The application of the admin socket."""
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None, redirect_slashes=False)
    install_error_handlers(app)

    @app.post("/v1/reload")
    async def reload(request: Request) -> JSONResponse:
        bundle = _bundle_in(await _body_of(request))
        try:
            new = await asyncio.wrap_future(reloader.ask(bundle))
        except UnheardError as error:
            raise HTTPException(422, f"reload refused, all stays as it was: {error}") from error
        except Exception as error:  # logged by the reloader
            raise HTTPException(500, "reload failed, all stays as it was; the log says why") from error
        opened = new.pipeline.embedder.bundle
        return JSONResponse({"embedding_space": opened.manifest.embedding_space, "bundle": str(opened.folder)})

    return app


async def _body_of(request: Request) -> bytes:
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BODY_BYTES:
            raise HTTPException(413, f"the body is larger than {MAX_BODY_BYTES} bytes; send the path of a bundle")
    return body


def _bundle_in(body: bytes) -> Path | None:
    """The folder that the body of a request to reload names."""
    if not body.strip():
        return None
    wanted = 'wanted {"bundle": "/absolute/path"}, or no body'
    try:
        fields: Any = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise HTTPException(400, f"the body is no JSON; {wanted}") from error
    match fields:
        case {"bundle": str(path)} if len(fields) == 1 and Path(path).is_absolute() and "\0" not in path:
            return Path(path)
    shown = " ".join(body.decode(errors="replace").split())[:80]
    raise HTTPException(422, f"got {shown}; {wanted}")
