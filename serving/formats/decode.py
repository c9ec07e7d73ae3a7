"""A source -> its samples: every stream in it, joined; and what could not be read, told."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from soundfile import SoundFile, SoundFileError

from serving.errors import AudioError, DurationError, FormatError
from serving.formats import chunks, mp3, ogg
from serving.formats.containers import find_demuxer, opened_container
from serving.formats.libsndfile import file_seconds, opened, opened_fd, reason_of
from serving.formats.names import FORMATS
from serving.formats.sound import Decoded, Sound
from serving.formats.source import Layout, Source, Stream
from serving.formats.tags import tag_end

MOST_IN_ONE = 2**30  # bytes of an MP3 or OGG: 18 hours at 128 kbit/s
MP3_BEGINS_WITHIN = 2**18  # bytes, where no tag and no zeros stand first
CHUNKED = (b"RIFF", b"RIFX", b"RF64", b"BW64", b"FORM", b"riff", b".snd", b"caff")


def decode(source: Source, name: str, max_seconds: float | None, warn: Callable[[str], None]) -> Decoded:
    """All streams of a source, joined.

    name   for messages
    warn   called with what could not be read, once for each thing
    Streams of several rates and channels are brought to the highest rate and the most channels.
    errors   FormatError: not readable; DurationError: more than max_seconds
    """
    layout = _layout_of(source, name)
    sound = Sound(name, max_seconds)
    if layout.demuxed:
        return _from_container(source, sound, warn, None)
    for number, stream in enumerate(layout.streams):
        try:
            with _opened(source, stream, layout if number == 0 else Layout()) as file:
                sound.add(file, lambda stream=stream: _opened(source, stream, layout))
        except SoundFileError as error:
            if number == 0 and (len(layout.streams) == 1 or stream.pieces is None):
                refused = FormatError(f"{name}: not a readable audio file ({reason_of(error)}); send {FORMATS}")
                return _from_container(source, sound, warn, refused)
            sound.notes.append(f"stream {number + 1} of {len(layout.streams)} cannot be read ({reason_of(error)})")
    for note in (*layout.notes, *sound.notes):
        warn(f"{name}: {note}")
    return sound.joined()


def source_seconds(source: Source) -> float | None:
    """How long the source's headers say that it lasts, in seconds; nothing is decoded.

    None where they do not say, or it cannot be read: `decode` tells why. Of MP3 it is the frames' own length.
    """
    try:
        layout = _layout_of(source, "audio")
        if layout.seconds is not None:
            return layout.seconds
        data = layout.streams[0].data(source)
        known = file_seconds(data)
        if known is None and find_demuxer(source):
            with opened_container(source, "audio") as container:
                known = container.seconds
        return known
    except AudioError:
        return None


def _layout_of(source: Source, name: str) -> Layout:
    """Where the streams are, by how the file begins."""
    magic = source.read(0, 4)
    if magic in CHUNKED:
        return chunks.read_layout(source)
    if magic == b"fLaC":
        return Layout()
    if magic != ogg.PAGE and find_demuxer(source):
        return Layout(demuxed=True)
    start = source.read(0, MP3_BEGINS_WITHIN)
    if not (magic == ogg.PAGE or mp3.begins(start) or mp3.read_layout(start)):
        return Layout()
    if source.size > MOST_IN_ONE:
        raise DurationError(f"{name}: is larger than {MOST_IN_ONE / 1e9:.1f} GB; cut it into shorter recordings")
    data = source.whole()
    sound = tag_end(data, 0) if magic[:3] == b"ID3" else 0
    if data[sound : sound + 4] == b"fLaC":
        return Layout([Stream(((sound, source.size),))])
    return (ogg if data[sound : sound + 4] == ogg.PAGE else mp3).read_layout(data) or Layout()


@contextmanager
def _opened(source: Source, stream: Stream, layout: Layout) -> Iterator[SoundFile]:
    """A stream, or else its repaired form. SoundFileError: neither can be opened."""
    ended = False
    try:
        with _opened_as_is(source, stream) as file:
            ended = True
            yield file
    except SoundFileError:
        if ended or layout.repaired is None:
            raise
        with _opened_as_is(source, layout.repaired()) as file:
            yield file


@contextmanager
def _opened_as_is(source: Source, stream: Stream) -> Iterator[SoundFile]:
    if stream.pieces is None and source.fd is not None:
        with opened_fd(source.fd) as file:
            yield file
    else:
        with opened(stream.data(source)) as file:
            yield file


def _from_container(source: Source, sound: Sound, warn: Callable[[str], None], refused: FormatError | None) -> Decoded:
    """By FFmpeg. refused: libsndfile's reason, where it has tried."""
    try:
        with opened_container(source, sound.name) as container:
            sound.add_container(container)
    except FormatError as error:
        raise refused or error from error
    for note in container.notes:
        warn(f"{sound.name}: {note}")
    return sound.joined()
