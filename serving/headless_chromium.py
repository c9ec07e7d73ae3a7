"""Serve a folder of web files and open it in headless Chromium: for the proof and the benchmark of exported sites."""

import importlib
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from serving.errors import BackendError
from serving.extras import pip_install

PROGRAMS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = ("--no-sandbox", "--no-first-run", "--disable-background-networking")


class NoBrowserError(BackendError):
    """There is no browser on this machine that a program can open."""


class FolderServer(ThreadingHTTPServer):
    """Serves a folder at a free port of this machine, as `python -m http.server` does, without a log.

    sent   path and size in bytes of each file that was sent, in order
    """

    def __init__(self, folder: Path):
        self.folder = str(folder)
        self.sent: list[tuple[str, int]] = []
        super().__init__(("127.0.0.1", 0), _Handler)

    @property
    def address(self) -> str:
        """http://127.0.0.1:PORT/"""
        return f"http://127.0.0.1:{self.server_address[1]}/"


class _Handler(SimpleHTTPRequestHandler):
    def __init__(self, request: Any, client: Any, server: FolderServer):
        self._folder_server = server
        super().__init__(request, client, server, directory=server.folder)

    def copyfile(self, source: Any, outputfile: Any) -> None:
        content = source.read()
        outputfile.write(content)
        self._folder_server.sent.append((self.path, len(content)))

    def log_message(self, format: str, *args: Any) -> None:
        pass


@contextmanager
def serve_folder(folder: Path) -> Iterator[FolderServer]:
    """Serve a folder until the block ends."""
    server = FolderServer(folder)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()


def find_chromium() -> str | None:
    """The path of Chromium, or of Chrome; None: neither is on this machine."""
    return next(filter(None, map(shutil.which, PROGRAMS)), None)


@contextmanager
def open_chromium() -> Iterator[Any]:
    """A Playwright browser. NoBrowserError: no Chromium starts on this machine, or Playwright is not installed."""
    program = find_chromium()
    if program is None:
        raise NoBrowserError("no Chromium on this machine; install it, for example with: apt-get install chromium")
    try:
        playwright = importlib.import_module("playwright.sync_api")
    except ImportError as error:
        raise NoBrowserError(f"Playwright is not installed; get it with: {pip_install('web')}") from error
    with playwright.sync_playwright() as driver:
        try:
            browser = driver.chromium.launch(executable_path=program, args=list(FLAGS))
        except playwright.Error as error:
            reason = str(error).strip().splitlines()[0]
            raise NoBrowserError(f"{program} does not start ({reason}); install another Chromium or Chrome") from error
        try:
            yield browser
        finally:
            browser.close()
