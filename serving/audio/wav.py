"""WAV and other files made of chunks (RF64, W64, AIFF, CAF, AU): repair wrong sizes, and detect a missing end.

libsndfile reads no samples from a WAV file that was never closed, and rejects files because of a wrong chunk that has
nothing to do with the sound.

Source: Multimedia Programming Interface and Data Specifications 1.0 (RIFF); EBU Tech 3306 (RF64); Sony W64; AIFF-C;
Apple Core Audio Format Specification 1.0; Sun's audio file format.
"""

import struct

from serving.audio import mp3
from serving.audio.streams import PAGE_BYTES, ByteSource, EncodedStream, Span, StreamLayout

STREAMED = 0x7FFF_F000  # sizes from here on mean "unknown": programs that stream write them (sox; others: all ones)
MOST_CHUNKS = 1000
MOST_BYTES = 2**32 - 2**16  # of samples in a WAV file
MP3_FORMAT = b"\x55\0"  # format code of a WAV file that holds MP3 frames
UNKNOWN_SIZE = b"\xff" * 4  # in a chunk whose size is in the chunk `ds64`
SLOPPY = 8  # bytes; programs forget to count parts of a header
LEAST_REST = 4096  # bytes behind the samples: fewer may be anything
# What programs put behind the samples, also where the sizes of it are wrong: chunks, and tags of other formats.
NO_SOUND = (
    *(name.ljust(4) for name in b"LIST bext iXML guan cue smpl id3 axml _PMX JUNK afsp PEAK fact".split()),
    *(b"TAG", b"ID3", b"APETAGEX"),
)


def read_layout(source: ByteSource) -> StreamLayout:
    """Find the samples of a file that begins with one of `decoding.CHUNKED`."""
    head = source.read(0, 96)
    if head[:4] == b"RIFF" and head[36:40] == b"data" and head[12:20] == b"fmt \x10\0\0\0":  # as most are
        claimed = int.from_bytes(head[40:44], "little")
        rest = source.size - 44 - claimed
        if claimed > 0 and 0 <= rest < LEAST_REST and source.size - 44 < 2**32 and head[20:22] != MP3_FORMAT:
            return StreamLayout()
    if head[:4] in (b"RIFF", b"RIFX") and head[8:12] == b"WAVE":
        return _wav(source, "<" if head[:4] == b"RIFF" else ">")
    if head[:4] == b"caff":
        return _caf(source)
    return StreamLayout(notes=_cut_notes(_claimed(head), source.size))


def _claimed(head: bytes) -> int:
    """The size in bytes that the header of a file states; 0: it states none."""
    if head[:4] == b"FORM":
        return int.from_bytes(head[4:8], "big") + 8
    if head[:4] in (b"RF64", b"BW64") and head[12:16] == b"ds64":
        return int.from_bytes(head[20:28], "little") + 8
    if head[:4] == b"riff":  # W64
        return int.from_bytes(head[16:24], "little")
    if head[:4] == b".snd" and (size := int.from_bytes(head[8:12], "big")) != 2**32 - 1:
        return int.from_bytes(head[4:8], "big") + size
    return 0


def _cut_notes(claimed: int, there: int) -> list[str]:
    if not there + SLOPPY < claimed or STREAMED <= claimed < 2**32 + 2**8 or claimed >= 2**62:
        return []
    return [f"cut off: {there} of the {claimed} bytes that its header promises are there, and were read"]


def _wav(source: ByteSource, order: str) -> StreamLayout:
    fmt, data, claimed = _find_wav(source, order)
    if fmt is None or data is None:
        return StreamLayout()
    there = source.size - data
    if source.read(fmt[0], 2) == MP3_FORMAT and (frames := mp3.read_layout(source, data)):
        return frames
    is_lost = claimed == 0 or claimed >= STREAMED or there >= 2**32  # never written, or more than fits in 32 bits
    rest = data + claimed + claimed % 2
    if claimed < there and (not _is_chunks(source, rest, order) if is_lost else _is_sound(source, rest, order)):
        return StreamLayout([_whole_wav(source, fmt, (data, source.size), order)])
    end = source.size if claimed >= STREAMED else min(data + claimed, source.size)
    return StreamLayout(
        notes=_cut_notes(claimed, there),
        repaired=lambda: _whole_wav(source, fmt, (data, end), order),
    )


