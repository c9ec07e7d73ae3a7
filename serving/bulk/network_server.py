"""One network for several processes: they prepare windows in shared memory, and the process with the GPU runs it.

Each worker process has one block of shared memory for the input of a call. Calls that wait together run together.
"""

import contextlib
import mmap
import os
import threading
from dataclasses import dataclass
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serving.backends.runtime import Graph
from serving.errors import BackendError, UnheardError, one_line

REMOTE_ROWS = 16  # windows in one call of a worker; 16 workers fill a batch of 256
TOGETHER_ROWS = 256  # most windows that are run together


def socket_pair() -> tuple[Connection, Connection]:
    """Two ends of a connection, for objects in both directions."""
    ours, theirs = Pipe()
    assert isinstance(ours, Connection)  # not so on Windows, where a process cannot inherit them either
    assert isinstance(theirs, Connection)
    return ours, theirs


@dataclass(frozen=True)
class NetworkLink:
    """A worker's end of a connection to the server, until the worker has inherited it."""

    connection: Connection
    memory: int
    rows: int

    @property
    def descriptors(self) -> list[int]:
        """File descriptors that the worker inherits."""
        return [self.connection.fileno(), self.memory]

    def close(self) -> None:
        """Close this process's copies."""
        self.connection.close()
        os.close(self.memory)


class RemoteNetwork:
    """A worker's network: a `Graph` that another process runs. For one thread at a time.

    connection, memory   file descriptors, see `NetworkLink`; rows: most windows of a call
    errors               of a call: whatever the network raises there
    """

    def __init__(self, connection: int, memory: int, rows: int):
        self._connection = Connection(connection)
        self.name, self.version, self.providers, shape = self._connection.recv()
        self.max_batch = rows
        self._block = np.frombuffer(mmap.mmap(memory, 0), np.float32).reshape(rows, *shape)

    def __call__(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        """[n, ...] float32 -> [n, size] float32, n at most `max_batch`."""
        self._block[: len(batch)] = batch
        self._connection.send(len(batch))
        answer = self._connection.recv()
        if isinstance(answer, Exception):
            raise answer
        return answer


class NetworkServer:
    """Runs a network for worker processes, in a thread of its own, until it is closed.

    network   inputs [n, ...] float32 -> rows [n, size] float32
    shape     of one input, without the batch
    """

    def __init__(self, network: Graph, shape: tuple[int, ...]):
        self._network = network
        self._shape = shape
        self._lock = threading.Lock()
        self._blocks: dict[Connection, NDArray[np.float32]] = {}
        self._wake, self._woken = Pipe()
        self._thread = threading.Thread(target=self._serve, name="network", daemon=True)
        self._thread.start()

    def connect(self) -> NetworkLink:
        """A connection for one worker, with its block of shared memory."""
        ours, theirs = socket_pair()
        memory = os.memfd_create("unheard-windows")
        os.ftruncate(memory, 4 * REMOTE_ROWS * int(np.prod(self._shape)))
        block = np.frombuffer(mmap.mmap(memory, 0), np.float32).reshape(REMOTE_ROWS, *self._shape)
        ours.send((self._network.name, self._network.version, list(self._network.providers), self._shape))
        with self._lock:
            self._blocks[ours] = block
        self._wake.send(True)
        return NetworkLink(theirs, memory, REMOTE_ROWS)

    def close(self) -> None:
        """End the thread."""
        self._wake.send(False)
        self._thread.join()
        for connection in [*self._blocks, self._wake, self._woken]:
            connection.close()

    def _serve(self) -> None:
        while True:
            with self._lock:
                connections = list(self._blocks)
            ready: list[Any] = wait([*connections, self._woken])
            if self._woken in ready and not self._woken.recv():
                return
            calls = [(each, rows) for each in ready if each is not self._woken and (rows := self._rows(each))]
            most = TOGETHER_ROWS // REMOTE_ROWS
            for first in range(0, len(calls), most):
                self._run(calls[first : first + most])

    def _rows(self, connection: Connection) -> int:
        """How many windows a worker asks for; 0: it has ended."""
        try:
            return connection.recv()
        except (EOFError, OSError):
            connection.close()
            with self._lock:
                del self._blocks[connection]
            return 0

    def _run(self, calls: list[tuple[Connection, int]]) -> None:
        parts = [self._blocks[connection][:rows] for connection, rows in calls]
        answers: list[NDArray[np.float32] | Exception]
        try:
            rows = self._network(parts[0] if len(parts) == 1 else np.concatenate(parts))
            ends = np.cumsum([len(part) for part in parts])
            answers = [rows[end - len(part) : end] for part, end in zip(parts, ends, strict=True)]
        except UnheardError as error:
            answers = [error] * len(calls)
        except Exception as error:  # of any kind, perhaps one that cannot be sent: the workers must get an answer
            answers = [
                BackendError(f"{self._network.name} failed ({type(error).__name__}: {one_line(error, 300)})")
            ] * len(calls)
        for (connection, _), answer in zip(calls, answers, strict=True):
            with contextlib.suppress(OSError):  # the worker has ended
                connection.send(answer)
