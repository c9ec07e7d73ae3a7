"""What the server writes about itself: one JSON object a line on stderr. Never what a recording holds."""

import logging
import os
import sys
import threading
from io import TextIOWrapper
from json import dumps
from typing import Any, BinaryIO, cast

import structlog

LEVELS = ("debug", "info", "warning", "error")

_requests = structlog.get_logger()


def set_up(level: str) -> None:
    """Let every logger of this process write JSON lines, those of libraries too.

    A field given as `extra={"status": 200}` becomes one of the object's; a traceback is its field `exception`.
    `request_line` writes them without what a logger does for all others.
    """
    structlog.contextvars.clear_contextvars()
    stream = _own_stderr()
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso"),
            structlog.processors.JSONRenderer(serializer=lambda fields, **options: dumps(fields, **options).encode()),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.BytesLoggerFactory(cast(BinaryIO, stream.buffer)),
        cache_logger_on_first_use=True,
    )
    about: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,  # the request's id
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.ExtraAdder(),
        structlog.processors.TimeStamper(fmt="iso"),
        structlog.processors.format_exc_info,
    ]
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.JSONRenderer(),
            ],
            foreign_pre_chain=about,
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level.upper())
    # They tell of every connection and of every broken form; what became of a request is told once, by the guard.
    for name in ("uvicorn", "python_multipart", "asyncio"):
        logging.getLogger(name).setLevel(logging.ERROR)


def request_line(logger: str, **fields: Any) -> None:
    """What became of a request, for the log: each request waits for the line of the one before."""
    if logging.getLogger(logger).isEnabledFor(logging.INFO):
        _requests.info("request", logger=logger, **fields)


def _own_stderr() -> TextIOWrapper:
    """The process's stderr for the log alone. What libraries in C print there becomes lines of the log.

    Decoders tell of every damaged file in this way, and nobody can ask them not to.
    """
    own = os.fdopen(os.dup(2), "w", buffering=1)
    reading, writing = os.pipe()
    os.dup2(writing, 2)
    os.close(writing)

    def relay() -> None:
        with os.fdopen(reading, errors="replace") as printed:
            for line in printed:
                logging.getLogger("stderr").info("printed", extra={"text": line.rstrip()[:500]})

    threading.Thread(target=relay, name="stderr", daemon=True).start()
    sys.stderr = own
    return own
