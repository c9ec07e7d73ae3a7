"""OGG (Vorbis, Opus): find where one stream ends and the next begins, and whether the end of the file is missing.

libsndfile reads only the first of several streams that follow each other, and does not report a missing end.

Source: RFC 3533, section 6 (pages); Vorbis I specification, section 4.2.2; RFC 7845, section 5.1 (Opus).
"""

from dataclasses import dataclass, field

from serving.audio.streams import ByteSource, EncodedStream, StreamLayout

PAGE = b"OggS"
FIRST, LAST = 2, 4  # bits of a page's type: first or last page of a stream
OPUS_HZ = 48_000
MOST_STREAMS = 1000  # that are decoded


@dataclass
class PageChain:
    """The pages from one beginning to the next: one stream of sound, or several that are interleaved.

    start, end  in bytes
    packet      the first 30 bytes of the first page's content
    samples     sample position that the last page states
    has_end     the page marked as the last one is there
    gaps        number of missing pages, by the page numbers
    numbers     last page number of each stream, by its serial number
    """

    start: int
    packet: bytes
    end: int = 0
    samples: int = 0
    has_end: bool = False
    gaps: int = 0
    numbers: dict[bytes, int] = field(default_factory=dict)

    @property
    def seconds(self) -> float | None:
        """Duration by the last page; None: not stated, or the codec is neither Vorbis nor Opus."""
        rate_hz, skipped = 0, 0
        if self.packet[:7] == b"\x01vorbis":
            rate_hz = int.from_bytes(self.packet[12:16], "little")
        elif self.packet[:8] == b"OpusHead":
            rate_hz, skipped = OPUS_HZ, int.from_bytes(self.packet[10:12], "little")
        return (self.samples - skipped) / rate_hz if rate_hz and self.samples > skipped else None


def read_layout(source: ByteSource) -> StreamLayout | None:
    """Find the streams in the bytes of an OGG file; None: there are none."""
    chains, junk, cut = _walk(source)
    if not chains:
        return None
    notes = []
    if cut or not chains[-1].has_end:
        known = f" {seconds:.1f} s that are there were read" if (seconds := _seconds(chains)) else ""
        notes.append(f"cut off: its end is missing;{known or ' what is there was read'}")
    if gaps := sum(chain.gaps for chain in chains):
        notes.append(f"damaged: {gaps} pages are missing in the middle")
    elif junk:
        notes.append(f"damaged: {junk} bytes between its pages were left out")
    if len(chains) > MOST_STREAMS:
        notes.append(f"{len(chains)} streams joined: only {MOST_STREAMS} were read, the others were left out")
        chains = chains[:MOST_STREAMS]
    if len(chains) == 1 and chains[0].start == 0:
        return StreamLayout([EncodedStream()], _seconds(chains), notes)
    return StreamLayout([EncodedStream(((chain.start, chain.end),)) for chain in chains], _seconds(chains), notes)


def _seconds(chains: list[PageChain]) -> float | None:
    known = [chain.seconds for chain in chains]
    return sum(seconds for seconds in known if seconds) or None


def _walk(source: ByteSource) -> tuple[list[PageChain], int, bool]:
    """The chains; the number of bytes after the first page that belong to none; whether the last page is incomplete."""
    chains: list[PageChain] = []
    junk, began = 0, False
    for part in source.pages(0, source.size):
        data, at = part.data, 0
        while at < part.stop:
            page = data.find(PAGE, at)
            if page < 0 or page >= part.stop:
                junk += part.stop - at if chains else 0
                at = part.stop
                break
            junk += page - at if chains else 0
            n_sizes = data[page + 26] if page + 27 <= len(data) else 0
            sizes = data[page + 27 : page + 27 + n_sizes]
            body = page + 27 + n_sizes
            at = body + sum(sizes)
            if page + 27 > len(data) or at > len(data):
                return chains, junk, bool(chains)
            first = bool(data[page + 5] & FIRST)
            if not chains or (first and not began):
                chains.append(PageChain(part.start + page, data[body : body + 30]))
            began = first
            _add_page(chains[-1], data[page : page + 27], part.start + at)
        part.walked = at
    return chains, junk, False


def _add_page(chain: PageChain, header: bytes, end: int) -> None:
    chain.end = end
    chain.has_end |= bool(header[5] & LAST)
    samples = int.from_bytes(header[6:14], "little", signed=True)
    chain.samples = max(chain.samples, samples)
    serial, number = header[14:18], int.from_bytes(header[18:22], "little")
    before = chain.numbers.get(serial)
    if before is not None and number > before + 1:
        chain.gaps += number - before - 1
    chain.numbers[serial] = number
