"""Show what a bundle does in a browser: upload or record a sound, see its ranked classes and its picture.

python -m demo bundles/first --port 7860
"""

import contextlib
import errno
import signal
import socket
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import tyro

from demo.examples import pick_examples
from serving.command import console, run_command
from serving.embedder import Embedder
from serving.errors import UsageError

if TYPE_CHECKING:
    from gradio import Blocks


@dataclass(frozen=True)
class Options:
    """Show what a bundle does in a browser, until Ctrl-C or SIGTERM."""

    bundle: Annotated[Path, tyro.conf.Positional]
    """the bundle folder that export.onnx wrote"""
    port: int = 7860
    """TCP port of the page, 1 to 65535"""
    host: str = "127.0.0.1"
    """address to listen on; 0.0.0.0 lets other machines in"""
    share: bool = False
    """also make a public link, through a server of Gradio's (needs the internet)"""
    backend: str = "auto"
    """what runs the model: auto, or the name of one runtime"""
    examples: Path | None = None
    """recordings to offer for a click: a folder of class folders, a data set in ESC-50's layout, or any folder"""


def serve(options: Options) -> dict[str, Any] | None:
    """Run the demo until it is told to end; what is returned is printed as JSON then.

    errors   UsageError: port, host or examples not usable, no public link; BundleError
    """
    start = time.perf_counter()
    check_port(options.host, options.port)
    examples = pick_examples(options.examples) if options.examples else []
    embedder = Embedder.load(options.bundle, options.backend)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)  # both end it in the same clean way
    ready = None
    with contextlib.suppress(KeyboardInterrupt):
        page, address = _open(options, embedder, examples)
        try:
            seconds = round(time.perf_counter() - start, 1)
            ready = {"address": address, "start_seconds": seconds}
            console.print(f"demo of {options.bundle}, ready after {seconds} s; Ctrl-C ends it", highlight=False)
            console.print(address, highlight=False)
            threading.Event().wait()
        finally:
            page.close(verbose=False)
    return ready


def _open(options: Options, embedder: Embedder, examples: list[tuple[Path, str]]) -> "tuple[Blocks, str]":
    """Build and launch the page. Returns it, running, and its address; the public one where that was asked for."""
    # Here and not above: this import takes seconds, and wrong input should be told at once.
    from demo.app import build_page, launch_settings

    window = embedder.manifest.window
    embedder.classify(np.zeros(window.samples, np.float32), window.rate_hz)  # the first inference is slow
    page = build_page(embedder, examples)
    listening = {"server_name": options.host, "server_port": options.port, "share": options.share}
    try:
        _, address, public = page.launch(prevent_thread_lock=True, **listening, **launch_settings())
    except OSError as error:
        raise UsageError(f"{options.host}:{options.port}: cannot be served ({error}); give another --port") from error
    if options.share and not public:
        page.close(verbose=False)
        raise UsageError("--share: no public link could be made; check the internet connection or leave the flag out")
    return page, public or address


def check_port(host: str, port: int) -> None:
    """UsageError where the demo could not listen there."""
    if not 0 < port < 65536:
        raise UsageError(f"--port: got {port}; wanted 1 to 65535")
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a port left a moment ago is free
            probe.bind(address)
    except UnicodeError as error:
        raise UsageError(f"--host: got {host}, which is no name of a machine; give another") from error
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise UsageError(f"--port: {port} is in use on {host}; stop what listens there or give another") from error
        raise UsageError(f"--host: cannot listen on {host}:{port} ({error.strerror}); give another") from error


def main(argv: Sequence[str] | None = None) -> int:
    """The command; the exit code is returned."""
    return run_command(Options, serve, "python -m demo", argv)


if __name__ == "__main__":
    raise SystemExit(main())
