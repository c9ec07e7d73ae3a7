"""Bytes that this process and its workers share: a file in memory, without a name, which ends with its processes."""

import os
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serving.audio.streams import ByteSource

KEPT_BYTES = 2**21  # of each file


class SharedFile:
    """A file in memory. Its pickle holds the descriptor, which a worker process must have inherited.

    Its bytes are copied by the system, without Python's lock, and no other process can make this one fail by a change
    of the size, as it could with mapped memory.
    """

    def __init__(self, descriptor: int | None = None):
        self.descriptor = os.memfd_create("unheard-upload") if descriptor is None else descriptor

    def __reduce__(self) -> tuple[Any, ...]:
        return SharedFile, (self.descriptor,)

    def write(self, content: bytes | NDArray[np.float32]) -> int:
        """Write from the beginning; returns the number of bytes."""
        view = memoryview(content if isinstance(content, bytes) else np.ascontiguousarray(content).data).cast("B")
        at = 0
        while at < len(view):  # Linux writes 2 GB at most
            at += os.pwrite(self.descriptor, view[at:], at)
        return at

    def read(self, count: int) -> bytes:
        """The first bytes."""
        return ByteSource(fd=self.descriptor).read(0, count)

    def read_into(self, array: NDArray[np.float32]) -> None:
        """Fill an array that is not empty with the first bytes."""
        view, at = array.data.cast("B"), 0
        while at < len(view):
            count = os.preadv(self.descriptor, [view[at:]], at)
            if not count:
                raise EOFError("the shared file is shorter than what is read")
            at += count

    def clear(self) -> None:
        """Give back the memory beyond KEPT_BYTES: it is needed again soon, and new pages take 0.15 ms a megabyte."""
        if os.fstat(self.descriptor).st_size > KEPT_BYTES:
            os.ftruncate(self.descriptor, KEPT_BYTES)

    def close(self) -> None:
        """Close this process's descriptor."""
        os.close(self.descriptor)
