"""API keys: who may send requests, if the server was started with --api-key-file."""

import hmac
import logging
import re
import stat
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from serving.errors import UsageError
from serving.server.error_responses import error_response
from serving.server.metrics import Metrics

MIN_LENGTH = 16
KEY_NAME = re.compile(r"[A-Za-z0-9._-]{1,40}")
DAY = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)
# For load balancers, and for people who want to know what to send. These addresses reveal nothing about the bundle.
OPEN_PATHS = frozenset(("/healthz", "/readyz", "/v2/health/live", "/v2/health/ready", "/docs", "/openapi.json"))

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ApiKey:
    """A valid key, kept as its digest.

    name        for the log and the metrics
    expires     the last day on which it is valid, in UTC; None: no end
    concurrent  the most requests with it at the same time; None: no limit
    """

    digest: bytes
    name: str
    expires: date | None = None
    concurrent: int | None = None

    def is_valid(self, today: date) -> bool:
        """Whether it has not expired."""
        return self.expires is None or today <= self.expires


class ApiKeys:
    """The keys of a server, and how many requests each has under way.

    lines   one key each: `KEY`, or `KEY name=phone expires=2027-12-31 concurrent=4` with any of the three
    today   the date in UTC
    errors  ValueError: a line is something else; its first argument is the number of the line, its second the reason
    """

    def __init__(self, lines: Sequence[str], today: Callable[[], date] = lambda: datetime.now(UTC).date()):
        numbered = {n: _parse_key(n, line) for n, line in enumerate(lines, 1) if line and line[0] != "#"}
        _refuse_repeated(numbered)
        self.keys = list(numbered.values())
        self._today = today
        self._running: Counter[str] = Counter()  # requests by the name of their key

    @classmethod
    def read(cls, path: Path) -> "ApiKeys":
        """Read a file with one key on each line. Empty lines and lines that begin with # are skipped.

        errors   UsageError: no such file, no key in it, or a line that is not a key
        """
        try:
            keys = cls(read_key_lines(path))
        except ValueError as error:
            number, reason = error.args
            raise UsageError(f"--api-key-file: {path}, line {number}: {reason}") from error
        if not keys.keys:
            raise UsageError(f"--api-key-file: {path}: has no key; put one on a line, as from: openssl rand -hex 32")
        return keys

    @property
    def all_expired(self) -> bool:
        """Whether no key is valid today."""
        return not any(key.is_valid(self._today()) for key in self.keys)

    def find(self, key: str) -> ApiKey | None:
        """The key with this text, also if it has expired.

        The time does not depend on the text, so that no key can be guessed from it.
        """
        digest = sha256(key.encode()).digest()
        found = None
        for known in self.keys:
            if hmac.compare_digest(digest, known.digest):
                found = known
        return found

    def enter(self, text: str, log: dict[str, Any], metrics: Metrics) -> AbstractContextManager[None]:
        """Count a request with this key until the end of the returned context. Only the event loop's thread may use it.

        log      the fields of the request's log line; the name of the key is added
        errors   HTTPException 401: no valid key; 429: the key has as many requests under way as it may
        """
        key = self.find(text)
        if key is not None:
            log["key"] = key.name
        if key is None or not key.is_valid(self._today()):
            message = (
                "no valid API key; send one as `Authorization: Bearer KEY`"
                if key is None
                else f"the API key {key.name} was valid until {key.expires}; get a new one from who runs the server"
            )
            raise HTTPException(401, message, {"www-authenticate": "Bearer"})
        metrics.key_requests.labels(key.name).inc()
        if key.concurrent is not None and self._running[key.name] >= key.concurrent:
            message = f"{key.concurrent} requests with this API key are under way, the most at a time; try again in 1 s"
            raise HTTPException(429, message, {"retry-after": "1"})
        return self._count(key.name)

    @contextmanager
    def _count(self, name: str) -> Iterator[None]:
        self._running[name] += 1
        try:
            yield
        finally:
            self._running[name] -= 1


