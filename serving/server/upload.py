"""The body of a request -> the bytes of its audio files, never more than the limits of them in memory."""

import asyncio
import zlib
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from io import BytesIO

from python_multipart.multipart import parse_options_header
from starlette.datastructures import FormData, UploadFile
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from serving.server.admission import Ticket
from serving.server.limits import Limits

FIELD, LIST_FIELD = "file", "files"  # of a multipart form: one file, or as many as there are
MAX_FILES = 256  # in one form
TAIL = 4096  # bytes at the end of a form in which its last boundary stands
CHUNK = 2**18  # bytes unpacked at a time
EMPTY = "the upload is empty; send the bytes of one audio file"
PACKINGS = {"gzip": 16 + zlib.MAX_WBITS, "deflate": zlib.MAX_WBITS}  # as zlib calls them; HTTP's deflate is zlib's own

# For OpenAPI: the routes read the body themselves, so that it can be refused while it still comes in.
REQUEST_BODY = {
    "required": True,
    "description": "One audio file (WAV, FLAC, OGG, Opus, MP3, AIFF, CAF; with the extra `formats` M4A, AAC, WebM and "
    "others) as the body itself, of any content type, or as the field "
    f"`{FIELD}` of a multipart form; or several, each a field `{LIST_FIELD}` of one form. The body may be packed "
    "(`Content-Encoding: gzip` or `deflate`).",
    "content": {
        "application/octet-stream": {"schema": {"type": "string", "format": "binary"}},
        "multipart/form-data": {
            "schema": {
                "type": "object",
                "properties": {
                    FIELD: {"type": "string", "format": "binary"},
                    LIST_FIELD: {"type": "array", "items": {"type": "string", "format": "binary"}},
                },
            }
        },
    },
}


@dataclass(frozen=True)
class File:
    """One audio file as it came.

    name  for messages; the client's own, where it gave one
    """

    name: str
    data: bytes


@dataclass(frozen=True)
class Upload:
    """The files of one request.

    several  they came as a list, and so the answer is one too, even where the list has one file
    """

    files: list[File]
    several: bool


async def read_upload(request: Request, limits: Limits, ticket: Ticket) -> Upload:
    """The audio files in a request: its body, the one file of its multipart form, or the form's list of files.

    errors   HTTPException 400: empty, or not a whole multipart form; 413: too large; 415: packed in an unknown way;
             422: a form without these files; 429: as `Ticket.hold_bytes`
    """
    stream = read_stream(request, limits, ticket)
    if not request.headers.get("content-type", "").lower().startswith("multipart/form-data"):
        data = await read_whole(stream)
        if not data:
            raise HTTPException(400, EMPTY)
        return Upload([File("audio", data)], several=False)
    tail = b""

    async def watched() -> AsyncGenerator[bytes, None]:
        nonlocal tail
        async for chunk in stream:
            tail = (tail + chunk[-TAIL:])[-TAIL:]
            yield chunk

    parser = MultiPartParser(request.headers, watched(), max_files=MAX_FILES)
    parser.spool_max_size = limits.max_upload_bytes  # in memory like any other body, not in a temporary file
    try:
        form = await parser.parse()
    except MultiPartException as error:
        raise HTTPException(400, f"not a whole multipart form ({error.message.rstrip('.')}); send it again") from error
    except UnicodeError as error:
        raise HTTPException(400, f"multipart form: its charset does not fit ({error}); leave it out") from error
    try:
        boundary = parse_options_header(request.headers["content-type"])[1][b"boundary"]
        if b"--" + boundary + b"--" not in tail:  # the parser takes what is there for all
            raise HTTPException(400, "not a whole multipart form (its end is missing); send it again")
        return await _files_of(form)
    finally:
        await form.close()


async def _files_of(form: FormData) -> Upload:
    fields = form.multi_items()
    files: dict[str, list[UploadFile]] = {FIELD: [], LIST_FIELD: []}
    for name, value in fields:
        if name in files and isinstance(value, UploadFile):
            files[name].append(value)
    one, several = files[FIELD], files[LIST_FIELD]
    if len(fields) != max(len(one), len(several)) or len(one) > 1 or not fields:
        got = ", ".join(f"{name[:80]} ({_kind_of(value)})" for name, value in fields[:9]) or "none"
        raise HTTPException(
            422,
            f"multipart form: got the fields {got}; wanted one file, in the field {FIELD}, "
            f"or any number, each in a field {LIST_FIELD}",
        )
    if one and not one[0].size:
        raise HTTPException(400, EMPTY)
    return Upload([File(_name_of(file), await file.read()) for file in one or several], several=bool(several))


def _name_of(file: UploadFile) -> str:
    """For messages; some charsets give half a surrogate pair, which no answer could hold."""
    return (file.filename or "audio")[:80].encode("utf-8", "backslashreplace").decode()


def _kind_of(value: UploadFile | str) -> str:
    """What a field of a form holds: a file is sent with a file name, text without."""
    return "file" if isinstance(value, UploadFile) else "text"


async def read_stream(request: Request, limits: Limits, ticket: Ticket) -> AsyncGenerator[bytes, None]:
    """The chunks of the body, unpacked, up to the limit; what the client says of its length is checked first.

    errors   HTTPException, as `read_upload`
    """
    too_large = HTTPException(413, f"the upload is larger than {limits.max_upload_mb:g} MB; send a smaller file")
    declared = request.headers.get("content-length", "")
    if declared.isdigit() and int(declared) > limits.max_upload_bytes:
        raise too_large
    packing = request.headers.get("content-encoding", "identity").lower()
    chunks = request.stream() if packing == "identity" else _unpack(request.stream(), packing)
    size = 0
    async for chunk in chunks:
        size += len(chunk)
        if size > limits.max_upload_bytes:
            raise too_large
        ticket.hold_bytes(len(chunk))
        yield chunk


async def read_whole(stream: AsyncGenerator[bytes, None]) -> bytes:
    """All chunks in one growing block: kept until the last one, they would leave malloc's heap full of holes."""
    data = BytesIO()
    async for chunk in stream:
        data.write(chunk)
    return data.getvalue()


async def _unpack(stream: AsyncGenerator[bytes, None], packing: str) -> AsyncGenerator[bytes, None]:
    """A packed stream in chunks of at most CHUNK bytes, however much more it becomes."""
    if packing not in PACKINGS:
        raise HTTPException(415, f"content-encoding: got {packing[:80]}; send it unpacked, or as gzip or deflate")
    unpacker = zlib.decompressobj(PACKINGS[packing])
    try:
        async for packed in stream:
            while True:
                # In a thread: a small packed chunk can become seconds of work.
                chunk = await asyncio.to_thread(unpacker.decompress, packed, CHUNK)
                yield chunk
                packed = unpacker.unconsumed_tail
                if not packed and len(chunk) < CHUNK:
                    break
    except zlib.error as error:
        raise HTTPException(400, f"the body is not {packing} ({error}); send it again") from error
    if not unpacker.eof:
        raise HTTPException(400, f"the {packing} body is cut off; send it again")
    if unpacker.unused_data:
        raise HTTPException(400, f"the {packing} body goes on after its end; pack it in one piece")
