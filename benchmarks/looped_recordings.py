"""MP3 and OGG files of any length from one minute of sound: its frames or pages are repeated, not encoded again.

Encoding three hours would take longer than all that is measured with them. Each file is one stream, as an encoder
would have made it.
"""

import io
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray

from serving.audio import mp3
from serving.audio.streams import ByteSource

REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))  # each byte with its bits in reverse
LAST = 4  # bit of a page's type: the last page of a stream


def write_mp3(path: Path, sound: NDArray[np.int16], rate_hz: int, times: int) -> None:
    """Write `times` repetitions of the sound [n_samples, n_channels], without a frame that counts the others."""
    source = ByteSource(_encoded(sound, rate_hz, "MP3"))
    layout = mp3.read_layout(source)
    assert layout
    assert layout.streams[0].pieces
    spans = [piece for piece in layout.streams[0].pieces if isinstance(piece, tuple)]
    frames = b"".join(source.read(start, end - start) for start, end in spans)
    with path.open("wb") as file:
        for _ in range(times):
            file.write(frames)


def write_ogg(path: Path, sound: NDArray[np.int16], rate_hz: int, times: int) -> None:
    """Write `times` repetitions of the sound [n_samples, n_channels] as one Vorbis stream.

    Source: RFC 3533, section 6 (the positions of a page's fields and its checksum)
    """
    pages = list(_pages(_encoded(sound, rate_hz, "OGG")))
    headers = [page for page in pages if int.from_bytes(page[6:14], "little") == 0]
    number = 0
    with path.open("wb") as file:
        for page in headers:
            file.write(_page(page, number, 0, is_last=False))
            number += 1
        for i in range(times):
            for page in pages[len(headers) :]:
                is_last = i == times - 1 and page is pages[-1]
                file.write(_page(page, number, i * len(sound), is_last))
                number += 1


def _encoded(sound: NDArray[np.int16], rate_hz: int, file_format: str) -> bytes:
    buffer = io.BytesIO()
    with soundfile.SoundFile(buffer, "w", rate_hz, sound.shape[1], format=file_format) as file:
        for start in range(0, len(sound), rate_hz):  # libsndfile's Vorbis encoder fails at large blocks
            file.write(sound[start : start + rate_hz])
    return buffer.getvalue()


def _pages(data: bytes) -> Iterator[bytes]:
    at = 0
    while at < len(data):
        n_sizes = data[at + 26]
        end = at + 27 + n_sizes + sum(data[at + 27 : at + 27 + n_sizes])
        yield data[at:end]
        at = end


def _page(page: bytes, number: int, later: int, is_last: bool) -> bytes:
    """The page as page `number` of a stream, with its sound `later` samples later."""
    position = int.from_bytes(page[6:14], "little", signed=True)
    position = position + later if position >= 0 else position  # -1: no packet ends on this page
    kind = bytes([page[5] & ~LAST | LAST * is_last])
    head = page[:5] + kind + position.to_bytes(8, "little", signed=True) + page[14:18] + number.to_bytes(4, "little")
    return head + _checksum(head + bytes(4) + page[26:]).to_bytes(4, "little") + page[26:]


def _checksum(page: bytes) -> int:
    """OGG's CRC-32: that of zlib, with the bits of each byte and of the sum in reverse and zero at the start."""
    mirrored = zlib.crc32(page.translate(REVERSED), 2**32 - 1) ^ (2**32 - 1)
    return int(f"{mirrored:032b}"[::-1], 2)
