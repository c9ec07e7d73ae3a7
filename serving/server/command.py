"""`python -m serving`: the flags, and a server's life from them."""

import json
import logging
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from serving.embedder import Embedder
from serving.errors import UsageError
from serving.memory import give_memory_back
from serving.server import log
from serving.server.app import create_app
from serving.server.keys import Keys
from serving.server.limits import Limits
from serving.server.pipeline import Pipeline
from serving.server.priority import step_back
from serving.server.process import address_of, listen, serve

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Options:
    """Serve a bundle over HTTP: /v1/embed, /v1/classify, /v1/model, /v2 (Open Inference Protocol), /healthz, /readyz,
    /metrics, and /docs about them."""

    bundle: Annotated[Path, tyro.conf.Positional]
    """the bundle's folder"""
    port: int = 8000
    """TCP port; 0 takes a free one and prints it"""
    host: str = "127.0.0.1"
    """address to listen on; 0.0.0.0 for every network of this machine"""
    backend: str = "auto"
    """auto (the fastest that is installed and gives the right numbers), onnxruntime, openvino or tensorrt"""
    precision: str = "fp32"
    """of the model: fp32, fp16 or int8, as far as the bundle has them; bf16: fp32 with OpenVINO in bfloat16"""
    threads: int | None = None
    """for one inference; default: as many as there are cores"""
    limits: tyro.conf.OmitArgPrefixes[Limits] = field(default_factory=Limits)
    api_key_file: Path | None = None
    """a key a line: only who sends one of them (Authorization: Bearer KEY, or X-API-Key) is answered; health addresses
    and /docs stay open"""
    cors_origin: tuple[str, ...] = ()
    """web pages that may ask, like https://example.org; * for every page; default: none from elsewhere"""
    log_level: str = "info"
    """debug, info (a line a request), warning or error; JSON lines on stderr"""


def check(options: Options) -> None:
    """UsageError where a flag is out of its range."""
    if not 0 <= options.port <= 65535:
        raise UsageError(f"--port: got {options.port}; wanted 0 to 65535")
    if options.log_level not in log.LEVELS:
        raise UsageError(f"--log-level: got {options.log_level}; wanted {', '.join(log.LEVELS)}")
    for origin in options.cors_origin:
        if origin != "*" and not origin.startswith(("http://", "https://")):
            raise UsageError(f"--cors-origin: got {origin}; wanted one like https://example.org, or *")
    options.limits.check()


def work(options: Options) -> None:
    """Serve until a signal ends it."""
    check(options)
    give_memory_back()
    keys = Keys.read(options.api_key_file) if options.api_key_file else None
    with listen(options.host, options.port) as listener:  # first: a model can take long to load
        address = address_of(listener)
        with ThreadPoolExecutor(1, "load", step_back) as thread:  # a backend's own threads take after it
            wanted = options.bundle, options.backend, options.precision, options.threads
            embedder = thread.submit(Embedder.load, *wanted).result()
        log.set_up(options.log_level)
        pipeline = Pipeline(embedder, options.limits)
        app = create_app(pipeline, keys, options.cors_origin)

        def announce() -> None:
            space = embedder.manifest.embedding_space
            docs = f"{address}/docs"
            about = {
                "address": address,
                "docs": docs,
                "bundle": str(options.bundle),
                "backend": embedder.backend,
                "precision": embedder.precision,
            }
            logger.info("serving", extra=about)
            print(json.dumps({"address": address, "embedding_space": space}), flush=True)

        def drain() -> None:
            pipeline.admission.draining = True

        serve(app, listener, options.limits.request_timeout_s, announce, drain)
        pipeline.close()
