"""A stream of log lines whose writer never waits for the file, pipe or socket behind it."""

import atexit
import os
import threading
from collections import deque

MAX_WAITING_BYTES = 4_000_000  # about 15 000 lines
# Lines are written together after this time. Waking a thread for every line would slow requests down.
WRITE_INTERVAL_S = 0.02
CLOSE_S = 1.0


class LogStream:
    """Lines are queued, and a thread writes them. Lines are dropped and counted if the queue is full or writing fails.

    It has what logging, structlog and `sys.stderr` use of a file. Any thread may write.
    """

    encoding = "utf-8"

    def __init__(self, descriptor: int):
        self.dropped_lines = 0
        self._descriptor = descriptor
        self._lock = threading.Lock()
        self._waiting: deque[bytes] = deque()
        self._waiting_bytes = 0
        self._has_lines = threading.Event()
        self._closing = threading.Event()
        self._in_line = False  # the last write ended within a line
        self._thread = threading.Thread(target=self._write_lines, name="log", daemon=True)
        self._thread.start()
        atexit.register(self.close)

    def write(self, text: str | bytes) -> int:
        """Queue text, usually a line."""
        data = text.encode(errors="backslashreplace") if isinstance(text, str) else text
        with self._lock:
            if self._waiting_bytes + len(data) > MAX_WAITING_BYTES:
                self.dropped_lines += 1
                return len(text)
            self._waiting.append(data)
            self._waiting_bytes += len(data)
        if not self._has_lines.is_set():
            self._has_lines.set()
        return len(text)

    def flush(self) -> None:
        """Nothing: a writer must not wait."""

    def isatty(self) -> bool:
        """False: lines are JSON, for programs."""
        return False

    def close(self) -> None:
        """Write the queued lines, for at most CLOSE_S."""
        self._closing.set()
        self._has_lines.set()
        self._thread.join(CLOSE_S)

    def _write_lines(self) -> None:
        while not self._closing.is_set():
            self._has_lines.wait()
            self._closing.wait(WRITE_INTERVAL_S)
            self._has_lines.clear()
            self._write_queue()
        self._write_queue()  # lines that came while the last ones were written

    def _write_queue(self) -> None:
        with self._lock:
            lines, self._waiting = list(self._waiting), deque()
            self._waiting_bytes = 0
        if lines:
            failed = self._write_all(b"".join(lines))
            with self._lock:
                self.dropped_lines += failed

    def _write_all(self, data: bytes) -> int:
        """Write data. Returns the number of lines that were lost because writing failed, as on a full disk."""
        if in_line := self._in_line:
            data = b"\n" + data
        rest = memoryview(data)
        while rest:
            try:
                rest = rest[os.write(self._descriptor, rest) :]
            except OSError:
                written = len(data) - len(rest)
                if written:
                    self._in_line = data[written - 1] != ord("\n")
                return bytes(rest).count(b"\n") - (in_line and not written)
        self._in_line = not data.endswith(b"\n")
        return 0
