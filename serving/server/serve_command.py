"""`python -m serving`: its flags, and the server from its start to its end."""

import asyncio
import ipaddress
import json
import logging
import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from serving.embedder import Embedder
from serving.errors import UsageError
from serving.memory import give_memory_back
from serving.server import log
from serving.server.admin_socket import AdminSocket, listen_to_owner
from serving.server.api_keys import ApiKeys, warn_if_all_expired, warn_if_others_can_write
from serving.server.app import create_app
from serving.server.cors import check_origin
from serving.server.decoders import choose_decoders
from serving.server.grpc_server import GrpcServer, check_grpc_installed
from serving.server.limits import Limits
from serving.server.pipeline import Pipeline
from serving.server.process import OtherServer, address_of, free_port, listen, run_until_signal
from serving.server.reload import Generation, ReloadableApp, Reloader
from serving.server.thread_priority import lower_thread_priority
from serving.server.tracing import Tracing
from serving.trust_option import Trusted

if TYPE_CHECKING:
    from serving.search.search_index import SearchIndex

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ServeOptions:
    """Serve a bundle over HTTP: /v1/embed, /v1/classify, /v1/search, /v1/model, /v2 (Open Inference Protocol),
    /healthz, /readyz, /metrics. The page /docs describes them."""

    bundle: Annotated[Path, tyro.conf.Positional]
    """the bundle's folder"""
    port: int = 8000
    """TCP port; 0 takes a free one and prints it"""
    host: str = "127.0.0.1"
    """address to listen on; 0.0.0.0 for all networks of this machine"""
    grpc_port: int | None = None
    """TCP port for the Open Inference Protocol over gRPC, without TLS like HTTP; 0 takes a free one; default: none"""
    index: Path | None = None
    """index of sounds, made by python -m serving.index --bundle, for /v1/search; a reload opens it again; default:
    none"""
    backend: str = "auto"
    """auto (the fastest that is installed and gives the right numbers), onnxruntime, openvino or tensorrt"""
    precision: str = "fp32"
    """of the model: fp32, fp16 or int8, if the bundle has them; bf16: fp32 with OpenVINO in bfloat16"""
    threads: int | None = None
    """threads of one inference; default: the number of cores"""
    limits: tyro.conf.OmitArgPrefixes[Limits] = field(default_factory=Limits)
    api_key_file: Path | None = None
    """file with one key on each line: only requests with one of them (Authorization: Bearer KEY, or X-API-Key) are
    answered; health addresses and /docs stay open; SIGHUP reads it and the bundle again"""
    trust: Trusted = ()
    cors_origin: tuple[str, ...] = ()
    """origins whose web pages may send requests, like https://example.org; * for all; default: no other origin"""
    root_path: str = ""
    """prefix under which a proxy offers the server, like /audio; the proxy may remove it from the path or not"""
    admin_socket: Path | None = None
    """path of a Unix socket for this user alone: POST /v1/reload there opens the bundle and the keys again, as SIGHUP
    does, or {"bundle": PATH}, and answers with the outcome; default: none"""
    otlp_endpoint: str | None = None
    """address of an OpenTelemetry collector, like http://127.0.0.1:4318, which gets a span of each request by OTLP over
    HTTP; default: OTEL_EXPORTER_OTLP_ENDPOINT, else none"""
    log_level: str = "info"
    """debug, info (one line for each request), warning or error; JSON lines on stderr"""


def check_serve_options(options: ServeOptions) -> None:
    """Check all ranges. errors: UsageError, which names the flag"""
    if not 0 <= options.port <= 65535:
        raise UsageError(f"--port: got {options.port}; wanted 0 to 65535")
    if options.grpc_port is not None:
        check_grpc_installed()
        if not 0 <= options.grpc_port <= 65535:
            raise UsageError(f"--grpc-port: got {options.grpc_port}; wanted 0 to 65535")
    if options.log_level not in log.LEVELS:
        raise UsageError(f"--log-level: got {options.log_level}; wanted {', '.join(log.LEVELS)}")
    for origin in options.cors_origin:
        check_origin(origin)
    if options.otlp_endpoint is not None and not re.match("https?://.", options.otlp_endpoint):
        raise UsageError(f"--otlp-endpoint: got {options.otlp_endpoint}; wanted one like http://127.0.0.1:4318")
    if not re.fullmatch(r"(/[\w.~-]+)*", options.root_path, re.ASCII):
        raise UsageError(f"--root-path: got {options.root_path}; wanted a path like /audio, without a slash at its end")
    options.limits.check()


