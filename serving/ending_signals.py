"""Signals that end a process at once, as exceptions: what is half done is tidied up first."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def unwound_by_signals() -> Iterator[None]:
    """In the block, the signals that would end this process at once raise SystemExit. Only in the main thread."""
    is_main = threading.current_thread() is threading.main_thread()
    numbers = [each for each in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(each) is signal.SIG_DFL]

    def stop(number: int, _: object) -> None:
        raise SystemExit(128 + number)  # as a shell reports it

    for number in numbers * is_main:
        signal.signal(number, stop)
    try:
        yield
    finally:
        for number in numbers * is_main:
            signal.signal(number, signal.SIG_DFL)