def read_key_lines(path: Path) -> list[str]:
    """The lines of a file of keys, without white space around them. UsageError: it cannot be read."""
    try:
        return [line.strip() for line in path.read_text("utf-8").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8"
        raise UsageError(f"--api-key-file: {path}: cannot be read ({reason}); give a file with a key a line") from error


def _parse_key(number: int, line: str) -> ApiKey:
    key, *fields = line.split()
    if len(key) < MIN_LENGTH or not key.isascii():
        raise ValueError(
            number,
            f"not a key; wanted at least {MIN_LENGTH} ASCII characters without a space, as from: openssl rand -hex 32",
        )
    name, expires, concurrent = f"line-{number}", None, None
    for field in fields:
        match field.partition("="):
            case "name", "=", value if KEY_NAME.fullmatch(value):
                name = value
            case "expires", "=", value if DAY.fullmatch(value):
                try:
                    expires = date.fromisoformat(value)
                except ValueError as error:
                    raise ValueError(number, f"expires: got {value}; {error}") from error
            case "concurrent", "=", value if value.isascii() and value.isdigit() and 1 <= int(value[:9]) <= 100_000:
                concurrent = int(value)
            case _:
                raise ValueError(
                    number,
                    "not what may follow a key; wanted name=NAME of letters, digits, dots and dashes, "
                    "expires=2027-12-31, or concurrent=NUMBER",
                )
    return ApiKey(sha256(key.encode()).digest(), name, expires, concurrent)


def _refuse_repeated(numbered: Mapping[int, ApiKey]) -> None:
    """Refuse a key that is there twice, since only one of its lines could count, and a name of two keys.

    numbered  number of the line -> its key
    errors    as `ApiKeys`
    """
    line_of_key: dict[bytes, int] = {}
    line_of_name: dict[str, int] = {}
    for number, key in numbered.items():
        first = line_of_key.setdefault(key.digest, number)
        if first != number:
            raise ValueError(number, f"is the key of line {first} again; remove one of both lines, or make a new key")
        first = line_of_name.setdefault(key.name, number)
        if first != number:
            raise ValueError(number, f"two keys have the name {key.name}, here and in line {first}; give another name")


def warn_if_all_expired(keys: ApiKeys | None) -> None:
    """Log a warning if no key is valid any more, so that every request is refused. keys: None: there are none."""
    if keys is not None and keys.all_expired:
        logger.warning("--api-key-file: all keys have expired, so every request gets 401; add a valid one and reload")


def warn_if_others_can_write(path: Path) -> None:
    """Log a warning if users other than the owner can add keys to the file."""
    if path.stat().st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        logger.warning(
            "--api-key-file: other users can write to it and add keys; run: chmod go-w FILE", extra={"file": str(path)}
        )


class ApiKeyMiddleware:
    """ASGI middleware: answers only requests with a valid key, except to OPEN_PATHS. Others are refused unread.

    The log line and the counter of a request have the name of its key.
    """

    def __init__(self, app: ASGIApp, keys: ApiKeys, metrics: Metrics):
        self.app = app
        self.keys = keys
        self.metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"].removeprefix(scope.get("root_path", "")) in OPEN_PATHS:
            await self.app(scope, receive, send)
            return
        request = Request(scope)
        try:
            counted = self.keys.enter(key_in(request.headers), request.state.log, self.metrics)
        except HTTPException as error:
            await error_response(request, error.status_code, error.detail, error.headers)(scope, receive, send)
            return
        with counted:
            await self.app(scope, receive, send)


def key_in(headers: Mapping[str, str]) -> str:
    """The key in a request's headers, whose names are in lower case; "" if there is none."""
    scheme, _, key = headers.get("authorization", "").partition(" ")
    return key.strip() if scheme.lower() == "bearer" else headers.get("x-api-key", "")
