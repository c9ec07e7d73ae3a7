"""MP3: its frames, told from all that stands around them, and a first frame that says how many there are.

Without that frame libsndfile guesses the length from the size and the first frames, and stops there. So every stream
gets one that is right. Where an encoder's own frame begins in the middle, or rate or channels change, another stream
begins: of two files joined, each keeps its own delay and padding.

Source: ISO/IEC 11172-3, section 2.4.2.3 (frame header); the Xing, LAME and VBRI frames as mpg123 reads them;
ID3v2.4, section 3.1; APEv2.
"""

import re
from dataclasses import dataclass, field
from functools import cache

from serving.formats.source import Layout, Span, Stream
from serving.formats.tags import TAG, tag_end

KBIT_V1 = (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 0)  # of layer III, by index
KBIT_V2 = (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160, 0)
RATES_HZ = {3: (44_100, 48_000, 32_000), 2: (22_050, 24_000, 16_000), 0: (11_025, 12_000, 8_000)}  # by version bits
SYNC = re.compile(rb"\xff[\xe2\xe3\xf2\xf3\xfa\xfb][\x10-\xef]")
HEADER_FRAMES = (b"Xing", b"Info", b"VBRI")
FRAMES_IN_A_ROW = 3  # that make bytes after something else an MP3 stream
MOST_TRIES = 2**15  # places where a stream may begin: an hour of damaged MP3 has fewer, and noise ends here
MOST_STREAMS = 1000  # that are decoded
LAME_PADDING = 142  # offset after "Xing" of the last 12 of the 24 bits that hold delay and padding


@dataclass(frozen=True)
class Kind:
    """What all frames of a stream have in common. Hashable; made from a frame's header."""

    version: int
    rate_hz: int
    mono: bool
    sizes: tuple[int, ...]  # of a frame in bytes, by the third byte of its header; 0: not of this kind

    @property
    def samples(self) -> int:
        """In a frame."""
        return 1152 if self.version == 3 else 576

    @property
    def side(self) -> int:
        """Bytes of side information after the header, where a Xing frame has its name."""
        return (17 if self.mono else 32) if self.version == 3 else (9 if self.mono else 17)


@dataclass
class Frames:
    """One stream's frames.

    first   the frame that says how many there are, as the encoder wrote it; None: there is none
    spans   of its frames in a row
    """

    kind: Kind
    header: bytes
    first: Span | None
    spans: list[Span] = field(default_factory=list)
    count: int = 0

    @property
    def seconds(self) -> float:
        return self.count * self.kind.samples / self.kind.rate_hz


@cache
def _kind(version: int, rate_index: int, mono: bool) -> Kind:
    rate_hz, kbit = RATES_HZ[version][rate_index], KBIT_V1 if version == 3 else KBIT_V2
    factor = 144_000 if version == 3 else 72_000
    sizes = tuple(
        factor * kbit[byte >> 4] // rate_hz + (byte >> 1 & 1) if kbit[byte >> 4] and byte >> 2 & 3 == rate_index else 0
        for byte in range(256)
    )
    return Kind(version, rate_hz, mono, sizes)


def _kind_at(data: bytes, at: int) -> Kind | None:
    """The kind of the frame whose header stands there; None: no header of layer III, or one of free format."""
    header = data[at : at + 4]
    if len(header) < 4 or header[0] != 0xFF or header[1] & 0xE6 != 0xE2 or header[1] >> 3 & 3 == 1:
        return None
    rate_index = header[2] >> 2 & 3
    if rate_index == 3 or header[2] >> 4 in (0, 15):
        return None
    return _kind(header[1] >> 3 & 3, rate_index, header[3] >> 6 == 3)


def read_layout(data: bytes) -> Layout | None:
    """The streams in the bytes of an MP3 file; None: there are none."""
    walk = _Walk(data)
    walk.run()
    streams = [frames for frames in walk.streams if frames.count]
    if not streams:
        return None
    notes = []
    for frames in streams:
        claimed = _claimed(data, frames)
        if claimed > frames.count + 1:  # some encoders count the frame that says it
            claimed_s = claimed * frames.kind.samples / frames.kind.rate_hz
            fault = "damaged" if walk.junk else "cut off"
            notes.append(f"{fault}: {frames.seconds:.1f} of {claimed_s:.1f} s are there, and were read")
    if walk.cut and not notes:
        notes.append("cut off in the middle of a frame: what was before it was read")
    if walk.junk:
        notes.append(f"damaged: {walk.junk} bytes between or after its frames are no MP3, and were left out")
    if len(streams) > MOST_STREAMS:
        left_s = sum(frames.seconds for frames in streams[MOST_STREAMS:])
        notes.append(f"{len(streams)} streams joined: only {MOST_STREAMS} were read, {left_s:.1f} s were left out")
    streams = streams[:MOST_STREAMS]
    return Layout([_stream(data, frames) for frames in streams], sum(frames.seconds for frames in streams), notes)


