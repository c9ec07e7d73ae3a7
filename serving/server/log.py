"""The server's log: one JSON object a line on stderr. It never contains the content of a recording."""

import logging
import os
import sys
import threading
from json import dumps
from typing import Any, BinaryIO, TextIO, cast

import structlog

from serving.server.log_stream import LogStream

LEVELS = ("debug", "info", "warning", "error")
MAX_PRINTED = 500  # characters of a line that a library printed

_request_logger = structlog.get_logger()
_stream: LogStream | None = None


def set_up(level: str) -> None:
    """Make every logger of this process write JSON lines to stderr, the loggers of libraries included.

    A field given as `extra={"status": 200}` becomes a field of the object; a traceback is its field `exception`.
    """
    global _stream
    structlog.contextvars.clear_contextvars()
    _stream = _take_stderr()
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso"),
            structlog.processors.JSONRenderer(serializer=lambda fields, **options: dumps(fields, **options).encode()),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.BytesLoggerFactory(cast(BinaryIO, _stream)),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(cast(TextIO, _stream))
    handler.setFormatter(_json_formatter())
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level.upper())
    # They log every connection and every broken form. The outcome of a request is logged once, by RequestMiddleware.
    for name in ("uvicorn", "python_multipart", "asyncio"):
        logging.getLogger(name).setLevel(logging.ERROR)


def log_request(logger: str, **fields: Any) -> None:
    """Log the outcome of a request. Faster than a logger of `logging`, because the next request waits for it."""
    if logging.getLogger(logger).isEnabledFor(logging.INFO):
        _request_logger.info("request", logger=logger, **fields)


def dropped_lines() -> int:
    """The number of lines that could not be written."""
    return _stream.dropped_lines if _stream else 0


def _json_formatter() -> logging.Formatter:
    return structlog.stdlib.ProcessorFormatter(
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, structlog.processors.JSONRenderer()],
        foreign_pre_chain=[
            structlog.contextvars.merge_contextvars,  # the request's id
            structlog.stdlib.add_log_level,
            structlog.stdlib.add_logger_name,
            structlog.stdlib.ExtraAdder(),
            structlog.processors.TimeStamper(fmt="iso"),
            structlog.processors.format_exc_info,
        ],
    )


def _take_stderr() -> LogStream:
    """A stream to the process's stderr for the log alone. Lines that C libraries print there are logged.

    Decoders print a line for every damaged file, and this cannot be turned off.
    """
    stream = LogStream(os.dup(2))
    reading, writing = os.pipe()
    os.dup2(writing, 2)
    os.close(writing)

    def relay() -> None:
        with os.fdopen(reading, errors="replace") as printed:
            for line in printed:
                logging.getLogger("stderr").info("printed", extra={"text": line.rstrip()[:MAX_PRINTED]})

    threading.Thread(target=relay, name="stderr", daemon=True).start()
    sys.stderr = cast(TextIO, stream)
    return stream
