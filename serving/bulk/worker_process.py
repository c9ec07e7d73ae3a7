"""One worker process: a new interpreter that runs serving.bulk.worker.

A fork of this process would have the locks of its libraries, but not their threads. The new interpreter imports nothing
of the caller's main program, so a script needs no `if __name__ == "__main__"`.
"""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from serving.bulk.network_server import NetworkLink, socket_pair

START = "from serving.bulk.worker import main; main()"


class WorkerProcess:
    """A process that opens a job, then works on what it is sent, piece by piece.

    job         is pickled; its method `open` runs in the process and returns the function that does the work
    link        to a network that this process runs, for the job; its descriptors are closed here
    inherited   file descriptors that the process gets under the same numbers
    connection  gives pairs: ("ready", None) once the job is open, then ("done", result) or ("error", what was raised)
                for each piece. EOFError or OSError: the process has ended
    The process ends when this one does, in any way.
    """

    def __init__(self, job: object, link: NetworkLink | None = None, inherited: Sequence[int] = ()):
        self.connection, theirs = socket_pair()
        try:
            with theirs, contextlib.closing(link) if link else contextlib.nullcontext():
                given = [theirs.fileno(), *(link.descriptors if link else [])]
                # A session of its own: Ctrl-C reaches only this process, which ends the workers.
                self._process = subprocess.Popen(
                    [sys.executable, "-c", START, *map(str, given), *([str(link.rows)] if link else [])],
                    stdin=subprocess.DEVNULL,
                    pass_fds=[*given, *inherited],
                    start_new_session=True,
                    env=_environment(),
                )
        except BaseException:  # the process could not be started
            self.connection.close()
            raise
        self.send(job)

    def send(self, content: Any) -> None:
        """Send the next piece of work."""
        with contextlib.suppress(OSError):  # if the process has ended, reading from the connection shows it
            self.connection.send(content)

    def end(self) -> str:
        """End the process; returns how it ended: the name of a signal, or an exit code."""
        self.connection.close()
        self._process.kill()
        code = self._process.wait()
        return signal.Signals(-code).name if code < 0 else f"exit code {code}"


def _environment() -> dict[str, str]:
    """This process's environment, with its import path. A process uses one core: by itself OpenBLAS starts a thread for
    each core of the machine, in each process."""
    path = os.pathsep.join(path or str(Path.cwd()) for path in sys.path)
    return {"OPENBLAS_NUM_THREADS": "1"} | os.environ | {"PYTHONPATH": path}
