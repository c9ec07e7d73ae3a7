"""Try a bundle in the browser: classify sounds, listen live, find similar sounds, compare runtimes.

python -m demo                                          # the bundle that the project includes
python -m demo bundles/first --library sounds.parquet   # your bundle, and a library that serving.embed wrote
"""

import contextlib
import errno
import os
import signal
import socket
import tempfile
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from demo.bundle_choice import BundleChoice, find_bundles
from demo.examples import EXAMPLE_SOUNDS, Example, pick_examples
from demo.gradio_import import import_page
from serving.command_line import console, run_command
from serving.errors import UsageError
from serving.trust_option import Trusted

if TYPE_CHECKING:
    from gradio import Blocks


@dataclass(frozen=True)
class Options:
    """Try a bundle in the browser. Ctrl-C or SIGTERM stops the demo."""

    bundles: Annotated[tuple[Path, ...], tyro.conf.Positional] = ()
    """bundle folders that export.onnx wrote, which the page offers; default: the project's own bundle and those in
    ./bundles"""
    port: int = 7860
    """TCP port, 1 to 65535"""
    host: str = "127.0.0.1"
    """address to listen on; 0.0.0.0 accepts connections from other machines"""
    share: bool = False
    """also create a public link through a Gradio server (needs the internet)"""
    backend: str = "auto"
    """runtime of the model: auto, onnxruntime, openvino or tensorrt"""
    trust: Trusted = ()
    examples: Path | None = None
    """example recordings: a folder of class folders, a data set in ESC-50's layout, or any folder; default:
    synthesised sounds"""
    library: Path | None = None
    """Parquet file that serving.embed wrote with the first bundle, to search for similar sounds; default: the
    examples"""
    index: Path | None = None
    """folder that serving.index made of such a file: a large library is then searched in milliseconds"""
    recordings: Path | None = None
    """folder of the library's recordings, if they have moved since they were embedded"""


def serve(options: Options) -> dict[str, Any] | None:
    """Run the demo until Ctrl-C or SIGTERM, then return the JSON result.

    errors   UsageError: the port, host or examples cannot be used, or there is no public link; BundleError
    """
    start = time.perf_counter()
    check_port(options.host, options.port)
    bundles = BundleChoice(find_bundles(options.bundles), options.backend, options.trust)
    if options.index and options.library:
        raise UsageError("--index: got --library too; give one of them")
    if options.recordings and not (options.library or options.index):
        raise UsageError("--recordings: needs --library or --index, whose recordings are in that folder")
    examples = pick_examples(options.examples or EXAMPLE_SOUNDS)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)  # both stop the demo cleanly
    ready = None
    with contextlib.suppress(KeyboardInterrupt), tempfile.TemporaryDirectory(prefix="unheard-") as uploads:
        # Gradio deletes what it stored when it ends. In a shared folder, that would be the files of other demos too.
        os.environ.setdefault("GRADIO_TEMP_DIR", uploads)
        page, address = _launch(options, _build(options, bundles, examples))
        try:
            seconds = time.perf_counter() - start
            ready = {"address": address, "start_seconds": round(seconds, 1)}
            message = f"demo of {', '.join(bundles.names)}, ready after {seconds:.1f} s; Ctrl-C stops it"
            console.print(message, highlight=False, soft_wrap=True)
            console.print(address, highlight=False)
            threading.Event().wait()
        finally:
            page.close(verbose=False)
    return ready


def _build(options: Options, bundles: BundleChoice, examples: Sequence[Example]) -> "Blocks":
    """Build the page. Its import, which takes seconds, goes on while the first bundle is opened."""
    importer = ThreadPoolExecutor(1)
    importing = importer.submit(import_page)
    importer.shutdown(wait=False)  # an error below is reported immediately
    first = bundles.open(bundles.names[0])
    page = importing.result()
    if options.library is None and options.index is None:
        return page.build_page(bundles, examples)
    from demo.library import read_index, read_library  # PyArrow takes a while, too
    from demo.tabs.find_similar import check_space

    if options.index is not None:
        library = read_index(options.index, options.recordings)
    else:
        assert options.library is not None, "one of the two is given"
        library = read_library(options.library, options.recordings)
    check_space(library, first, bundles.names[0])
    return page.build_page(bundles, examples, library)


def _launch(options: Options, page: "Blocks") -> "tuple[Blocks, str]":
    """Start serving the page. Returns the page and its address, which is the public one with --share."""
    from demo.gradio_page import launch_settings

    listening = {"server_name": options.host, "server_port": options.port, "share": options.share}
    try:
        _, address, public = page.launch(prevent_thread_lock=True, **listening, **launch_settings())
    except OSError as error:
        raise UsageError(f"{options.host}:{options.port}: cannot listen ({error}); give another --port") from error
    if options.share and not public:
        page.close(verbose=False)
        raise UsageError("--share: cannot create a public link; check the internet connection or leave the flag out")
    return page, public or address


def check_port(host: str, port: int) -> None:
    """Raise UsageError if the demo cannot listen on this host and port."""
    if not 0 < port < 65536:
        raise UsageError(f"--port: got {port}; wanted 1 to 65535")
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # accept a port that was closed a moment ago
            probe.bind(address)
    except UnicodeError as error:
        raise UsageError(f"--host: got {host}, which is not a valid host name; give another") from error
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise UsageError(f"--port: {port} is in use on {host}; stop what listens there or give another") from error
        raise UsageError(f"--host: cannot listen on {host}:{port} ({error.strerror}); give another") from error


main = partial(run_command, Options, serve, "python -m demo")

if __name__ == "__main__":
    raise SystemExit(main())
