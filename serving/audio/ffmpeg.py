"""Decode with FFmpeg what libsndfile cannot read: AAC, M4A, MP4, WebM, WMA and other formats of phones and browsers.

PyAV contains FFmpeg's libraries; it is the optional extra `formats`. The encoder's delay and
padding are removed from MP4 and M4A by their edit list, and from WebM by the codec's delay. Raw AAC (ADTS) does not
state them: its sound begins with the encoder's delay, usually 1024 samples of silence.
"""

import io
import math
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serving.audio.file_names import FORMATS
from serving.audio.streams import ByteSource
from serving.audio.tags import id3_size
from serving.errors import AudioError, FormatError
from serving.extras import pip_install

EXTRA = f"reading it takes PyAV: {pip_install('formats')}"
MOST_FAULTS = 1000  # packets that cannot be decoded; after more, decoding stops
MOST_TAGS = 4  # ID3 tags before AAC
NEARLY = 0.95  # share of the stated duration, less half a second, that counts as complete: headers are not exact
# FFmpeg's demuxers by the first bytes of a file. No other demuxer is used: some of them open other files or URLs.
DEMUXERS = {
    b"\x1a\x45\xdf\xa3": ("matroska", "WebM or Matroska"),
    b"\x30\x26\xb2\x75\x8e\x66\xcf\x11": ("asf", "WMA"),
    b"#!AMR": ("amr", "AMR"),
    b"\x0b\x77": ("ac3", "AC-3"),
    b"wvpk": ("wv", "WavPack"),
    b"MAC ": ("ape", "Monkey's Audio"),
    b"caff": ("caf", "CAF"),
    b"OggS": ("ogg", "OGG"),
    b"RIFF": ("wav", "WAV"),
    b"FORM": ("aiff", "AIFF"),
}
RAW = ("aac", "ac3", "amr", "mp3")  # demuxers of streams without a header, of which FFmpeg guesses the duration
MP4_BOXES = (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip")
SCALES = {"u8": 2**7, "s16": 2**15, "s32": 2**31, "s64": 2**63}


def find_demuxer(source: ByteSource) -> tuple[str, str] | None:
    """The demuxer's name and the format's name for a file; None: a format that is not read here."""
    at, head = 0, source.read(0, 16)
    for _ in range(MOST_TAGS):
        at += id3_size(head[:10])
        head = source.read(at, 16)
    if head[4:8] in MP4_BOXES:
        return "mov", "MP4 or M4A"
    if len(head) > 1 and head[0] == 0xFF and head[1] & 0xF6 == 0xF0:
        return "aac", "AAC"
    if len(head) > 1 and head[0] == 0xFF and head[1] & 0xE0 == 0xE0 and head[1] >> 3 & 3 != 1 and head[1] & 4:
        return "mp3", "MPEG audio of layer I or II"
    return next((names for magic, names in DEMUXERS.items() if head.startswith(magic)), None)


class Container:
    """A file that FFmpeg has opened.

    opened   by PyAV, with `demuxer`
    notes    what could not be read
    """

    def __init__(self, opened: Any, name: str, demuxer: str):
        self._opened = opened
        self._demuxer = demuxer
        self._name = name
        self.notes: list[str] = []
        if not opened.streams.audio:
            raise AudioError(f"{name}: has no sound in it; wanted a recording")
        self._stream = opened.streams.audio[0]

    @property
    def seconds(self) -> float | None:
        """The duration that the header states; None if it does not."""
        if self._demuxer in RAW:
            return None
        for duration, base in ((self._stream.duration, self._stream.time_base), (self._opened.duration, 1e-6)):
            if duration and base and 0 < duration * float(base) < math.inf:
                return float(duration * base)
        return None

    def blocks(self) -> Iterator[tuple[NDArray[np.float32], int]]:
        """Yield blocks [n_samples, n_channels] float32 in [-1, 1] and their rates; skip and note damaged packets."""
        from av.error import FFmpegError

        faults, read_s = 0, 0.0
        try:
            for packet in self._opened.demux(self._stream):
                try:
                    frames = packet.decode()
                except FFmpegError:
                    faults += 1
                    if faults > MOST_FAULTS:
                        break
                    continue
                for frame in frames:
                    if frame.samples and frame.sample_rate > 0:
                        read_s += frame.samples / frame.sample_rate
                        yield _samples(frame), frame.sample_rate
        except (FFmpegError, ValueError, OverflowError) as error:
            self.notes.append(f"damaged: could be read only as far as {read_s:.1f} s ({_reason(error)})")
            return
        known = self.seconds
        if known and read_s < NEARLY * known - 0.5:
            self.notes.append(f"cut off: {read_s:.1f} of {known:.1f} s are there, and were read")
        elif faults:
            self.notes.append(f"damaged: {faults} packets could not be decoded, and were left out")


def wanted_formats() -> str:
    """The formats that are read, for messages; with the way to read more if PyAV is not installed."""
    more = "" if find_spec("av") else f"; for M4A, AAC, WMA and others: {pip_install('formats')}"
    return f"wanted {FORMATS}{more}"


@contextmanager
def opened_container(source: ByteSource, name: str) -> Iterator[Container]:
    """Open a file with FFmpeg. FormatError: another format, a damaged file, or PyAV is not installed."""
    known = find_demuxer(source)
    if known is None:
        raise FormatError(f"{name}: has an unknown format")
    demuxer, kind = known
    try:
        import av
        from av import logging
        from av.error import FFmpegError
    except ImportError as error:
        raise FormatError(f"{name}: is {kind}; {EXTRA}") from error
    logging.set_level(None)
    try:
        opened = av.open(_File(source), format=demuxer, metadata_errors="replace")
    except (FFmpegError, ValueError, OverflowError) as error:
        raise FormatError(
            f"{name}: not a readable {kind} file ({_reason(error)}); wanted a whole one, or WAV or FLAC"
        ) from error
    with opened:
        yield Container(opened, name, demuxer)


def _samples(frame: Any) -> NDArray[np.float32]:
    values = frame.to_ndarray()  # [n_channels, n_samples]; of interleaved formats [1, n_samples * n_channels]
    channels, kind = frame.layout.nb_channels, frame.format.name
    values = values.T if frame.format.is_planar else values.reshape(-1, channels)
    scale = SCALES.get(kind.removesuffix("p"))
    if scale is None:
        return np.ascontiguousarray(values, np.float32)
    zero = 128 if kind.startswith("u8") else 0
    return ((values.astype(np.float64) - zero) / scale).astype(np.float32)


def _reason(error: Exception) -> str:
    return "FFmpeg: " + " ".join(str(getattr(error, "strerror", None) or error).split())


class _File(io.RawIOBase):
    """A source as a file object. FFmpeg gets no file name, so that it cannot open any other file or URL."""

    def __init__(self, source: ByteSource):
        self._source = source
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def read(self, count: int = -1, /) -> bytes:
        data = self._source.read(self._at, self._source.size if count < 0 else count)
        self._at += len(data)
        return data

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        base = (0, self._at, self._source.size)[whence]
        self._at = max(0, base + offset)
        return self._at

    def tell(self) -> int:
        return self._at
