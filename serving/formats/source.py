"""The bytes of a file, in memory or on disk, and the streams of sound in them."""

import os
from collections.abc import Callable
from dataclasses import dataclass, field

Span = tuple[int, int]  # start and end of bytes of a source


class Source:
    """Bytes that can be read at any place.

    size  how many there are
    fd    of the open file that they are in; None: they are in memory
    """

    def __init__(self, data: bytes | None = None, fd: int | None = None):
        self._data = data
        self.fd = fd
        self.size = len(data) if data is not None else os.fstat(fd).st_size if fd is not None else 0

    def read(self, start: int, count: int) -> bytes:
        """`count` bytes from `start` on; fewer at the end."""
        if self._data is not None:
            return self._data[start : start + count]
        assert self.fd is not None
        pieces: list[bytes] = []
        while count > 0 and (piece := os.pread(self.fd, min(count, 2**30), start)):  # Linux reads 2 GB at most
            pieces.append(piece)
            start, count = start + len(piece), count - len(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def whole(self) -> bytes:
        """All bytes."""
        return self._data if self._data is not None else self.read(0, self.size)


@dataclass(frozen=True)
class Stream:
    """One stream of a recording, which a decoder reads by itself.

    pieces  bytes, or spans of the source, that make a file when they are joined; None: the source as it is
    """

    pieces: tuple[bytes | Span, ...] | None = None

    def data(self, source: Source) -> bytes:
        """The bytes of the stream's file."""
        if self.pieces is None:
            return source.whole()
        return b"".join(
            piece if isinstance(piece, bytes) else source.read(piece[0], piece[1] - piece[0]) for piece in self.pieces
        )


@dataclass
class Layout:
    """The streams of a recording, one after the other.

    streams   at least one
    seconds   how long they last together; None: only decoding tells
    notes     what is missing, or cannot be read, as far as it is known before decoding
    demuxed   libsndfile reads this only in part, or not at all: FFmpeg is to read it
    repaired  to be tried where the first stream cannot be opened
    """

    streams: list[Stream] = field(default_factory=lambda: [Stream()])
    seconds: float | None = None
    notes: list[str] = field(default_factory=list)
    demuxed: bool = False
    repaired: Callable[[], Stream] | None = None
