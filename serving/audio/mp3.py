"""MP3: find the frames between tags and damage, and give each stream a first frame that states their number.

Without such a "count frame" libsndfile estimates the length from the size and the first frames, and stops decoding
there. So each stream gets a count frame with the right number. A new stream begins at a count frame in the middle of
the file, and where the rate or the channels change: if two files were joined, each keeps its own delay and padding.

libsndfile (with mpg123) decodes the streams that are found here.

Source: ISO/IEC 11172-3, section 2.4.2.3 (frame header); the Xing, LAME and VBRI frames as mpg123 reads them;
ID3v2.4, section 3.1; APEv2.
"""

import re
from dataclasses import dataclass, field
from functools import cache

from serving.audio.streams import ByteSource, EncodedStream, Page, Span, StreamLayout
from serving.audio.tags import TAG, tag_end

KBIT_V1 = (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 0)  # of layer III, by index
KBIT_V2 = (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160, 0)
RATES_HZ = {3: (44_100, 48_000, 32_000), 2: (22_050, 24_000, 16_000), 0: (11_025, 12_000, 8_000)}  # by version bits
SYNC = re.compile(rb"\xff[\xe2\xe3\xf2\xf3\xfa\xfb][\x10-\xef]")
COUNT_FRAMES = (b"Xing", b"Info", b"VBRI")  # names in count frames
FRAMES_IN_A_ROW = 3  # consecutive frames that begin a stream
MOST_TRIES = 2**15  # tests for the start of a stream: an hour of damaged MP3 needs fewer, noise more
MOST_STREAMS = 1000  # that are decoded
LAME_PADDING = 142  # offset after "Xing" of the padding, the last 12 of 24 bits for delay and padding


@dataclass(frozen=True)
class FrameKind:
    """What all frames of a stream have in common, from a frame's header.

    version  bits of the header: 3 is MPEG 1, 2 is MPEG 2, 0 is MPEG 2.5
    sizes    size of a frame in bytes, by the third byte of its header; 0: the frame is of another kind
    """

    version: int
    rate_hz: int
    mono: bool
    sizes: tuple[int, ...]

    @property
    def samples(self) -> int:
        """Samples of each channel in a frame."""
        return 1152 if self.version == 3 else 576

    @property
    def side_bytes(self) -> int:
        """Bytes of side information after the header. A Xing frame has its name after them."""
        return (17 if self.mono else 32) if self.version == 3 else (9 if self.mono else 17)


@dataclass
class FoundStream:
    """The frames of one stream.

    header        first four bytes of its first frame
    count_frame   the encoder's count frame; None: there is none
    spans         of consecutive frames
    count         number of frames
    """

    kind: FrameKind
    header: bytes
    count_frame: bytes | None
    spans: list[Span] = field(default_factory=list)
    count: int = 0

    def add(self, start: int, end: int, count: int) -> None:
        """Add consecutive frames. start, end: of their bytes."""
        if self.spans and self.spans[-1][1] == start:
            start = self.spans.pop()[0]
        self.spans.append((start, end))
        self.count += count

    @property
    def seconds(self) -> float:
        return self.count * self.kind.samples / self.kind.rate_hz


@cache
def _kind(version: int, rate_index: int, mono: bool) -> FrameKind:
    rate_hz, kbit = RATES_HZ[version][rate_index], KBIT_V1 if version == 3 else KBIT_V2
    factor = 144_000 if version == 3 else 72_000
    sizes = tuple(
        factor * kbit[byte >> 4] // rate_hz + (byte >> 1 & 1) if kbit[byte >> 4] and byte >> 2 & 3 == rate_index else 0
        for byte in range(256)
    )
    return FrameKind(version, rate_hz, mono, sizes)


def _kind_at(data: bytes, at: int) -> FrameKind | None:
    """The kind of the frame whose header is at `at`; None: no header of layer III, or one of free format."""
    header = data[at : at + 4]
    if len(header) < 4 or header[0] != 0xFF or header[1] & 0xE6 != 0xE2 or header[1] >> 3 & 3 == 1:
        return None
    rate_index = header[2] >> 2 & 3
    if rate_index == 3 or header[2] >> 4 in (0, 15):
        return None
    return _kind(header[1] >> 3 & 3, rate_index, header[3] >> 6 == 3)


