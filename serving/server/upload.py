"""The body of a request -> the bytes of its audio files, with no more of them in memory than the limits allow."""

from collections.abc import AsyncGenerator
from dataclasses import dataclass

from python_multipart.multipart import parse_options_header
from starlette.datastructures import FormData, UploadFile
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from serving.server.admission import Ticket
from serving.server.body import read_chunks, read_whole
from serving.server.limits import Limits
from serving.zeroshot.label_text import is_printable

FIELD, LIST_FIELD = "file", "files"  # of a multipart form: one file, or any number
MAX_FILES = 256  # in one form
TAIL_BYTES = 4096  # at the end of a form; they contain its last boundary
EMPTY_UPLOAD = "the upload is empty; send the bytes of one audio file"

# For OpenAPI. The routes read the body themselves so that they can refuse it while it still arrives.
REQUEST_BODY = {
    "required": True,
    "description": "One audio file (WAV, FLAC, OGG, Opus, MP3, AIFF, CAF; with the extra `formats` M4A, AAC, WebM and "
    "others) as the body itself, of any content type, or as the field "
    f"`{FIELD}` of a multipart form; or several, each a field `{LIST_FIELD}` of one form. The body may be compressed "
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
class UploadedFile:
    """One audio file as received.

    name  for messages: the client's own, if it gave one
    """

    name: str
    data: bytes


@dataclass(frozen=True)
class UploadedFiles:
    """The files of one request.

    is_list  they were sent as a list: then the response is a list too, even for one file
    """

    files: list[UploadedFile]
    is_list: bool


async def read_files(request: Request, limits: Limits, ticket: Ticket) -> UploadedFiles:
    """The audio files in a request: its body, the one file of its multipart form, or the form's list of files.

    errors   HTTPException 400: empty, or an incomplete multipart form; 422: a form without these files; else as
             `read_chunks`
    """
    chunks = read_chunks(request, limits, ticket)
    if not request.headers.get("content-type", "").lower().startswith("multipart/form-data"):
        data = await read_whole(chunks)
        if not data:
            raise HTTPException(400, EMPTY_UPLOAD)
        return UploadedFiles([UploadedFile("audio", data)], is_list=False)
    tail = b""

    async def with_tail() -> AsyncGenerator[bytes, None]:
        nonlocal tail
        async for chunk in chunks:
            tail = (tail + chunk[-TAIL_BYTES:])[-TAIL_BYTES:]
            yield chunk

    parser = MultiPartParser(request.headers, with_tail(), max_files=MAX_FILES)
    parser.spool_max_size = limits.max_upload_bytes  # in memory like any other body, not in a temporary file
    try:
        form = await parser.parse()
    except MultiPartException as error:
        raise HTTPException(400, f"not a whole multipart form ({error.message.rstrip('.')}); send it again") from error
    except UnicodeError as error:
        raise HTTPException(400, f"multipart form: its charset does not fit ({error}); leave it out") from error
    try:
        boundary = parse_options_header(request.headers["content-type"])[1][b"boundary"]
        if b"--" + boundary + b"--" not in tail:  # the parser accepts a form without its end
            raise HTTPException(400, "not a whole multipart form (its end is missing); send it again")
        return await _files_in(form)
    finally:
        await form.close()


async def _files_in(form: FormData) -> UploadedFiles:
    fields = form.multi_items()
    files: dict[str, list[UploadFile]] = {FIELD: [], LIST_FIELD: []}
    for name, value in fields:
        if name in files and isinstance(value, UploadFile):
            files[name].append(value)
    single, listed = files[FIELD], files[LIST_FIELD]
    if len(fields) != max(len(single), len(listed)) or len(single) > 1 or not fields:
        got = ", ".join(f"{name[:80]} ({_kind_of(value)})" for name, value in fields[:9]) or "none"
        raise HTTPException(
            422,
            f"multipart form: got the fields {got}; wanted one file, in the field {FIELD}, "
            f"or any number, each in a field {LIST_FIELD}",
        )
    if single and not single[0].size:
        raise HTTPException(400, EMPTY_UPLOAD)
    uploaded = [UploadedFile(_name_of(file), await file.read()) for file in single or listed]
    return UploadedFiles(uploaded, is_list=bool(listed))


def _name_of(file: UploadFile) -> str:
    """For messages and headers, on one line: control characters and lone surrogates are escaped."""
    name = (file.filename or "audio")[:80]
    return "".join(each if is_printable(each) else each.encode("unicode_escape").decode() for each in name)


def _kind_of(value: UploadFile | str) -> str:
    """The kind of a form's field: a file has a file name, text has none."""
    return "file" if isinstance(value, UploadFile) else "text"
