"""Which threads wait where cores are short: those that decode and compute, not the one that answers."""

import contextlib
import os
import threading

NICE = 5  # a third of the share that a thread of the usual 0 gets


def step_back() -> None:
    """Let the event loop go before the calling thread and all that it starts from now on.

    Requests are then refused at once even under overload. Linux counts nice by thread; elsewhere this does nothing.
    """
    with contextlib.suppress(AttributeError, OSError):
        own = threading.get_native_id()
        os.setpriority(os.PRIO_PROCESS, own, max(NICE, os.getpriority(os.PRIO_PROCESS, own)))