def read_layout(source: ByteSource, start: int = 0, end: int | None = None) -> StreamLayout | None:
    """Find the streams in the bytes of an MP3 file, or in those from `start` to `end`; None: there are none."""
    walk = _FrameWalk()
    for page in source.pages(start, source.size if end is None else end):
        walk.run(page)
        if walk.cut:
            break
    streams = [frames for frames in walk.streams if frames.count]
    if not streams:
        return None
    notes = []
    for frames in streams:
        stated = _stated_count(frames)
        if stated > frames.count + 1:  # some encoders count the count frame too
            stated_s = stated * frames.kind.samples / frames.kind.rate_hz
            fault = "damaged" if walk.junk else "cut off"
            notes.append(f"{fault}: {frames.seconds:.1f} of {stated_s:.1f} s are there, and were read")
            if walk.junk:
                notes[-1] += f"; times after the damage are up to {stated_s - frames.seconds:.1f} s too early"
    if walk.cut and not notes:
        notes.append("cut off in the middle of a frame: what was before it was read")
    if walk.junk:
        notes.append(
            f"damaged: {walk.junk} bytes between or after its frames are no MP3, and were left out; times after them "
            "may be too early"
        )
    if len(streams) > MOST_STREAMS:
        left_s = sum(frames.seconds for frames in streams[MOST_STREAMS:])
        notes.append(f"{len(streams)} streams joined: only {MOST_STREAMS} were read, {left_s:.1f} s were left out")
    streams = streams[:MOST_STREAMS]
    return StreamLayout([_stream(frames) for frames in streams], sum(frames.seconds for frames in streams), notes)


class _FrameWalk:
    """Goes through a file from frame to frame, page by page.

    streams  found so far
    junk     bytes after the first frame that are neither frames nor tags nor zeros
    cut      the last frame is incomplete
    """

    def __init__(self) -> None:
        self.streams: list[FoundStream] = []
        self.junk = 0
        self.cut = False
        self.data = b""
        self._page = Page(b"", 0, 0, is_last=True)
        self._tries = 0
        self._frames_end = -1  # where a page cut a row of frames; the next page goes on with it
        self._names = dict.fromkeys(COUNT_FRAMES, 0)  # next position of each in this page

    def run(self, page: Page) -> None:
        """Go through a page."""
        self._page, self.data = page, page.data
        self._names = dict.fromkeys(COUNT_FRAMES, 0)
        data, at = self.data, 0
        while at < page.stop and not self.cut:
            if end := tag_end(data, at):
                at = end
                continue
            kind = _kind_at(data, at)
            if kind and (page.start + at == self._frames_end or self._begins(at, kind)):
                at = self._add_frames(at, kind)
                continue
            self._tries += 1
            after = min(self._next(at + 1) if self._tries < MOST_TRIES else len(data), page.stop)
            if self.streams:
                self.junk += after - at
            at = after
        page.walked = at

    def _next(self, at: int) -> int:
        """The next position where a frame or a tag may begin."""
        found = SYNC.search(self.data, at)
        after = found.start() if found else len(self.data)
        tag = TAG.search(self.data, at, after)
        return tag.start() if tag else after

    def _begins(self, at: int, kind: FrameKind) -> bool:
        """Whether a stream begins here: more frames or the end must follow, because two bytes can match by chance."""
        data = self.data
        goes_on = bool(self.streams) and self.streams[-1].kind is kind
        for found in range(FRAMES_IN_A_ROW):
            if _kind_at(data, at) is not kind:
                return False
            at += kind.sizes[data[at + 2]]
            if at >= len(data):
                return goes_on or at == len(data)
            if tag_end(data, at):  # one frame before zeros may match by chance
                return goes_on or found > 0 or data[at] > 0
        return True

    def _add_frames(self, at: int, kind: FrameKind) -> int:
        """Add the consecutive frames from here on to the streams. Returns their end."""
        data, sizes, base, stop = self.data, kind.sizes, self._page.start, self._page.stop
        if self._is_count_frame(at, kind):
            after = min(at + sizes[data[at + 2]], len(data))
            self.streams.append(FoundStream(kind, data[at : at + 4], data[at:after]))
            at = after
        elif not self.streams or self.streams[-1].kind is not kind:
            self.streams.append(FoundStream(kind, data[at : at + 4], None))
        stream, start, count, size = self.streams[-1], at, 0, 0
        second, mono, n_bytes = stream.header[1] | 1, kind.mono, len(data)
        next_count_frame = self._next_count_frame(at)
        while at < stop and at + 4 <= n_bytes and data[at] == 0xFF and data[at + 1] | 1 == second:
            size = sizes[data[at + 2]]
            if not size or (data[at + 3] >= 0xC0) is not mono:
                break
            if at >= next_count_frame:
                if self._is_count_frame(at, kind):
                    break
                next_count_frame = self._next_count_frame(at)
            at += size
            count += 1
        if at > n_bytes:  # the last frame is incomplete
            self.cut = True
            count, at = count - 1, at - size
        elif at >= stop:
            self._frames_end = base + at
        if count:
            stream.add(base + start, base + at, count)
        return at

    def _is_count_frame(self, at: int, kind: FrameKind) -> bool:
        """Whether the frame at `at` states how many frames follow."""
        name = at + 4 + kind.side_bytes
        return self.data[name : name + 4] in (b"Xing", b"Info") or self.data[at + 36 : at + 40] == b"VBRI"

    def _next_count_frame(self, at: int) -> int:
        """The earliest position, from `at` on, of a frame that may be a count frame."""
        for name, place in self._names.items():
            if 0 <= place < at:
                found = self.data.find(name, at)
                self._names[name] = found if found >= 0 else len(self.data) + 36
        return min(self._names.values()) - 36


