"""Lower scheduling priority for the threads that decode and compute, so that the event loop answers first."""

import contextlib
import os
import threading

NICE = 5  # a thread with this nice value gets a third of the CPU share of one with the usual 0
TEXT_NICE = 10  # and with this one a third of that: labels wait for recordings, not the other way around


def lower_thread_priority(nice: int = NICE) -> None:
    """Lower the priority of the calling thread and of all threads that it starts from now on.

    The event loop can then refuse requests at once, even under overload. Linux has a nice value for each thread; on
    other systems this does nothing.
    """
    with contextlib.suppress(AttributeError, OSError):
        thread = threading.get_native_id()
        os.setpriority(os.PRIO_PROCESS, thread, max(nice, os.getpriority(os.PRIO_PROCESS, thread)))
