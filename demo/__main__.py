"""Show what a bundle does in a browser: name a sound, listen, find similar ones, compare runtimes.

python -m demo                                          # the bundle that comes with the project
python -m demo bundles/first --library sounds.parquet   # yours, and a library that serving.embed made
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

import tyro

from demo.bundle_choice import Models, find_bundles
from demo.examples import SHIPPED_SOUNDS, pick_examples
from serving.command import console, run_command
from serving.errors import UsageError

if TYPE_CHECKING:
    from gradio import Blocks


@dataclass(frozen=True)
class Options:
    """Show what a bundle does in a browser, until Ctrl-C or SIGTERM."""

    bundles: Annotated[tuple[Path, ...], tyro.conf.Positional] = ()
    """bundle folders that export.onnx wrote, to choose from; default: the one that comes with the project, and those
    in ./bundles"""
    port: int = 7860
    """TCP port of the page, 1 to 65535"""
    host: str = "127.0.0.1"
    """address to listen on; 0.0.0.0 lets other machines in"""
    share: bool = False
    """also make a public link, through a server of Gradio's (needs the internet)"""
    backend: str = "auto"
    """what runs the model: auto, or the name of one runtime"""
    examples: Path | None = None
    """recordings to offer for a click: a folder of class folders, a data set in ESC-50's layout, or any folder;
    default: synthesised sounds"""
    library: Path | None = None
    """Parquet file that serving.embed wrote with the first bundle, to find similar sounds in; default: the examples"""
    recordings: Path | None = None
    """folder of the library's recordings, where it is no longer the one that was embedded"""


def serve(options: Options) -> dict[str, Any] | None:
    """Run the demo until it is told to end; what is returned is printed as JSON then.

    errors   UsageError: port, host or examples not usable, no public link; BundleError
    """
    start = time.perf_counter()
    check_port(options.host, options.port)
    models = Models(find_bundles(options.bundles), options.backend)
    first = models.open(models.names[0])
    if options.recordings and not options.library:
        raise UsageError("--recordings: is the folder of a library's recordings; give its --library too")
    examples = pick_examples(options.examples or SHIPPED_SOUNDS)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)  # both end it in the same clean way
    ready = None
    with contextlib.suppress(KeyboardInterrupt):
        # Here and not above: these imports take seconds, and wrong input should be told at once.
        import_start = time.perf_counter()
        from demo.gradio_page import build_page
        from demo.library import read_library
        from demo.tabs.find_similar import check_space

        import_seconds = time.perf_counter() - import_start
        library = read_library(options.library, options.recordings) if options.library else None
        if library:
            check_space(library, first, models.names[0])
        page, address = _launch(options, build_page(models, examples, library))
        try:
            seconds = time.perf_counter() - start
            ready = {
                "address": address,
                "start_seconds": round(seconds, 1),
                "import_seconds": round(import_seconds, 1),
            }
            told = f"demo of {', '.join(models.names)}, ready after {seconds:.1f} s"
            told += f" ({import_seconds:.1f} s of them imports); Ctrl-C ends it"
            console.print(told, highlight=False, soft_wrap=True)
            console.print(address, highlight=False)
            threading.Event().wait()
        finally:
            page.close(verbose=False)
    return ready


def _launch(options: Options, page: "Blocks") -> "tuple[Blocks, str]":
    """Serve the page. Returns it, running, and its address; the public one where that was asked for."""
    from demo.gradio_page import launch_settings

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