def run_server(options: ServeOptions) -> None:
    """Serve until a signal ends it."""
    check_serve_options(options)
    options = replace(options, limits=replace(options.limits, processes=choose_decoders(options.limits)))
    give_memory_back()
    keys, tracing = read_keys(options), Tracing.open(options.otlp_endpoint)
    # All sockets before the model, which can take long to load.
    with listen(options.host, options.port) as listener, listen_to_owner(options.admin_socket) as admin:
        host, grpc_port = listener.getsockname()[0], options.grpc_port
        if grpc_port is not None:
            grpc_port = free_port(options.host, grpc_port)
        app = ReloadableApp(first_generation(options, keys, tracing, host))
        # No more of the first generation than all share: what is known here is never freed.
        admission, metrics = app.current.pipeline.admission, app.current.pipeline.metrics
        reloader = Reloader(app, partial(next_generation, options), app.replace_from_thread)
        others: list[OtherServer] = []
        if grpc_port is not None:
            others.append(GrpcServer(app, options.limits, host, grpc_port))
        if admin is not None:
            others.append(AdminSocket(admin, reloader, metrics, tracing))

        def start(loop: asyncio.AbstractEventLoop) -> None:
            app.loop = loop
            announce(options, app.current.pipeline.embedder, address_of(listener), grpc_port)

        def drain() -> None:
            admission.draining = True

        def log_refusal(status: int, message: str, request_id: str, client: str) -> None:
            metrics.requests.labels("none", str(status)).inc()
            fields = {"status": status, "error": message, "request_id": request_id, "client": client}
            logger.info("refused", extra=fields)

        run_until_signal(app, listener, options.limits, log_refusal, start, drain, reloader.ask, others)
        app.current.pipeline.close()
        tracing.close()


def first_generation(options: ServeOptions, keys: ApiKeys | None, tracing: Tracing, host: str) -> Generation:
    """The generation from the start. host: the address to listen on. Errors as `load_embedder` and `load_index`."""
    # A backend's own threads inherit the priority of the thread that loads it.
    with ThreadPoolExecutor(1, "load", lower_thread_priority) as thread:
        embedder = thread.submit(load_embedder, options, options.bundle).result()
    index = load_index(options, embedder)
    log.set_up(options.log_level)
    warn_of_no_keys(options, host)
    return make_generation(options, keys, Pipeline(embedder, options.limits, None, tracing, index))


def announce(options: ServeOptions, embedder: Embedder, address: str, grpc_port: int | None) -> None:
    """Log and print that requests are answered, and where."""
    addresses = {"address": address}
    if grpc_port is not None:
        addresses["grpc_address"] = f"{address.removeprefix('http://').rpartition(':')[0]}:{grpc_port}"
    about = {"bundle": str(options.bundle), "backend": embedder.backend, "precision": embedder.precision}
    logger.info("serving", extra={**addresses, "docs": f"{address}/docs", **about})
    print(json.dumps({**addresses, "embedding_space": embedder.manifest.embedding_space}), flush=True)


def next_generation(options: ServeOptions, present: Generation, bundle: Path | None) -> Generation:
    """The generation after a reload. bundle: its folder; None: the present one."""
    folder = bundle or present.pipeline.embedder.bundle.folder
    keys, embedder = read_keys(options), load_embedder(options, folder)
    pipeline = Pipeline(embedder, options.limits, present.pipeline, index=load_index(options, embedder))
    try:
        return make_generation(options, keys, pipeline)
    except BaseException:
        pipeline.close()
        raise


def make_generation(options: ServeOptions, keys: ApiKeys | None, pipeline: Pipeline) -> Generation:
    """The application over a pipeline. Logs a warning if all keys have expired or others can write to their file."""
    warn_if_all_expired(keys)
    if options.api_key_file:
        warn_if_others_can_write(options.api_key_file)
    return Generation(create_app(pipeline, keys, options.cors_origin, options.root_path), pipeline, keys)


def read_keys(options: ServeOptions) -> ApiKeys | None:
    """The keys in the file that the flag names, if it is given."""
    return ApiKeys.read(options.api_key_file) if options.api_key_file else None


def load_embedder(options: ServeOptions, folder: Path) -> Embedder:
    """Open a bundle, all that is read of it later included. Errors as `Embedder.load`."""
    embedder = Embedder.load(folder, options.backend, options.precision, options.threads, trusted=options.trust)
    embedder.warm_up()
    if embedder.labels.text_source == "bundle":  # that of the packages needs no file of the bundle
        embedder.labels.open_text_model()
    return embedder


def load_index(options: ServeOptions, embedder: Embedder) -> "SearchIndex | None":
    """Open the index that the flag names, if it is given.

    errors   UsageError: it cannot be used, or another model than the bundle's embedded its sounds
    """
    if options.index is None:
        return None
    from serving.search.search_index import SearchIndex

    index = SearchIndex.open(options.index)
    index.check_space(embedder.manifest.embedding_space)
    return index


def warn_of_no_keys(options: ServeOptions, host: str) -> None:
    """Log a warning if the server listens on a network without keys. No reload changes that."""
    if not options.api_key_file and not ipaddress.ip_address(host.partition("%")[0]).is_loopback:
        logger.warning(
            "--host: everybody who reaches this machine can use the server; give --api-key-file", extra={"host": host}
        )
