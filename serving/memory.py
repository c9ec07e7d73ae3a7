"""What glibc's malloc keeps of freed memory. Where the C library is another one, these do nothing."""

import contextlib
import ctypes

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h


def give_memory_back() -> None:
    """Let freed blocks of a megabyte and more go back to the system at once.

    By itself malloc raises that size to 32 MB after the first such block, and keeps what the longest recordings took:
    320 MB instead of 205 after some of two minutes.
    """
    with contextlib.suppress(AttributeError, OSError, TypeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(M_MMAP_THRESHOLD, 2**20)
        # Setting the one stops the other from growing as well, and at its 128 kB each request would pay for new pages.
        mallopt(M_TRIM_THRESHOLD, 2**24)


def trim_memory() -> None:
    """Give back what is free now: a model that was read leaves its file and its folded constants behind."""
    with contextlib.suppress(AttributeError, OSError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)
