"""Receive a large file over HTTP into a partial file that the next call goes on from."""

import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import httpx
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from serving.command import progress_console, say
from serving.errors import DataError

ATTEMPTS = 4  # requests in one call, the first included
FIRST_WAIT_S = 1.0  # before the second request; doubles with each
TIMEOUT = httpx.Timeout(10.0, read=60.0)  # seconds; GitHub may take a while to start an archive
MAX_BYTES = 20_000_000_000  # of an archive: ten times the largest data set


@dataclass(frozen=True)
class Part:
    """The archive as far as it has come, and beside it what the server said of it."""

    path: Path
    file: BinaryIO  # open to append, for this process alone

    @property
    def size(self) -> int:
        return self.file.seek(0, os.SEEK_END)

    @property
    def _notes(self) -> Path:
        return self.path.with_name(f"{self.path.name}.json")

    def _read_notes(self, url: str) -> dict[str, Any]:
        try:
            notes = json.loads(self._notes.read_bytes())
        except (FileNotFoundError, ValueError):
            return {}
        return notes if isinstance(notes, dict) and notes.get("url") == url else {}

    def _write_notes(self, url: str, validator: str | None, whole: bool) -> None:
        self._notes.write_text(json.dumps({"url": url, "validator": validator, "whole": whole}) + "\n")

    def is_whole(self, url: str) -> bool:
        """Whether an earlier call received all of it."""
        return self.size > 0 and self._read_notes(url).get("whole") is True

    def validator(self, url: str) -> str | None:
        """What proves that the server's file is the one that began here; None where nothing does."""
        return self._read_notes(url).get("validator") if self.size else None

    def start_over(self, url: str, validator: str | None) -> None:
        """Empty the file first: new notes must never stand beside old bytes."""
        self.file.truncate(0)
        self._write_notes(url, validator, whole=False)

    def finish(self, url: str) -> None:
        """Note that all of it has come."""
        self.file.flush()
        self._write_notes(url, self.validator(url), whole=True)

    def remove(self) -> None:
        """Remove the file and its notes."""
        self._notes.unlink(missing_ok=True)
        self.path.unlink(missing_ok=True)


@contextmanager
def open_part(path: Path) -> Iterator[Part]:
    """Open the partial file for this process alone; a second download of it waits here. An empty one is removed."""
    while True:
        with path.open("ab") as file:
            _lock(file, path)
            if not os.fstat(file.fileno()).st_nlink:
                continue  # whoever held the lock has removed the file: ours has no name any more
            part = Part(path, file)
            try:
                yield part
            finally:
                if os.fstat(file.fileno()).st_nlink and not part.size:
                    part.remove()
            return


def _lock(file: BinaryIO, path: Path) -> None:
    if sys.platform == "win32":
        return
    import fcntl

    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        say(f"{path}: another download is writing it; waiting for that to end")
        fcntl.flock(file, fcntl.LOCK_EX)
    except OSError:
        pass  # a file system without locks (Lustre): two downloads at once would show in the archive's check sums


class _AgainError(Exception):
    """The server may well answer the next request better."""


def fetch(name: str, url: str, size_bytes: int, part: Part, advice: str) -> None:
    """Receive the rest of the file, or all of it, in at most ATTEMPTS requests.

    name        for the progress bar and messages
    size_bytes  about how large it is, for the bar of a server that does not say
    advice      the way out, ending the line of the DataError raised when all requests fail
    """
    with (
        httpx.Client(timeout=TIMEOUT, follow_redirects=True, headers={"Accept-Encoding": "identity"}) as client,
        progress_bar() as bar,
    ):
        task = bar.add_task(name, total=size_bytes)

        def on_bytes(done: int, total: int | None) -> None:
            # Without a size from the server the bar goes by what is known of the archive, and gives up beyond that.
            about = size_bytes if done <= size_bytes else None
            bar.update(task, completed=done, total=total or about)

        for attempt in range(1, ATTEMPTS + 1):
            try:
                _receive(client, url, part, on_bytes)
                return
            except (httpx.HTTPError, _AgainError) as error:
                reason = " ".join(str(error).split()) or type(error).__name__
                kept = f"the first {part.size / 1e6:.1f} MB are kept: " if part.validator(url) else ""
                if attempt == ATTEMPTS or not isinstance(error, httpx.TransportError | _AgainError):
                    raise DataError(f"{url}: cannot be fetched ({reason}); {kept}try again, or {advice}") from error
            wait_s = FIRST_WAIT_S * 2 ** (attempt - 1)
            say(f"{name}: {reason}; asking again in {wait_s:g} s (request {attempt + 1} of {ATTEMPTS})")
            time.sleep(wait_s)


def _receive(client: httpx.Client, url: str, part: Part, on_bytes: Callable[[int, int | None], None]) -> None:
    """Make one request and append what it brings; the part is finished when this returns.

    on_bytes  called with the bytes there and, where the server tells it, the size of the whole
    errors    httpx.TransportError, _AgainError: worth another request; httpx.HTTPStatusError: not
    """
    begun = part.validator(url)
    headers = {"Range": f"bytes={part.size}-", "If-Range": begun} if begun else {}
    with client.stream("GET", url, headers=headers) as response:
        status, content_range = response.status_code, response.headers.get("Content-Range", "")
        if begun and status == 416 and content_range == f"bytes */{part.size}":
            part.finish(url)  # the last call was stopped between the last byte and the note of it
            return
        if (begun and status == 416) or (status == 206 and not _continues(response, part.size, begun)):
            part.start_over(url, None)
            raise _AgainError(f"the server sent another range than asked for ({status} {content_range})".rstrip())
        if status not in (200, 206):
            answer = f"the server answered {status} {response.reason_phrase}".rstrip()
            if status >= 500 or status in (408, 429):
                raise _AgainError(answer)
            raise httpx.HTTPStatusError(answer, request=response.request, response=response)
        if status == 206:
            total = content_range.rpartition("/")[2]
        else:
            part.start_over(url, _validator(response.headers))
            total = response.headers.get("Content-Length", "")
        total = int(total) if total.isdecimal() else None
        for chunk in response.iter_raw():
            part.file.write(chunk)
            if max(part.size, total or 0) > MAX_BYTES:
                part.start_over(url, None)
                raise httpx.HTTPError(f"the archive is larger than {MAX_BYTES / 1e9:g} GB")
            on_bytes(part.size, total)
    if total is not None and part.size != total:
        raise _AgainError(f"the connection ended after {part.size} of {total} bytes")
    part.finish(url)


def _validator(headers: httpx.Headers) -> str | None:
    """What If-Range may carry: a strong ETag, else the date of the last change."""
    etag = headers.get("ETag", "")
    return etag if etag.startswith('"') else headers.get("Last-Modified")


def _continues(response: httpx.Response, start: int, validator: str | None) -> bool:
    """Whether a 206 brings the bytes from `start` on, of the file that began the part."""
    in_range = response.headers.get("Content-Range", "").startswith(f"bytes {start}-")
    return validator is not None and in_range and _validator(response.headers) in (None, validator)


def progress_bar() -> Progress:
    """Bytes, speed and time left, on stderr."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=progress_console,
    )