class _Walk:
    """Goes from frame to frame.

    streams  in their order
    junk     bytes after the first frame that are neither frames nor tags nor zeros
    cut      the last frame is not whole
    """

    def __init__(self, data: bytes):
        self.data = data
        self.streams: list[Frames] = []
        self.junk = 0
        self.cut = False
        self._names = dict.fromkeys(HEADER_FRAMES, 0)  # where each stands next

    def run(self) -> None:
        data, at, tries = self.data, 0, 0
        while at < len(data):
            if end := tag_end(data, at):
                at = end
                continue
            if (kind := _kind_at(data, at)) and self._begins(at, kind):
                at = self._frames(at, kind)
                if self.cut:
                    return
                continue
            tries += 1
            after = self._next(at + 1) if tries < MOST_TRIES else len(data)
            if self.streams:
                self.junk += after - at
            at = after

    def _next(self, at: int) -> int:
        """The next place where a frame or a tag may begin."""
        found = SYNC.search(self.data, at)
        after = found.start() if found else len(self.data)
        tag = TAG.search(self.data, at, after)
        return tag.start() if tag else after

    def _begins(self, at: int, kind: Kind) -> bool:
        """Whether frames begin here, as more of them follow, or the end: two bytes alone may look like it by chance."""
        data = self.data
        goes_on = bool(self.streams) and self.streams[-1].kind is kind
        for found in range(FRAMES_IN_A_ROW):
            if _kind_at(data, at) is not kind:
                return False
            at += kind.sizes[data[at + 2]]
            if at >= len(data):
                return goes_on or at == len(data)
            if tag_end(data, at):  # zeros after a single frame may be all there is
                return goes_on or found > 0 or data[at] > 0
        return True

    def _frames(self, at: int, kind: Kind) -> int:
        """Take the frames in a row from here on; where they end."""
        data, sizes = self.data, kind.sizes
        if self._says_count(at, kind):
            after = min(at + sizes[data[at + 2]], len(data))
            self.streams.append(Frames(kind, data[at : at + 4], (at, after)))
            at = after
        elif not self.streams or self.streams[-1].kind is not kind:
            self.streams.append(Frames(kind, data[at : at + 4], None))
        stream, start, count, size = self.streams[-1], at, 0, 0
        second, mono, n_bytes = stream.header[1] | 1, kind.mono, len(data)
        near = self._near_name(at)
        while at + 4 <= n_bytes and data[at] == 0xFF and data[at + 1] | 1 == second:
            size = sizes[data[at + 2]]
            if not size or (data[at + 3] >= 0xC0) is not mono:
                break
            if at >= near:
                if self._says_count(at, kind):
                    break
                near = self._near_name(at)
            at += size
            count += 1
        if at > n_bytes:  # the last one is not whole
            self.cut = True
            count, at = count - 1, at - size
        if count:
            stream.spans.append((start, at))
            stream.count += count
        return at

    def _says_count(self, at: int, kind: Kind) -> bool:
        """Whether the frame there is one that says how many follow."""
        name = at + 4 + kind.side
        return self.data[name : name + 4] in (b"Xing", b"Info") or self.data[at + 36 : at + 40] == b"VBRI"

    def _near_name(self, at: int) -> int:
        """From where on a frame may be one that says so: none between `at` and there is."""
        for name, place in self._names.items():
            if 0 <= place < at:
                found = self.data.find(name, at)
                self._names[name] = found if found >= 0 else len(self.data) + 36
        return min(self._names.values()) - 36


def begins(data: bytes) -> bool:
    """Whether a frame, a tag or zeros stand first."""
    return bool(data) and (SYNC.match(data) is not None or tag_end(data, 0) > 0)


def _claimed(data: bytes, frames: Frames) -> int:
    """How many frames the encoder's own first frame says that there are; 0: it does not say."""
    if not frames.first:
        return 0
    name = frames.first[0] + 4 + frames.kind.side
    if data[name : name + 4] in (b"Xing", b"Info") and data[name + 7] & 1:
        return int.from_bytes(data[name + 8 : name + 12], "big")
    vbri = frames.first[0] + 36
    return int.from_bytes(data[vbri + 14 : vbri + 18], "big") if data[vbri : vbri + 4] == b"VBRI" else 0


def _stream(data: bytes, frames: Frames) -> Stream:
    """A file of these frames alone, the first of which says rightly how many there are."""
    n_bytes = sum(end - start for start, end in frames.spans)
    first = frames.first and bytearray(data[slice(*frames.first)])
    name = 4 + frames.kind.side
    if not first or len(first) < name + 16 or first[name + 7] & 3 != 3 or first[name : name + 4] == b"VBRI":
        return Stream((_count_frame(frames, n_bytes), *frames.spans))
    if _claimed(data, frames) != frames.count:
        first[name + 8 : name + 12] = frames.count.to_bytes(4, "big")
        if first[name + 7] & 15 == 15 and len(first) > name + LAME_PADDING:
            first[name + LAME_PADDING] &= 0xF0  # what stands at the end now is sound, no padding
            first[name + LAME_PADDING + 1] = 0
    first[name + 12 : name + 16] = (len(first) + n_bytes).to_bytes(4, "big")
    return Stream((bytes(first), *frames.spans))


def _count_frame(frames: Frames, n_bytes: int) -> bytes:
    """A silent frame that says how many frames follow, as Xing's encoder wrote it first."""
    kind = frames.kind
    wanted = 4 + kind.side + 16
    rate_bits = frames.header[2] & 0x0C
    third = next(byte | rate_bits for byte in range(0x10, 0xF0, 0x10) if kind.sizes[byte | rate_bits] >= wanted)
    size = kind.sizes[third]
    head = bytes((0xFF, frames.header[1] | 1, third, frames.header[3])) + bytes(kind.side)
    count = b"Xing" + (3).to_bytes(4, "big") + frames.count.to_bytes(4, "big") + (size + n_bytes).to_bytes(4, "big")
    return (head + count).ljust(size, b"\0")
