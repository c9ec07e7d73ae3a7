"""Find the end of tags (ID3, APE, Lyrics3) around and between MP3 frames. Their content is not read.

Source: ID3v2.4, section 3.1; APEv2 (Hydrogenaudio); ID3v1; Lyrics3.
"""

import re

TAG = re.compile(rb"ID3[\x02-\x04]|APETAGEX|TAG|LYRICSBEGIN")
NOT_ZERO = re.compile(rb"[^\0]")
LONGEST_LYRICS = 2**16  # bytes in which the end of lyrics is searched


def tag_end(data: bytes, at: int) -> int:
    """The end of the tag, or stretch of zeros, that begins at `at`; 0: none begins there.

    The end of a tag may be beyond the end of the data.
    """
    if not data[at : at + 4].strip(b"\0"):
        found = NOT_ZERO.search(data, at)
        return found.start() if found else len(data)
    if not (tag := TAG.match(data, at)):
        return 0
    name, end = tag.group()[:3], 0
    if name == b"ID3":
        size = id3_size(data[at : at + 10])
        end = at + size if size else 0
    elif name == b"APE":  # the size excludes the header; header and footer both have it
        is_header = len(data) > at + 23 and data[at + 23] >> 5 & 1
        end = at + 32 + (int.from_bytes(data[at + 12 : at + 16], "little") if is_header else 0)
    elif name == b"TAG":
        end = at + 128
    elif name == b"LYR":
        last = data.find(b"LYRICS200", at, at + LONGEST_LYRICS)
        end = last + 9 if last >= 0 else 0
    return end


def id3_size(head: bytes) -> int:
    """The size in bytes of the ID3v2 tag that begins with these ten bytes; 0: they begin no tag."""
    if len(head) < 10 or head[:3] != b"ID3" or max(head[6:10]) > 127:
        return 0
    footer = 10 * (head[5] >> 4 & 1)
    return 10 + footer + (head[6] << 21 | head[7] << 14 | head[8] << 7 | head[9])
