"""Open a site in headless Chromium, and call what its page offers to scripts (web/src/scripting.ts)."""

import base64
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serving.errors import BackendError
from serving.headless_chromium import NoBrowserError, open_chromium, serve_folder

PATIENCE_MS = 120_000


class SitePage:
    """The page of a site in a browser tab.

    browser   "Chromium 141.0.7390.37"
    facts     of the page's engine: backend, threads, version of ONNX Runtime Web
    """

    def __init__(self, page: Any, browser: str, embedding_size: int):
        self._page = page
        self.browser = browser
        self._embedding_size = embedding_size
        self.facts: dict[str, Any] = self.call("() => window.unheard.ready()")

    def embed_windows(self, windows: NDArray[np.float32]) -> NDArray[np.float32]:
        """[n, samples] float32 -> [n, size] float32, by the page's model."""
        content = base64.b64encode(np.ascontiguousarray(windows, np.float32).tobytes()).decode()
        return self._rows(self.call("windows => window.unheard.embedWindows(windows)", content))

    def embed_file(self, path: Path, context_rate_hz: int | None = None) -> NDArray[np.float32]:
        """The embeddings of a sound file's windows [n, size]: the browser decodes it, the page resamples it.

        context_rate_hz   the browser decodes at this rate, and resamples itself; None: at the file's own
        """
        content = base64.b64encode(path.read_bytes()).decode()
        code = "([content, rate]) => window.unheard.embedFile(content, rate ?? undefined)"
        return self._rows(self.call(code, [content, context_rate_hz]))

    def call(self, code: str, argument: Any = None) -> Any:
        """Run JavaScript in the page. BackendError: it fails."""
        try:
            return self._page.evaluate(code, argument)
        except Exception as error:
            raise BackendError(f"the page in {self.browser}: {str(error).splitlines()[0]}") from error

    def _rows(self, content: str) -> NDArray[np.float32]:
        return np.frombuffer(base64.b64decode(content), np.float32).reshape(-1, self._embedding_size)


@contextmanager
def open_site(folder: Path, embedding_size: int) -> Iterator[SitePage]:
    """Serve a site's folder on this machine and open its page in Chromium, once its model is loaded.

    errors   as `open_chromium`, also if the browser opens no page; BackendError: the page does not start
    """
    with serve_folder(folder) as server, open_chromium() as chromium:
        try:
            page = chromium.new_page()
            page.set_default_timeout(PATIENCE_MS)
            page.goto(server.address)
        except Exception as error:
            raise NoBrowserError(f"Chromium opens no page ({str(error).splitlines()[0]})") from error
        try:
            page.wait_for_function("() => window.unheard || document.querySelector('[role=alert]')")
        except Exception as error:
            raise BackendError(f"the page does not start ({str(error).splitlines()[0]})") from error
        if fault := page.evaluate("() => document.querySelector('[role=alert]')?.innerText"):
            raise BackendError(f"the page does not start: {' '.join(fault.split())}")
        yield SitePage(page, f"Chromium {chromium.version}", embedding_size)