def begins(data: bytes) -> bool:
    """Whether the bytes begin with a frame, a tag or zeros."""
    return bool(data) and (SYNC.match(data) is not None or tag_end(data, 0) > 0)


def _stated_count(frames: FoundStream) -> int:
    """The number of frames that the encoder's count frame states; 0: there is none, or it states no number."""
    first = frames.count_frame
    if not first:
        return 0
    name = 4 + frames.kind.side_bytes
    if first[name : name + 4] in (b"Xing", b"Info") and len(first) > name + 7 and first[name + 7] & 1:
        return int.from_bytes(first[name + 8 : name + 12], "big")
    return int.from_bytes(first[50:54], "big") if first[36:40] == b"VBRI" else 0


def _stream(frames: FoundStream) -> EncodedStream:
    """A file of only these frames, after a count frame with the right number."""
    n_bytes = sum(end - start for start, end in frames.spans)
    first = bytearray(frames.count_frame or b"")
    name = 4 + frames.kind.side_bytes
    if len(first) < name + 16 or first[name + 7] & 3 != 3 or first[name : name + 4] == b"VBRI":
        return EncodedStream((_count_frame(frames, n_bytes), *frames.spans))
    if _stated_count(frames) != frames.count:
        first[name + 8 : name + 12] = frames.count.to_bytes(4, "big")
        if first[name + 7] & 15 == 15 and len(first) > name + LAME_PADDING:
            first[name + LAME_PADDING] &= 0xF0  # the last frames that are there hold sound, not padding
            first[name + LAME_PADDING + 1] = 0
    first[name + 12 : name + 16] = (len(first) + n_bytes).to_bytes(4, "big")
    return EncodedStream((bytes(first), *frames.spans))


def _count_frame(frames: FoundStream, n_bytes: int) -> bytes:
    """A silent frame that states how many frames follow, in the format of the Xing encoder."""
    kind = frames.kind
    wanted = 4 + kind.side_bytes + 16
    rate_bits = frames.header[2] & 0x0C
    third = next(byte | rate_bits for byte in range(0x10, 0xF0, 0x10) if kind.sizes[byte | rate_bits] >= wanted)
    size = kind.sizes[third]
    head = bytes((0xFF, frames.header[1] | 1, third, frames.header[3])) + bytes(kind.side_bytes)
    count = b"Xing" + (3).to_bytes(4, "big") + frames.count.to_bytes(4, "big") + (size + n_bytes).to_bytes(4, "big")
    return (head + count).ljust(size, b"\0")
