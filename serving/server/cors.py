"""CORS: web pages of other origins may send requests, and refusals have the form of all errors."""

import re
import uuid

from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import JSONResponse, Response

from serving.errors import UsageError
from serving.server.error_responses import REQUEST_ID_HEADER, error_content

# As browsers write it in the header `origin`, which is compared letter for letter.
ORIGIN = re.compile(r"(?:http://(?!.*:80$)|https://(?!.*:443$))(?:[a-z0-9._-]+|\[[0-9a-f:]+\])(?::[1-9][0-9]*)?")


def check_origin(origin: str) -> None:
    """UsageError: no page has this origin, so that it would allow nothing. * stands for all"""
    if origin != "*" and not ORIGIN.fullmatch(origin):
        raise UsageError(
            f"--cors-origin: got {origin}; wanted one like https://example.org or http://localhost:3000, in small "
            "letters, without a path or slash at the end and without the usual port, or *"
        )


class CorsMiddleware(CORSMiddleware):
    """Starlette's middleware, with JSON instead of plain text for a preflight request that is refused."""

    def preflight_response(self, request_headers: Headers) -> Response:
        """The answer to a browser that asks before it sends a request."""
        response = super().preflight_response(request_headers)
        if response.status_code == 200:
            return response
        request_id = uuid.uuid4().hex[:12]
        headers = {name: value for name, value in response.headers.items() if not name.startswith("content-")}
        headers |= {REQUEST_ID_HEADER: request_id, "x-content-type-options": "nosniff"}
        reason = bytes(response.body).decode()
        return JSONResponse(error_content(f"{reason}; see --cors-origin", request_id), response.status_code, headers)
