"""A path, or the bytes of an audio file -> its samples."""

import errno
import os
import stat
import warnings
from collections.abc import Callable, Generator, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from serving.audio.decoded_samples import joined
from serving.audio.decoding import decode_blocks, source_seconds
from serving.audio.sample_blocks import VALUES_PER_SECOND, SampleBlock
from serving.audio.streams import ByteSource
from serving.audio.waveform import check_wave
from serving.errors import AudioError, AudioWarning
from serving.files.file_record import regular_descriptor


def warn_in_python(message: str) -> None:
    """Report a part of a file that could not be read as a Python warning: the default of the functions here."""
    warnings.warn(message, AudioWarning, stacklevel=4)


def read_audio(
    path: str | Path, max_seconds: float | None = None, warn: Callable[[str], None] = warn_in_python
) -> tuple[NDArray[np.float32], int]:
    """Decode a file.

    max_seconds  as `decode_audio`
    warn         as `decode_audio`
    returns      wave [n_samples, n_channels] float32, integer formats scaled to [-1, 1]; its rate in Hz
    errors       AudioError: not there, not readable, too long, no samples, NaN or infinite samples
    """
    blocks = file_blocks(path, max_seconds, warn)
    return _joined(blocks, str(path), max_seconds)


def file_blocks(
    path: str | Path,
    max_seconds: float | None,
    warn: Callable[[str], None],
    most_values: float | None = VALUES_PER_SECOND,
) -> Generator[SampleBlock]:
    """Decode a file block by block, see `decode_blocks`. AudioError: also if the file is not there or not readable."""
    path = Path(path)
    try:
        source = _source_of(path)
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the path
        raise _unreadable(path, error) from error
    try:
        yield from decode_blocks(source, str(path), max_seconds, warn, most_values)
    except OSError as error:
        raise _unreadable(path, error) from error
    finally:
        if source.fd is not None:
            os.close(source.fd)


def _source_of(path: Path) -> ByteSource:
    """Open a file without loading it. OSError or ValueError: it cannot be opened.

    errors   AudioError: a pipe, a socket or a device, because reading it could block for ever
    """
    mode = path.stat().st_mode
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    if not stat.S_ISREG(mode):
        raise AudioError(f"{path}: is a pipe, a socket or a device; give files")
    # Without blocking: a pipe may have taken the file's place since.
    return ByteSource(fd=regular_descriptor(path))


def _unreadable(path: Path, error: Exception) -> AudioError:
    reason = getattr(error, "strerror", None) or error
    return AudioError(f"{path}: cannot be read ({reason}); give the path of an audio file")


def decode_audio(
    data: bytes,
    name: str = "audio",
    max_seconds: float | None = None,
    warn: Callable[[str], None] = warn_in_python,
) -> tuple[NDArray[np.float32], int]:
    """Decode the bytes of one audio file. A damaged file is decoded as far as possible; `warn` gets what is missing.

    name         for messages
    max_seconds  longest recording, and the limit on memory at VALUES_PER_SECOND samples a second; None: no limit
    warn         called with one line, which begins with the name, for each part that is missing or cannot be read; the
                 default issues an AudioWarning
    returns      as `read_audio`
    errors       FormatError: not readable; DurationError: longer than max_seconds; otherwise as `check_wave`
    Streams that were joined to one file are decoded one after the other, those of several rates at the highest rate.
    """
    return _joined(decode_blocks(ByteSource(data), name, max_seconds, warn), name, max_seconds)


def header_seconds(data: bytes) -> float | None:
    """The duration in seconds that the headers of an audio file state. Nothing is decoded.

    None if they do not state it or cannot be read (`decode_audio` gives the reason). The stated duration may be wrong.
    """
    return source_seconds(ByteSource(data))


def file_seconds(path: str | Path) -> float | None:
    """As `header_seconds`, for a file; None also if it cannot be opened."""
    try:
        source = _source_of(Path(path))
    except (OSError, ValueError, AudioError):
        return None
    try:
        return source_seconds(source)
    finally:
        if source.fd is not None:
            os.close(source.fd)


def _joined(blocks: Iterator[SampleBlock], name: str, max_seconds: float | None) -> tuple[NDArray[np.float32], int]:
    samples = joined(blocks, name, max_seconds)
    if not samples.is_checked:
        check_wave(samples.wave, name)
    return samples.wave, samples.rate_hz
