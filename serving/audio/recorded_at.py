"""When a recording began: from what the recorder wrote into the file, or from the file's name.

The first of these that is there and can be read counts:

    guano      the field Timestamp of a `guan` chunk (GUANO specification 1.0, bat and bird recorders)
    audiomoth  the comment (ICMT) that an AudioMoth writes: "Recorded at 19:17:30 18/03/2019 (UTC-5) by AudioMoth ..."
    bext       OriginationDate and OriginationTime of a broadcast WAV (EBU Tech 3285)
    name       20190318_191730 and its like in the file's name, or the hexadecimal Unix time of early AudioMoths

GUANO is first because its time is exact and usually has an offset from UTC. `bext` and names have none, and programs
that copy or cut recordings set `bext` anew. Only WAV files (RIFF, RIFX, RF64, BW64) are searched for the first three.
"""

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

from serving.audio.streams import ByteSource
from serving.audio.wav import MOST_CHUNKS, next_chunk
from serving.files.file_record import open_regular

YEARS = range(1970, 2200)  # others are clocks that were never set, or chance
MOST_BYTES = 2**16  # read of a chunk
DATE_IN_BEXT, TIME_IN_BEXT = slice(320, 330), slice(330, 338)  # after Description, Originator, OriginatorReference

# Firmware before 1.0.1 leaves "(UTC)" out; its clock is UTC too. Later ones state an offset: (UTC-5), (UTC+5:30).
AUDIOMOTH = re.compile(
    r"Recorded at (\d\d):(\d\d):(\d\d)(\.\d{1,6})? (\d\d)/(\d\d)/(\d{4})"
    r"(?: \(UTC(?:([+-])(\d{1,2})(?::([ \d]\d))?)?\))? (?:by|during) "
)
DATE_AND_TIME = re.compile(
    r"(?<!\d)(\d{4})[-_.]?(\d\d)[-_.]?(\d\d)(?:(T)|[-_. ]{1,2})?(\d\d)[-_.:h]?(\d\d)[-_.:m]?(\d\d)(?!\d)"
    r"(?:[-_. ]?([AaPp])\.?[Mm](?![A-Za-z0-9]))?(Z(?![A-Za-z])|[+-]\d\d:?\d\d(?!\d))?"
)
LONGEST_OFFSET = timedelta(hours=14)
HEX_TIME = re.compile(r"(?=\d*[A-F])[0-9A-F]{8}")  # of digits alone: more probably a number
HEX_YEARS = range(2016, 2023)  # of the firmware that named files so


@dataclass(frozen=True)
class RecordedAt:
    """When a recording began.

    at      with the time zone UTC where the offset is known; otherwise without, by the recorder's own clock
    source  guano, audiomoth, bext or name
    """

    at: datetime
    source: str

    def after(self, seconds: float) -> str:
        """The time that many seconds later, in ISO 8601 to a millisecond: it ends with Z if it is UTC."""
        moment = self.at + timedelta(seconds=seconds)
        text = moment.replace(tzinfo=None).isoformat(timespec="milliseconds")
        return text + ("Z" if self.at.tzinfo else "")


def recorded_at(path: Path, name: str | None = None) -> RecordedAt | None:
    """When a recording began; None: nothing says it, or the file cannot be read.

    name   that is searched for a date; default: the path's own
    A file that is not what it says (wrong sizes, nonsense in the fields) gives None or what the next source says.
    """
    return _from_file(path) or _from_name(path.name if name is None else name)


def _from_file(path: Path) -> RecordedAt | None:
    try:
        with open_regular(path) as file:
            chunks = dict(_chunks(ByteSource(fd=file.fileno())))
    except (OSError, ValueError):  # ValueError: a zero byte in the path. Decoding gives the reason
        return None
    readers = (("guano", b"guan", _guano), ("audiomoth", b"ICMT", _audiomoth), ("bext", b"bext", _bext))
    for source, chunk, read in readers:
        if chunk in chunks and (at := _plausible(read(chunks[chunk]))):
            return RecordedAt(at, source)
    return None


def _from_name(name: str) -> RecordedAt | None:
    stem = Path(name).stem
    begin = 0
    while found := DATE_AND_TIME.search(stem, begin):
        if at := _plausible(_moment(found)):
            return RecordedAt(at, "name")
        begin = found.start() + 1  # not its end: 0042_2019-03-18_19-17-30 begins like a date of the year 42
    if HEX_TIME.fullmatch(stem):
        at = datetime.fromtimestamp(int(stem, 16), UTC)
        if at.year in HEX_YEARS:
            return RecordedAt(at, "name")
    return None


