"""The pieces of an encoded stream as one file, without loading them."""

import io
from bisect import bisect_right
from contextlib import suppress
from itertools import accumulate
from typing import Any

from serving.audio.streams import ByteSource, Span


class StreamReader(io.RawIOBase):
    """Reads the pieces of a stream, see `EncodedStream`, one after the other.

    What cannot be read because of the disk ends the file: the decoder reports that the rest is missing.
    """

    def __init__(self, source: ByteSource, pieces: tuple[bytes | Span, ...]):
        self._source = source
        self._pieces = pieces
        sizes = [len(piece) if isinstance(piece, bytes) else piece[1] - piece[0] for piece in pieces]
        self._starts = list(accumulate(sizes, initial=0))  # of each piece, and the end of the last
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, into: Any, /) -> int:  # any buffer
        """Read up to the end of the current piece."""
        buffer = memoryview(into).cast("B")
        number = bisect_right(self._starts, self._at) - 1
        if number >= len(self._pieces):
            return 0
        piece, first = self._pieces[number], self._at - self._starts[number]
        count = min(len(buffer), self._starts[number + 1] - self._at)
        data = b""
        if isinstance(piece, bytes):
            data = piece[first : first + count]
        else:
            with suppress(OSError):
                data = self._source.read(piece[0] + first, count)
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        base = (0, self._at, self._starts[-1])[whence]
        self._at = max(0, base + offset)
        return self._at

    def tell(self) -> int:
        return self._at
