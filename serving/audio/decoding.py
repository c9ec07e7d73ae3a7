"""Decode all streams of a file with libsndfile or FFmpeg, block by block, and report what could not be read."""

from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager

from soundfile import SoundFile, SoundFileError

from serving.audio import mp3, ogg, wav
from serving.audio.ffmpeg import find_demuxer, opened_container, wanted_formats
from serving.audio.libsndfile import (
    MOST_COPIED,
    opened,
    opened_data,
    opened_fd,
    opened_reader,
    reason_of,
    stated_seconds,
)
from serving.audio.sample_blocks import VALUES_PER_SECOND, BlockReader, SampleBlock
from serving.audio.stream_reader import StreamReader
from serving.audio.streams import ByteSource, EncodedStream, StreamLayout
from serving.audio.tags import id3_size
from serving.errors import AudioError, FormatError

MP3_BEGINS_WITHIN = 2**18  # bytes, unless the file begins with a tag or zeros
CHUNKED = (b"RIFF", b"RIFX", b"RF64", b"BW64", b"FORM", b"riff", b".snd", b"caff")


def decode_blocks(
    source: ByteSource,
    name: str,
    max_seconds: float | None,
    warn: Callable[[str], None],
    most_values: float | None = VALUES_PER_SECOND,
) -> Generator[SampleBlock]:
    """Decode all streams of a source, one after the other, and yield their samples block by block.

    name   for messages
    warn   called at the end with one line for each part that could not be read
    most_values   see `BlockReader`; None where the blocks are not kept
    errors FormatError: not readable; DurationError: more than max_seconds, perhaps after some blocks
    """
    if source.size == 0:
        raise FormatError(f"{name}: is an empty file, of 0 bytes; {wanted_formats()}")
    layout = _layout_of(source)
    reader = BlockReader(name, max_seconds, most_values)
    if layout.needs_ffmpeg:
        yield from _decode_with_ffmpeg(source, reader, warn, None)
        return
    for number, stream in enumerate(layout.streams):
        try:
            with _opened(source, stream, layout if number == 0 else StreamLayout()) as file:
                yield from reader.read_file(file, lambda stream=stream: _opened(source, stream, layout))
        except SoundFileError as error:
            if number == 0 and (len(layout.streams) == 1 or stream.pieces is None):
                refused = FormatError(f"{name}: not a readable audio file ({reason_of(error)}); {wanted_formats()}")
                yield from _decode_with_ffmpeg(source, reader, warn, refused)
                return
            reader.notes.append(f"stream {number + 1} of {len(layout.streams)} cannot be read ({reason_of(error)})")
    for note in (*layout.notes, *reader.notes):
        warn(reader.told(note))


def source_seconds(source: ByteSource) -> float | None:
    """The duration in seconds that the headers of a source state; of MP3 the sum of its frames. Nothing is decoded.

    None if the headers do not state it or cannot be read (`decode` gives the reason).
    """
    try:
        layout = _layout_of(source)
        if layout.seconds is not None:
            return layout.seconds
        known = _stated_seconds(source, layout.streams[0])
        if known is None and find_demuxer(source):
            with opened_container(source, "audio") as container:
                known = container.seconds
        return known
    except AudioError:
        return None


def _stated_seconds(source: ByteSource, stream: EncodedStream) -> float | None:
    """The duration in seconds that a stream's header states; None as `stated_seconds`. Of a file only that is read."""
    try:
        if source.fd is None:
            with opened_data(stream.data(source)) as file:
                return stated_seconds(file)
        if stream.pieces is None:
            with opened_fd(source.fd) as file:
                return stated_seconds(file)
        with opened_reader(StreamReader(source, stream.pieces)) as file:
            return stated_seconds(file)
    except SoundFileError:
        return None


def _layout_of(source: ByteSource) -> StreamLayout:
    """Find the streams; the first bytes of the file say how."""
    head = source.read(0, 10)
    magic = head[:4]
    if magic in CHUNKED:
        return wav.read_layout(source)
    if magic == b"fLaC":
        return StreamLayout()
    tag = id3_size(head)
    if tag and source.read(tag, 4) in (b"fLaC", *CHUNKED):
        return StreamLayout([EncodedStream(((tag, source.size),))])
    if magic != ogg.PAGE and find_demuxer(source):
        return StreamLayout(needs_ffmpeg=True)
    start = source.read(0, MP3_BEGINS_WITHIN)
    if not (magic == ogg.PAGE or mp3.begins(start) or mp3.read_layout(ByteSource(start))):
        return StreamLayout()
    return (ogg if magic == ogg.PAGE else mp3).read_layout(source) or StreamLayout()


@contextmanager
def _opened(source: ByteSource, stream: EncodedStream, layout: StreamLayout) -> Iterator[SoundFile]:
    """Open a stream, or its repaired form if that fails. SoundFileError: neither can be opened."""
    is_open = False
    try:
        with _opened_as_is(source, stream) as file:
            is_open = True
            yield file
    except SoundFileError:
        if is_open or layout.repaired is None:
            raise
        with _opened_as_is(source, layout.repaired()) as file:
            yield file


@contextmanager
def _opened_as_is(source: ByteSource, stream: EncodedStream) -> Iterator[SoundFile]:
    if stream.pieces is None and source.fd is not None:
        with opened_fd(source.fd) as file:
            yield file
    elif stream.pieces is None or stream.size(source) <= MOST_COPIED:
        with opened(stream.data(source)) as file:
            yield file
    else:
        with opened_reader(StreamReader(source, stream.pieces)) as file:
            yield file


def _decode_with_ffmpeg(
    source: ByteSource, reader: BlockReader, warn: Callable[[str], None], refused: FormatError | None
) -> Iterator[SampleBlock]:
    """Decode with FFmpeg. refused: libsndfile's error, raised if FFmpeg cannot read the file either."""
    try:
        with opened_container(source, reader.name) as container:
            yield from reader.read_container(container)
    except FormatError as error:
        raise refused or error from error
    for note in container.notes:
        warn(reader.told(note))
