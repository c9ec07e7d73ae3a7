"""Serve a bundle over HTTP.

    python -m serving bundles/first --port 8000

Prints its address when it answers: a line on stderr, and as JSON on stdout. SIGTERM or Ctrl-C ends it.
"""

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from serving.command import run_command, say
from serving.embedder import Embedder
from serving.errors import UsageError
from serving.server.app import create_app
from serving.server.limits import Limits
from serving.server.process import address_of, listen, serve


@dataclass(frozen=True)
class Options:
    """Serve a bundle over HTTP: /v1/embed, /v1/classify, /v1/model, /healthz, /readyz, and /docs about them."""

    bundle: Annotated[Path, tyro.conf.Positional]
    """the bundle's folder"""
    port: int = 8000
    """TCP port; 0 takes a free one and prints it"""
    host: str = "127.0.0.1"
    """address to listen on; 0.0.0.0 for every network of this machine"""
    backend: str = "auto"
    """auto or onnxruntime"""
    threads: int | None = None
    """for one inference; default: as many as there are cores"""
    max_upload_mb: float = Limits.max_upload_mb
    """largest upload, in megabytes"""
    max_seconds: float = Limits.max_seconds
    """longest recording, in seconds"""


def check(options: Options) -> None:
    """UsageError where a number is out of its range."""
    if not 0 <= options.port <= 65535:
        raise UsageError(f"--port: got {options.port}; wanted 0 to 65535")
    for flag, value in (("--max-upload-mb", options.max_upload_mb), ("--max-seconds", options.max_seconds)):
        if not 0 < value < float("inf"):
            raise UsageError(f"{flag}: got {value:g}; wanted a positive number")


def work(options: Options) -> None:
    check(options)
    logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("python_multipart").setLevel(logging.ERROR)  # it warns of every broken form
    with listen(options.host, options.port) as listener:  # first: a model can take long to load
        address = address_of(listener)
        embedder = Embedder.load(options.bundle, options.backend, options.threads)
        app = create_app(embedder, Limits(options.max_upload_mb, options.max_seconds))

        def announce() -> None:
            say(f"serving {options.bundle} at {address} (try {address}/docs)")
            print(json.dumps({"address": address, "embedding_space": embedder.manifest.embedding_space}), flush=True)

        serve(app, listener, announce)


def main(argv: Sequence[str] | None = None) -> int:
    return run_command(Options, work, "python -m serving", argv)


if __name__ == "__main__":
    raise SystemExit(main())
