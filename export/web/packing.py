"""Compress the files of a site with Zstandard. The page unpacks them, so a server need not know of it.

ONNX Runtime's WebAssembly (14.2 MB) takes 2.5 MB so, 3.7 MB with gzip, which is what most servers and browsers offer.
"""

import pyarrow

LEVEL, LEVEL_OF_LARGE = 19, 9  # 19 takes 0.6 s of a core for 1 MB, 9 less than a tenth of that
LARGE = 20_000_000
WORTH_IT = 0.95  # packed size as a share of the plain size
SUFFIX = ".packed"  # none that a server knows and would send as another type


def pack(content: bytes) -> bytes | None:
    """A Zstandard frame with the content; None: it would not be smaller by a twentieth."""
    level = LEVEL if len(content) < LARGE else LEVEL_OF_LARGE
    packed = pyarrow.Codec("zstd", compression_level=level).compress(content, asbytes=True)
    return packed if len(packed) < WORTH_IT * len(content) else None
