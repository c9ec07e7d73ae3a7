"""What glibc's malloc keeps of freed memory, and how much is free. With another C library the first do nothing."""

import contextlib
import ctypes
from pathlib import Path

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_MMAP_MAX = -1, -3, -4  # of glibc's malloc.h


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


def keep_freed_memory() -> None:
    """Let this process keep all that it has freed, for work that needs as much again and again.

    A training step frees its activations and gradients, and the next one would pay a page fault for each page:
    docs/results/training.md.
    """
    with contextlib.suppress(AttributeError, OSError, TypeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(M_MMAP_MAX, 0)
        mallopt(M_TRIM_THRESHOLD, 2**31 - 1)


def trim_memory() -> None:
    """Give back what is free now: a model that was read leaves its file and its folded constants behind."""
    with contextlib.suppress(AttributeError, OSError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)


def free_memory(root: Path = Path("/")) -> int:
    """Bytes that this process can still take: of the machine, and of its control group (version 2).

    root   where /proc and /sys are found; where they say nothing, 2**62
    """
    free = [2**62]
    with contextlib.suppress(OSError, ValueError):
        lines = (root / "proc/meminfo").read_text().splitlines()
        free += [1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable:")]
    with contextlib.suppress(OSError, ValueError):
        group = (root / "proc/self/cgroup").read_text().splitlines()[-1].split(":", 2)[2]
        top = root / "sys/fs/cgroup"
        folder = top / group.lstrip("/")
        for each in (folder, *folder.parents):
            if each.is_relative_to(top) and (each / "memory.max").is_file():
                most = (each / "memory.max").read_text().strip()
                if most != "max":
                    free.append(int(most) - int((each / "memory.current").read_text()))
    return max(0, min(free))
