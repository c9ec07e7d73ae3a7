"""The stack on which this thread's signal handlers run, kept from libraries that replace it."""

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager


class _Stack(ctypes.Structure):
    """stack_t of sigaltstack(2)."""

    _fields_ = (("pointer", ctypes.c_void_p), ("flags", ctypes.c_int), ("size", ctypes.c_size_t))


@contextmanager
def kept_signal_stack() -> Iterator[None]:
    """After the block, the signal handlers of this thread have the stack that they had before it.

    OpenVINO gives them another one whenever it opens a CPU device, and frees that when the device is closed. Where a
    second device is closed after the first, or where another thread closes one, it does not put the stack back: the
    next signal for which Python has a handler, such as Ctrl-C, then ends the process with SIGSEGV.
    """
    if sys.platform != "linux":
        yield
        return
    libc, before = ctypes.CDLL(None), _Stack()
    known = libc.sigaltstack(None, ctypes.byref(before)) == 0
    try:
        yield
    finally:
        if known:
            libc.sigaltstack(ctypes.byref(before), None)
