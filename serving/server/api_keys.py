"""API keys: who may send requests, if the server was started with --api-key-file."""

import hmac
import logging
import stat
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path

from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from serving.errors import UsageError
from serving.server.error_responses import error_response

MIN_LENGTH = 16
# For load balancers, and for people who want to know what to send. These addresses reveal nothing about the bundle.
OPEN_PATHS = frozenset(("/healthz", "/readyz", "/v2/health/live", "/v2/health/ready", "/docs", "/openapi.json"))

logger = logging.getLogger(__name__)


class ApiKeys:
    """The valid keys, kept as digests."""

    def __init__(self, keys: Sequence[str]):
        self._digests = [sha256(key.encode()).digest() for key in keys]

    @classmethod
    def read(cls, path: Path) -> "ApiKeys":
        """Read a file with one key on each line. Empty lines and lines that begin with # are skipped.

        errors   UsageError: no such file, no key in it, or a key that is too short or contains a space
        """
        try:
            lines = [line.strip() for line in path.read_text("utf-8").splitlines()]
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "not UTF-8"
            raise UsageError(
                f"--api-key-file: {path}: cannot be read ({reason}); give a file with a key a line"
            ) from error
        keys = []
        for number, line in enumerate(lines, 1):
            if line and not line.startswith("#"):
                if len(line) < MIN_LENGTH or not line.isascii() or len(line.split()) > 1:
                    raise UsageError(
                        f"--api-key-file: {path}, line {number}: not a key; wanted at least {MIN_LENGTH} ASCII "
                        "characters without a space, as from: openssl rand -hex 32"
                    )
                keys.append(line)
        if not keys:
            raise UsageError(f"--api-key-file: {path}: has no key; put one on a line, as from: openssl rand -hex 32")
        return cls(keys)

    def contains(self, key: str) -> bool:
        """Whether this is a valid key. The time does not depend on the key, so that it cannot be guessed from it."""
        digest = sha256(key.encode()).digest()
        found = False
        for known in self._digests:
            found |= hmac.compare_digest(digest, known)
        return found


def warn_if_others_can_write(path: Path) -> None:
    """Log a warning if users other than the owner can add keys to the file."""
    if path.stat().st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        logger.warning(
            "--api-key-file: other users can write to it and add keys; run: chmod go-w FILE", extra={"file": str(path)}
        )


class ApiKeyMiddleware:
    """ASGI middleware: refuses requests without a valid key with 401 before reading them, except to OPEN_PATHS."""

    def __init__(self, app: ASGIApp, keys: ApiKeys):
        self.app = app
        self.keys = keys

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if (
            scope["type"] != "http"
            or scope["path"].removeprefix(scope.get("root_path", "")) in OPEN_PATHS
            or self.keys.contains(key_in(request := Request(scope)))
        ):
            await self.app(scope, receive, send)
            return
        refusal = error_response(
            request, 401, "no valid API key; send one as `Authorization: Bearer KEY`", {"www-authenticate": "Bearer"}
        )
        await refusal(scope, receive, send)


def key_in(request: Request) -> str:
    """The key in a request's headers, "" if there is none."""
    scheme, _, key = request.headers.get("authorization", "").partition(" ")
    return key.strip() if scheme.lower() == "bearer" else request.headers.get("x-api-key", "")
