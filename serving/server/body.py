"""The body of a request as a stream of decompressed chunks, within the limits."""

import asyncio
import zlib
from collections.abc import AsyncGenerator
from io import BytesIO

from starlette.exceptions import HTTPException
from starlette.requests import Request

from serving.server.admission import Ticket
from serving.server.limits import Limits

CHUNK_BYTES = 2**18  # decompressed at a time
# Content-Encoding -> zlib's wbits. HTTP's deflate is the zlib format.
CONTENT_ENCODINGS = {"gzip": 16 + zlib.MAX_WBITS, "deflate": zlib.MAX_WBITS}


async def read_chunks(
    request: Request, limits: Limits, ticket: Ticket, max_bytes: int | None = None, hint: str = "send a smaller file"
) -> AsyncGenerator[bytes, None]:
    """The chunks of the body, decompressed. The declared length is checked before the first one.

    max_bytes  a lower limit than that of the server
    hint       for the message of 413
    errors     HTTPException 400: not compressed as declared; 413: too large, compressed or not; 415: unknown
               compression; 429: see `Ticket.hold_bytes`
    """
    most = min(limits.max_upload_bytes, max_bytes or limits.max_upload_bytes)
    too_large = HTTPException(413, f"the upload is larger than {most / 1e6:g} MB; {hint}")
    declared = request.headers.get("content-length", "")
    if declared.isdigit() and int(declared) > most:
        raise too_large
    encoding = request.headers.get("content-encoding", "identity").lower()
    received = _limited(request.stream(), most, too_large)
    chunks = received if encoding == "identity" else _limited(_decompress(received, encoding), most, too_large)
    async for chunk in chunks:
        ticket.hold_bytes(len(chunk))
        yield chunk


async def read_whole(chunks: AsyncGenerator[bytes, None]) -> bytes:
    """All chunks, collected in one growing block: a list of them would fragment malloc's heap."""
    data = BytesIO()
    async for chunk in chunks:
        data.write(chunk)
    return data.getvalue()


async def _limited(
    chunks: AsyncGenerator[bytes, None], most: int, too_large: HTTPException
) -> AsyncGenerator[bytes, None]:
    """The chunks, until they are more than `most` bytes."""
    size = 0
    async for chunk in chunks:
        size += len(chunk)
        if size > most:
            raise too_large
        yield chunk


async def _decompress(chunks: AsyncGenerator[bytes, None], encoding: str) -> AsyncGenerator[bytes, None]:
    """A compressed stream in chunks of at most CHUNK_BYTES, however much larger it becomes."""
    if encoding not in CONTENT_ENCODINGS:
        raise HTTPException(
            415, f"content-encoding: got {encoding[:80]}; send the body uncompressed, or as gzip or deflate"
        )
    decompressor = zlib.decompressobj(CONTENT_ENCODINGS[encoding])
    try:
        async for compressed in chunks:
            while compressed or not decompressor.eof:
                if decompressor.eof:
                    raise HTTPException(400, f"the {encoding} body goes on after its end; compress it in one piece")
                # In a thread: a small compressed chunk can mean seconds of work.
                chunk = await asyncio.to_thread(decompressor.decompress, compressed, CHUNK_BYTES)
                if chunk:
                    yield chunk
                compressed = decompressor.unused_data if decompressor.eof else decompressor.unconsumed_tail
                if not compressed and len(chunk) < CHUNK_BYTES:
                    break
    except zlib.error as error:
        raise HTTPException(400, f"the body is not {encoding} ({error}); send it again") from error
    if not decompressor.eof:
        raise HTTPException(400, f"the {encoding} body is cut off; send it again")
