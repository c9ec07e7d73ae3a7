"""The body of a request -> the bytes of one audio file, never more than the limit of them in memory."""

from collections.abc import AsyncGenerator

from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from serving.server.limits import Limits

FIELD = "file"  # of a multipart form
EMPTY = "the upload is empty; send the bytes of one audio file"

# For OpenAPI: the routes read the body themselves, so that it can be refused while it still comes in.
REQUEST_BODY = {
    "required": True,
    "description": "One audio file (WAV, FLAC, OGG or MP3) as the body itself, of any content type, or as the field "
    f"`{FIELD}` of a multipart form.",
    "content": {
        "application/octet-stream": {"schema": {"type": "string", "format": "binary"}},
        "multipart/form-data": {
            "schema": {
                "type": "object",
                "required": [FIELD],
                "properties": {FIELD: {"type": "string", "format": "binary"}},
            }
        },
    },
}


async def read_upload(request: Request, limits: Limits) -> bytes:
    """The bytes of the audio file in a request: its body, or the one file of its multipart form.

    errors   HTTPException 400: empty, or not a whole multipart form; 413: too large; 422: a form without that file
    """
    stream = _bounded(request, limits)
    if request.headers.get("content-type", "").lower().startswith("multipart/form-data"):
        data = await _read_form(request, stream, limits)
    else:
        data = b"".join([chunk async for chunk in stream])
    if not data:
        raise HTTPException(400, EMPTY)
    return data


async def _bounded(request: Request, limits: Limits) -> AsyncGenerator[bytes, None]:
    """The chunks of the body, up to the limit; what the client says of its length is checked before any is read."""
    too_large = HTTPException(413, f"the upload is larger than {limits.max_upload_mb:g} MB; send a smaller file")
    declared = request.headers.get("content-length", "")
    if declared.isdigit() and int(declared) > limits.max_upload_bytes:
        raise too_large
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > limits.max_upload_bytes:
            raise too_large
        yield chunk


async def _read_form(request: Request, stream: AsyncGenerator[bytes, None], limits: Limits) -> bytes:
    parser = MultiPartParser(request.headers, stream)
    parser.spool_max_size = limits.max_upload_bytes  # in memory like any other body, not in a temporary file
    try:
        form = await parser.parse()
    except MultiPartException as error:
        raise HTTPException(400, f"not a whole multipart form ({error.message.rstrip('.')}); send it again") from error
    try:
        files = [value for name, value in form.multi_items() if name == FIELD and isinstance(value, UploadFile)]
        if len(files) != 1:
            fields = ", ".join(f"{name} ({kind_of(value)})" for name, value in form.multi_items()) or "none"
            raise HTTPException(422, f"multipart form: got the fields {fields}; wanted one file, in the field {FIELD}")
        return await files[0].read()
    finally:
        await form.close()


def kind_of(value: UploadFile | str) -> str:
    """What a field of a form holds: a file is sent with a file name, text without."""
    return "file" if isinstance(value, UploadFile) else "text"
