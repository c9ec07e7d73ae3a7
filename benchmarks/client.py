"""A small HTTP/1.1 client that costs little beside the server which it measures, and can be rude on purpose."""

import asyncio
import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass, replace
from urllib.parse import urlsplit

from serving.errors import UsageError

BROKEN = 0  # status of a reply that never came whole
LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)\r\n", re.IGNORECASE)


@dataclass(frozen=True)
class Address:
    """Where a server listens."""

    host: str
    port: int

    @classmethod
    def parse(cls, url: str) -> "Address":
        """http://127.0.0.1:8000 -> its parts. UsageError for anything else."""
        try:
            parts = urlsplit(url)
            host, port = parts.hostname, parts.port or 80
        except ValueError:
            parts, host, port = urlsplit(""), None, 0
        if parts.scheme != "http" or not host or parts.path not in ("", "/"):
            raise UsageError(f"URL: got {url}; wanted the server's address, like http://127.0.0.1:8000")
        return cls(host, port)


@dataclass(frozen=True)
class Reply:
    """An answer.

    status   BROKEN where the connection ended before it was whole
    headers  names in lower case
    """

    status: int
    headers: Mapping[str, str]
    body: bytes


def make_request(path: str, body: bytes, headers: Mapping[str, str]) -> bytes:
    """A POST request, ready to be sent again and again."""
    told = {"host": "load", "content-length": str(len(body)), **headers}
    lines = [f"POST {path} HTTP/1.1", *(f"{name}: {value}" for name, value in told.items()), "", ""]
    return "\r\n".join(lines).encode() + body


def read_reply(answer: bytes) -> Reply:
    """A whole answer: its status line, headers and body."""
    head, body = answer.split(b"\r\n\r\n", 1)
    first, *lines = head.decode("latin-1").split("\r\n")
    headers = {name.lower(): value.strip() for name, value in (line.split(":", 1) for line in lines)}
    return Reply(int(first.split(" ", 2)[1]), headers, body)


class Caller:
    """A connection that waits for each answer: what it takes beside the server is a socket's time, and no library's.

    errors   OSError: nobody answers
    """

    def __init__(self, address: Address):
        self._socket = socket.create_connection((address.host, address.port), timeout=60)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def ask(self, request: bytes) -> bytes:
        """Send a request of `make_request`; its answer as it came, for `read_reply`."""
        self._socket.sendall(request)
        answer = b""
        while (end := answer.find(b"\r\n\r\n")) < 0:
            answer += self._receive()
        length = LENGTH.search(answer, 0, end + 2)
        whole = end + 4 + int(length[1] if length else 0)
        while len(answer) < whole:
            answer += self._receive()
        return answer

    def _receive(self) -> bytes:
        some = self._socket.recv(2**16)
        if not some:
            raise OSError("the server closed the connection")
        return some

    def close(self) -> None:
        """Close it."""
        self._socket.close()


class Connection:
    """One connection, kept open between requests and opened again where the server closed it meanwhile.

    resent  requests that found it closed, and were sent again on a new one
    """

    def __init__(self, address: Address):
        self.resent = 0
        self._address = address
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def ask(self, request: bytes, pieces: int = 1, pause_s: float = 0.0) -> Reply:
        """Send a request and read its answer. pieces, pause_s: send it so slowly."""
        fresh = self._writer is None
        try:
            reply = await self._exchange(request, pieces, pause_s)
        except (OSError, asyncio.IncompleteReadError):
            self.close()
            if fresh:
                return Reply(BROKEN, {}, b"")
            self.resent += 1
            return await self.ask(request, pieces, pause_s)
        return reply

    async def leave(self, part: bytes) -> None:
        """Send the beginning of a request and close the connection."""
        try:
            _, writer = await self._open()
            writer.write(part)
            await writer.drain()
        except OSError:
            pass
        self.close()

    def close(self) -> None:
        """Close it; the next request opens it again."""
        if self._writer is not None:
            self._writer.close()
        self._reader = self._writer = None

    async def _open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self._reader is None or self._writer is None:
            self._reader, self._writer = await asyncio.open_connection(self._address.host, self._address.port)
        return self._reader, self._writer

    async def _exchange(self, request: bytes, pieces: int, pause_s: float) -> Reply:
        reader, writer = await self._open()
        size = -(-len(request) // pieces)
        writer.write(request[:size])
        for start in range(size, len(request), size):
            await asyncio.sleep(pause_s)
            writer.write(request[start : start + size])
        # Not waiting until all is sent: a server may refuse an upload while it comes in.
        head = await reader.readuntil(b"\r\n\r\n")
        reply = read_reply(head)  # its body is to come
        body = await reader.readexactly(int(reply.headers.get("content-length", "0")))
        if writer.transport.get_write_buffer_size() or reply.headers.get("connection") == "close":
            writer.transport.abort()  # what is not sent yet is not worth sending
            self.close()
        return replace(reply, body=body)
