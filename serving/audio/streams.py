"""The bytes of a file, in memory or on disk, and where the streams of sound are in them."""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

Span = tuple[int, int]  # start and end of bytes of a source
PAGE_BYTES = 2**24  # read at a time from large files
OVERLAP = 2**17  # longer than any page of OGG, and than the MP3 frames and tags that are looked at together


class ByteSource:
    """Bytes that can be read at any position, in memory or in an open file.

    size  number of bytes
    fd    file descriptor of the open file; None: the bytes are in memory
    """

    def __init__(self, data: bytes | None = None, fd: int | None = None):
        self._data = data
        self.fd = fd
        self.size = len(data) if data is not None else os.fstat(fd).st_size if fd is not None else 0

    def read(self, start: int, count: int) -> bytes:
        """Read `count` bytes from `start` on; fewer at the end."""
        if self._data is not None:
            return self._data[start : start + count]
        assert self.fd is not None
        pieces: list[bytes] = []
        while count > 0 and (piece := os.pread(self.fd, min(count, 2**30), start)):  # Linux reads at most 2 GB
            pieces.append(piece)
            start, count = start + len(piece), count - len(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def whole(self) -> bytes:
        """Read all bytes."""
        return self._data if self._data is not None else self.read(0, self.size)

    def pages(self, start: int, end: int) -> Iterator["Page"]:
        """Yield the bytes from `start` to `end` in pages, for a walk from one header to the next.

        The walk sets each page's `walked`, at or beyond its `stop`; the next page begins there.
        """
        at = start
        while at < end:
            data = self.read(at, min(PAGE_BYTES, end - at))
            if not data:
                return
            is_last = at + len(data) >= end
            page = Page(data, at, len(data) if is_last else len(data) - OVERLAP, is_last)
            yield page
            at = page.start + max(page.walked, page.stop)


@dataclass
class Page:
    """Bytes of a source that begin at `start`.

    stop     no header that begins from here on is complete in this page; it will be in the next
    is_last  the source ends with this page
    walked   position in this page up to which a walk has come; it may be beyond the page. The walk sets it
    """

    data: bytes
    start: int
    stop: int
    is_last: bool
    walked: int = 0


@dataclass(frozen=True)
class EncodedStream:
    """One stream of a recording, which a decoder can read on its own.

    pieces  bytes, or spans of the source, that joined make a file; None: the whole source
    """

    pieces: tuple[bytes | Span, ...] | None = None

    def size(self, source: ByteSource) -> int:
        """Number of bytes of this stream as a file."""
        if self.pieces is None:
            return source.size
        return sum(len(piece) if isinstance(piece, bytes) else piece[1] - piece[0] for piece in self.pieces)

    def data(self, source: ByteSource) -> bytes:
        """The bytes of this stream as a file."""
        if self.pieces is None:
            return source.whole()
        return b"".join(
            piece if isinstance(piece, bytes) else source.read(piece[0], piece[1] - piece[0]) for piece in self.pieces
        )


@dataclass
class StreamLayout:
    """The streams of a recording, in order.

    streams       at least one
    seconds       their total duration; None: unknown before decoding
    notes         what is missing or cannot be read, as far as known before decoding
    needs_ffmpeg  libsndfile cannot read this file, or only a part of it
    repaired      makes a stream to try if the first stream cannot be opened
    """

    streams: list[EncodedStream] = field(default_factory=lambda: [EncodedStream()])
    seconds: float | None = None
    notes: list[str] = field(default_factory=list)
    needs_ffmpeg: bool = False
    repaired: Callable[[], EncodedStream] | None = None
