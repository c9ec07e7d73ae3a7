"""Streams that libsndfile decodes: opened from memory or a file, and read from the start to the end."""

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import numpy as np
from numpy.typing import NDArray
from soundfile import SoundFile, SoundFileError

MOST_COPIED = 2**24  # bytes of a file that libsndfile gets a copy of
UNKNOWN_LENGTH = 2**63 - 1  # libsndfile's answer for a streamed FLAC


@contextmanager
def opened(data: bytes) -> Iterator[SoundFile]:
    """The bytes as a file to read from the start to the end. SoundFileError: not one that libsndfile reads.

    Of the kernel's memory, where there is such a thing: of Python's, each of a hundred reads would need Python's lock,
    and a busy server waits for it so often that it answered 9 % fewer OGG files. WAV of 16 bits has its samples read at
    once, and the copy would take 0.2 ms of 0.3 for five seconds.
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
    """An open file, read by libsndfile alone: it asks for Python's lock only when it is done.

    Not by its name, from which libsndfile would guess a format where the content tells of none.
    """
    os.lseek(fd, 0, os.SEEK_SET)
    with _ForwardFile(fd, closefd=False) as file:
        yield file


def read_block(file: SoundFile, n_samples: int) -> NDArray[np.float32]:
    """The next samples [n_samples or fewer, n_channels] float32. SoundFileError: damaged, see `read_rest`."""
    if file.subtype == "PCM_16":  # libsndfile's own conversion gives the same numbers in six times the time
        whole = file.read(n_samples, dtype="int16", always_2d=True)
        return np.multiply(whole, np.float32(1 / 2**15), dtype=np.float32)
    return np.asarray(file.read(n_samples, dtype="float32", always_2d=True), dtype=np.float32)


def read_before_damage(file: SoundFile, n_samples: int) -> NDArray[np.float32]:
    """As `read_block`, of a file in which that fails: what libsndfile decoded before it did."""
    block = np.full((n_samples, file.channels), np.nan, np.float32)
    with suppress(SoundFileError):
        file.read(n_samples, dtype="float32", always_2d=True, out=block)
    missing = np.flatnonzero(np.isnan(block[:, -1]))
    return block[: missing[0]] if missing.size else block


def file_seconds(data: bytes) -> float | None:
    """How long the header says that the file lasts, in seconds; None where it does not say, or cannot be read."""
    try:
        with SoundFile(_Memory(data)) as file:
            return None if file.frames == UNKNOWN_LENGTH else file.frames / file.samplerate
    except SoundFileError:
        return None


def reason_of(error: Exception) -> str:
    """libsndfile's reason, without its prefix and full stop."""
    reason = str(error).split(": ", 1)[-1].strip().rstrip(".")
    # mpg123's words for bytes in which it finds no whole frame.
    return "no MP3 frame in it" if reason.startswith("File does not exist") else f"soundfile: {reason}"


def _is_pcm_16(data: bytes) -> bool:
    """Whether it is a WAV file whose format stands first, as it mostly does, and gives 16 bits a sample."""
    return data[:4] == b"RIFF" and data[12:16] == b"fmt " and data[34:36] == b"\x10\0"


class _Memory(io.BytesIO):
    """Bytes in which a damaged file can make libsndfile seek to before the start: that leads to the start."""

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        return super().seek(max(0, offset) if whence == io.SEEK_SET else offset, whence)


class _ForwardFile(SoundFile):
    """Reads from the start to the end without seeking, which fails at the end of a FLAC of unknown length."""

    def seekable(self) -> bool:
        return False
