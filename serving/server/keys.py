"""API keys: who may ask, where the server was started with --api-key-file."""

import hmac
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path

from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from serving.errors import UsageError
from serving.server.failures import failure

LEAST_LENGTH = 16
# For load balancers, and for people who want to know what to send: nothing of the bundle is told there.
OPEN = frozenset(("/healthz", "/readyz", "/v2/health/live", "/v2/health/ready", "/docs", "/openapi.json"))


class Keys:
    """Some keys, of which only digests are kept."""

    def __init__(self, keys: Sequence[str]):
        self._digests = [sha256(key.encode()).digest() for key in keys]

    @classmethod
    def read(cls, path: Path) -> "Keys":
        """One key a line; empty lines and those that begin with # do not count.

        errors   UsageError: no such file, no key in it, a key that is short or has a space inside
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
                if len(line) < LEAST_LENGTH or not line.isascii() or len(line.split()) > 1:
                    raise UsageError(
                        f"--api-key-file: {path}, line {number}: not a key; wanted at least {LEAST_LENGTH} ASCII "
                        "characters without a space, as from: openssl rand -hex 32"
                    )
                keys.append(line)
        if not keys:
            raise UsageError(f"--api-key-file: {path}: has no key; put one on a line, as from: openssl rand -hex 32")
        return cls(keys)

    def has(self, key: str) -> bool:
        """Whether this is one of them. Takes as long whichever it is, and however much of it is right."""
        digest = sha256(key.encode()).digest()
        found = False
        for known in self._digests:
            found |= hmac.compare_digest(digest, known)
        return found


class KeyCheck:
    """ASGI middleware: 401 before anything is read of a request without a key, health addresses and /docs excepted."""

    def __init__(self, app: ASGIApp, keys: Keys):
        self.app = app
        self.keys = keys

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in OPEN or self.keys.has(key_of(request := Request(scope))):
            await self.app(scope, receive, send)
            return
        answer = failure(
            request, 401, "no valid API key; send one as `Authorization: Bearer KEY`", {"www-authenticate": "Bearer"}
        )
        await answer(scope, receive, send)


def key_of(request: Request) -> str:
    """The key that a request brings, "" without one."""
    scheme, _, key = request.headers.get("authorization", "").partition(" ")
    return key.strip() if scheme.lower() == "bearer" else request.headers.get("x-api-key", "")