def _moment(found: re.Match[str]) -> datetime | None:
    """What a match of DATE_AND_TIME says."""
    year, month, day, is_iso, hour, minute, second, half, offset = found.groups()
    hours = int(hour)
    if half and 1 <= hours <= 12:  # others are of a clock of 24 hours, whatever follows
        hours = hours % 12 + 12 * (half.lower() == "p")
    away = _offset(offset) if is_iso or offset == "Z" else None  # otherwise -0001 may be a recorder's counter
    return _datetime(*map(int, (year, month, day)), hours, *map(int, (minute, second)), offset=away)


def _chunks(source: ByteSource) -> Iterator[tuple[bytes, bytes]]:
    """Yield the name and the content of each chunk that may hold a time, of a WAV file; no size in it is trusted."""
    form = source.read(0, 12)
    if form[:4] not in (b"RIFF", b"RIFX", b"RF64", b"BW64") or form[8:] != b"WAVE":
        return
    order = ">" if form[:4] == b"RIFX" else "<"
    at, size_of_data = 12, 0
    for _ in range(MOST_CHUNKS):
        head = source.read(at, 8)
        if len(head) < 8:
            return
        name, size = head[:4], struct.unpack(order + "I", head[4:])[0]
        if name == b"ds64":
            size_of_data = int.from_bytes(source.read(at + 16, 8), "little")
        elif name == b"data" and size == 2**32 - 1:
            size = size_of_data or size
        elif name in (b"guan", b"bext"):
            yield name, source.read(at + 8, min(size, MOST_BYTES))
        elif name == b"LIST" and source.read(at + 8, 4) == b"INFO":
            yield from _info(source.read(at + 12, min(size, MOST_BYTES)), order)
        if at + 8 + size > source.size:
            return
        at = next_chunk(source, at + 8 + size, size)


def _info(content: bytes, order: str) -> Iterator[tuple[bytes, bytes]]:
    """Yield the name and the content of each entry of a LIST chunk."""
    at = 0
    while len(head := content[at : at + 8]) == 8:
        size = struct.unpack(order + "I", head[4:])[0]
        yield head[:4], content[at + 8 : at + 8 + size]
        at += 8 + size + size % 2


def _guano(content: bytes) -> datetime | None:
    text = content.decode("utf-8", "replace")
    found = re.search(r"^\s*Timestamp\s*:\s*(\d\S*[T ]\d\S*)\s*$", text, re.MULTILINE)
    try:
        return datetime.fromisoformat(found[1]) if found else None
    except ValueError:
        return None


def _audiomoth(content: bytes) -> datetime | None:
    found = AUDIOMOTH.match(content.decode("latin-1"))
    if not found:
        return None
    hour, minute, second, fraction, day, month, year, sign, hours, minutes = found.groups()
    away = timedelta(hours=int(hours or 0), minutes=int(minutes or 0))
    at = _datetime(*map(int, (year, month, day, hour, minute, second)), offset=-away if sign == "-" else away)
    return at + timedelta(seconds=float(fraction or 0)) if at else None


def _bext(content: bytes) -> datetime | None:
    # The specification lets programs separate with any of "-_: ."
    fields = [content[DATE_IN_BEXT], content[TIME_IN_BEXT]]
    numbers = [int(number) for field in fields for number in re.findall(rb"\d+", field)]
    return _datetime(*numbers) if len(numbers) == 6 else None


def _offset(text: str | None) -> timedelta | None:
    """An offset from UTC; None: there is none, or no place on Earth has it."""
    if not text:
        return None
    if text == "Z":
        return timedelta(0)
    away = timedelta(hours=int(text[1:3]), minutes=int(text[-2:]))
    if away > LONGEST_OFFSET or away % timedelta(minutes=15):
        return None
    return -away if text[0] == "-" else away


def _datetime(*numbers: int, offset: timedelta | None = None) -> datetime | None:
    """A moment by year, month, day, hour, minute, second; None: there is no such moment."""
    year, month, day, hour, minute, second = numbers
    try:
        zone = None if offset is None else timezone(offset)
        return datetime(year, month, day, hour, minute, second, tzinfo=zone)
    except (ValueError, OverflowError):
        return None


def _plausible(at: datetime | None) -> datetime | None:
    """The moment in UTC if its offset is known; None: its year is nonsense."""
    if at is None or at.year not in YEARS:
        return None
    return at.astimezone(UTC) if at.tzinfo else at
