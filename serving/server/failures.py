"""What the server answers when it cannot do what was asked: always {"error": one line, "request_id": ...}."""

import logging
from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse

from serving.errors import AudioError, DurationError, FormatError, LabelError

REQUEST_ID_HEADER = "x-request-id"

logger = logging.getLogger(__name__)


def status_of(error: AudioError | LabelError) -> int:
    """The HTTP status of an error that whoever sent the request can mend."""
    match error:
        case FormatError():
            return 415
        case DurationError():
            return 413
        case _:
            return 422


def failure(request: Request, status: int, message: str, headers: Mapping[str, str] | None = None) -> JSONResponse:
    """The answer for one failed request, its message on one line."""
    told = " ".join(message.split()).encode("utf-8", "backslashreplace").decode()  # half a surrogate pair is no UTF-8
    content = {"error": told, "request_id": request.state.request_id}
    return JSONResponse(content, status, headers)


def unexpected(request: Request, error: Exception) -> str:
    """Log a fault of ours with its traceback; the message for the client, which says no more than the id."""
    request_id = request.state.request_id
    logger.error("internal error, id %s: %s %r", request_id, request.method, request.url.path, exc_info=error)
    return f"internal error, id {request_id}"


def install(app: FastAPI) -> None:
    """Give an app these answers, in place of FastAPI's own. All are coroutines: what is not waits for a thread."""

    @app.exception_handler(AudioError)
    @app.exception_handler(LabelError)
    async def _(request: Request, error: Any) -> JSONResponse:
        return failure(request, status_of(error), str(error))

    @app.exception_handler(RequestValidationError)
    async def _(request: Request, error: Any) -> JSONResponse:
        return failure(request, 422, "; ".join(map(_invalid, error.errors())) + "; see /docs")

    @app.exception_handler(HTTPException)
    async def _(request: Request, error: Any) -> JSONResponse:
        message = error.detail
        if error.status_code == 404 and message == "Not Found":  # Starlette's own words
            message = f"no such address: {request.url.path}; see /docs"
        elif error.status_code == 405:
            message = f"{request.method} is not for {request.url.path}; use {error.headers['Allow']}"
        return failure(request, error.status_code, message, error.headers)


def _invalid(error: Mapping[str, Any]) -> str:
    """One of pydantic's errors on one line: which parameter, what came, what was wanted."""
    name = ".".join(map(str, error["loc"][1:])) or str(error["loc"][0])
    if error["type"] == "extra_forbidden":
        return f"{name[:80]}: not a parameter of this address"
    message = error["msg"]
    return f"{name}: got {str(error['input'])[:80]!r}; {message[:1].lower()}{message[1:]}"
