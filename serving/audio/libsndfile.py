"""Decode with libsndfile: open a stream in memory or in a file, and read it from start to end.

Of a damaged MP3 its decoder, libmpg123, writes lines of its own to descriptor 2, such as "[src/libmpg123/layer3.c:...]
error: dequantization failed!". They stay. Only its flag MPG123_QUIET would stop them, for a handle that libsndfile does
not give out (libsndfile/libsndfile#958). To turn descriptor 2 aside while a file is decoded would do so for all
threads, and would lose our own messages, those of other libraries and those of a crash.
"""

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import numpy as np
from numpy.typing import NDArray
from soundfile import SoundFile, SoundFileError

MOST_COPIED = 2**24  # bytes; larger files are not copied to a memory file
READER_BUFFER = 2**17  # bytes
UNKNOWN_LENGTH = 2**63 - 1  # libsndfile's length of a streamed FLAC


@contextmanager
def opened(data: bytes) -> Iterator[SoundFile]:
    """Open bytes as a file. SoundFileError: libsndfile cannot read it.

    The bytes are copied to a memory file of the kernel where it has them. Otherwise each of a hundred reads would need
    Python's lock; a busy server waited for it so often that it answered 9 % fewer OGG files. 16-bit WAV is not copied:
    it is read at once, and the copy would take 0.2 ms of 0.3 for five seconds.
    """
    fd = None
    if hasattr(os, "memfd_create") and len(data) <= MOST_COPIED and not _is_pcm_16(data):
        with suppress(OSError):  # a sandbox may forbid it
            fd = os.memfd_create("audio")
    if fd is None:
        with _ForwardFile(_Memory(data)) as file:
            yield file
        return
    with os.fdopen(fd, "r+b") as memory:
        memory.write(data)
        memory.seek(0)
        with _ForwardFile(fd, closefd=False) as file:
            yield file


@contextmanager
def opened_fd(fd: int) -> Iterator[SoundFile]:
    """Open a file by its descriptor: libsndfile reads it without Python's lock.

    Not by its name: from the suffix libsndfile would guess a format if the content shows none.
    """
    os.lseek(fd, 0, os.SEEK_SET)
    with _ForwardFile(fd, closefd=False) as file:
        yield file


@contextmanager
def opened_reader(reader: io.RawIOBase) -> Iterator[SoundFile]:
    """Open a file that is read through Python. A buffer keeps the calls few: MP3 is read a few bytes at a time."""
    with io.BufferedReader(reader, READER_BUFFER) as buffered, _ForwardFile(buffered) as file:
        yield file


def read_block(file: SoundFile, n_samples: int) -> NDArray[np.float32]:
    """Read the next samples: [n_samples or fewer, n_channels] float32. SoundFileError: the file is damaged."""
    if file.subtype == "PCM_16":  # libsndfile's conversion gives equal numbers and takes six times as long
        whole = file.read(n_samples, dtype="int16", always_2d=True)
        return np.multiply(whole, np.float32(1 / 2**15), dtype=np.float32)
    return np.asarray(file.read(n_samples, dtype="float32", always_2d=True), dtype=np.float32)


def read_before_damage(file: SoundFile, n_samples: int) -> NDArray[np.float32]:
    """As `read_block`, for a damaged file: the samples before the damage."""
    block = np.full((n_samples, file.channels), np.nan, np.float32)
    with suppress(SoundFileError):
        file.read(n_samples, dtype="float32", always_2d=True, out=block)
    missing = np.flatnonzero(np.isnan(block[:, -1]))
    return block[: missing[0]] if missing.size else block


def opened_data(data: bytes) -> SoundFile:
    """Open bytes where they are, to read a header. SoundFileError: libsndfile cannot read it."""
    return SoundFile(_Memory(data))


def stated_seconds(file: SoundFile) -> float | None:
    """The duration in seconds that the header states; None if it does not state it."""
    return None if file.frames == UNKNOWN_LENGTH else file.frames / file.samplerate


def reason_of(error: Exception) -> str:
    """libsndfile's message, without its prefix and full stop."""
    reason = str(error).split(": ", 1)[-1].strip().rstrip(".")
    # This is what mpg123 says when it finds no whole frame.
    return "no MP3 frame in it" if reason.startswith("File does not exist") else f"soundfile: {reason}"


def _is_pcm_16(data: bytes) -> bool:
    """Whether it is a 16-bit WAV file whose first chunk is the format, which is the usual order."""
    return data[:4] == b"RIFF" and data[12:16] == b"fmt " and data[34:36] == b"\x10\0"


class _Memory(io.BytesIO):
    """Bytes that can be read as a file. A seek to before the start, which damaged files cause, goes to the start."""

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        return super().seek(max(0, offset) if whence == io.SEEK_SET else offset, whence)


class _ForwardFile(SoundFile):
    """Read from start to end without seeking, because a seek fails at the end of a FLAC of unknown length."""

    def seekable(self) -> bool:
        return False
