"""The body of every response that is not a success: {"error": one line, "request_id": ...}."""

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
    """The HTTP status of an error in the data that a client sent."""
    match error:
        case FormatError():
            return 415
        case DurationError():
            return 413
        case _:
            return 422


def error_content(message: str, request_id: str) -> dict[str, str]:
    """The fields of schemas.ErrorResponse. Lone surrogates in the message, which UTF-8 cannot hold, are escaped."""
    return {
        "error": " ".join(message.split()).encode("utf-8", "backslashreplace").decode(),
        "request_id": request_id,
    }


def error_response(
    request: Request, status: int, message: str, headers: Mapping[str, str] | None = None
) -> JSONResponse:
    """The response to a request that failed."""
    return JSONResponse(error_content(message, request.state.request_id), status, headers)


def log_fault(request_id: str, asked: str, error: Exception) -> str:
    """Log an error of the server with its traceback.

    asked     what the client asked for, like "POST '/v1/embed'"
    returns   the message for the client, which holds nothing but the request's id
    """
    logger.error("internal error, id %s: %s", request_id, asked, exc_info=error)
    return f"internal error, id {request_id}"


def install_error_handlers(app: FastAPI) -> None:
    """Replace FastAPI's own error responses. The handlers are coroutines because others would run in a thread pool."""

    @app.exception_handler(AudioError)
    @app.exception_handler(LabelError)
    async def _(request: Request, error: Any) -> JSONResponse:
        return error_response(request, status_of(error), str(error))

    @app.exception_handler(RequestValidationError)
    async def _(request: Request, error: Any) -> JSONResponse:
        return error_response(request, 422, "; ".join(map(_describe_invalid, error.errors())) + "; see /docs")

    @app.exception_handler(HTTPException)
    async def _(request: Request, error: Any) -> JSONResponse:
        message, headers = error.detail, error.headers
        if error.status_code == 404 and message == "Not Found":  # Starlette's own message
            message = f"no such address: {request.url.path}; see /docs"
        elif error.status_code == 405:
            headers = {"Allow": _methods(request, error.headers["Allow"])}
            message = f"{request.method} is not for {request.url.path}; use {headers['Allow']}"
        return error_response(request, error.status_code, message, headers)


def _methods(request: Request, of_first_route: str) -> str:
    """The methods of an address, of all routes that have it: Starlette names those of the first."""
    path = getattr(request.scope.get("route"), "path", "")
    described = request.app.openapi()["paths"].get(path)
    return ", ".join(sorted(map(str.upper, described))) if described else of_first_route


def _describe_invalid(error: Mapping[str, Any]) -> str:
    """One validation error of pydantic on one line: the parameter, the value, what is wrong with it."""
    name = ".".join(map(str, error["loc"][1:])) or str(error["loc"][0])
    if error["type"] == "extra_forbidden":
        return f"{name[:80]}: not a parameter of this address"
    message = error["msg"]
    return f"{name}: got {str(error['input'])[:80]!r}; {message[:1].lower()}{message[1:]}"