def _find_wav(source: ByteSource, order: str) -> tuple[Span | None, int | None, int]:
    """The span of the format chunk's content; the start of the samples; their size in bytes by their chunk."""
    fmt, data, claimed, at = None, None, 0, 12
    for _ in range(MOST_CHUNKS):
        head = source.read(at, 8)
        if len(head) < 8:
            break
        size = struct.unpack(order + "I", head[4:])[0]
        if head[:4] == b"fmt ":
            fmt = (at + 8, at + 8 + size)
        elif head[:4] == b"data" and data is None:
            data, claimed = at + 8, size
        if fmt and data:
            break
        at = next_chunk(source, at + 8 + size, size)
    return fmt, data, claimed


def next_chunk(source: ByteSource, end: int, size: int) -> int:
    """The start of the next chunk: a padding byte follows an odd size, but some programs leave it out."""
    if size % 2 == 0:
        return end
    names = source.read(end, 5)
    return end if _is_name(names[:4]) and names[1:] not in (b"data", b"fmt ") else end + 1


def _is_name(name: bytes) -> bool:
    return len(name) == 4 and all(32 <= byte < 127 for byte in name)


def _is_chunks(source: ByteSource, at: int, order: str) -> bool:
    """Whether the rest of the file is whole chunks: then the file really has no samples."""
    for _ in range(MOST_CHUNKS):
        head = source.read(at, 8)
        if len(head) < 8:
            return not head
        if not _is_name(head[:4]):
            return False
        size = struct.unpack(order + "I", head[4:])[0]
        at += 8 + size + size % 2
        if at > source.size + 1:
            return False
    return False


def _is_sound(source: ByteSource, at: int, order: str) -> bool:
    """Whether the rest of a file is samples too: of a recorder that wrote the sizes now and then and lost its power.

    It is not if the sizes of the whole file count it, if it begins with a chunk or a tag, or if all of it is zeros.
    """
    counted = 8 + struct.unpack(order + "I", source.read(4, 4))[0]
    if source.size - at < LEAST_REST or source.size <= counted + SLOPPY:
        return False
    head = source.read(at, 8)
    is_chunk = _is_name(head[:4]) and at + 8 + struct.unpack(order + "I", head[4:])[0] <= source.size + 1
    if is_chunk or head.startswith(NO_SOUND):
        return False
    return any(source.read(start, PAGE_BYTES).strip(b"\0") for start in range(at, source.size, PAGE_BYTES))


def _whole_wav(source: ByteSource, fmt: Span, data: Span, order: str) -> EncodedStream:
    """A WAV file of only these two chunks; an RF64 file where they are too large for WAV."""
    n_bytes = data[1] - data[0]
    form = source.read(fmt[0], min(fmt[1] - fmt[0], 2**10))
    form += bytes(len(form) % 2)
    if n_bytes > MOST_BYTES and order == "<":
        align = max(1, int.from_bytes(form[12:14], "little"))
        sizes = struct.pack("<QQQI", n_bytes + len(form) + 72, n_bytes, n_bytes // align, 0)
        head = b"RF64" + UNKNOWN_SIZE + b"WAVE" + b"ds64" + struct.pack("<I", len(sizes)) + sizes
        head += b"fmt " + struct.pack("<I", len(form)) + form + b"data" + UNKNOWN_SIZE
        return EncodedStream((head, data))
    n_bytes = min(n_bytes, MOST_BYTES)
    head = struct.pack(order + "I", 20 + len(form) + n_bytes) + b"WAVE"
    head += b"fmt " + struct.pack(order + "I", len(form)) + form + b"data" + struct.pack(order + "I", n_bytes)
    return EncodedStream(((b"RIFF" if order == "<" else b"RIFX") + head, (data[0], data[0] + n_bytes)))


def _caf(source: ByteSource) -> StreamLayout:
    """A CAF whose data chunk is not all there is refused by libsndfile: it gets the size that is there."""
    at = 8
    for _ in range(MOST_CHUNKS):
        head = source.read(at, 12)
        if len(head) < 12:
            break
        size = int.from_bytes(head[4:], "big", signed=True)
        if head[:4] == b"data":
            there = source.size - at - 12
            if size <= there:
                break
            mended = head[:4] + there.to_bytes(8, "big")
            return StreamLayout(
                [EncodedStream(((0, at), mended, (at + 12, source.size)))], notes=_cut_notes(size, there)
            )
        if size < 0:
            break
        at += 12 + size
    return StreamLayout()
