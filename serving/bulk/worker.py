"""The program of a worker process: it receives a job, then pieces of work, and sends the results."""

import os
import signal
import sys
import threading
import traceback
from multiprocessing.connection import Connection
from queue import SimpleQueue
from typing import Any

from serving.bulk.network_server import RemoteNetwork


def main() -> None:
    """Work until the process that started this one closes the connection, or ends.

    argv   file descriptor of the connection; of a shared network also those of `NetworkLink` and its number of rows
    """
    # Service managers send signals to all processes of a service. This one ends when the one that started it does.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    os.dup2(2, 1)  # stdout is for results of the command
    given = [int(argument) for argument in sys.argv[1:]]
    connection = Connection(given[0])
    network = RemoteNetwork(*given[1:]) if len(given) > 1 else None
    pieces: SimpleQueue[Any] = SimpleQueue()
    try:
        work = connection.recv().open(network)
    except EOFError:
        return
    except Exception as error:
        _send(connection, "error", error)
        return
    _send(connection, "ready", None)
    threading.Thread(target=_receive, args=(connection, pieces), daemon=True).start()
    while True:
        piece = pieces.get()
        try:
            result = work(piece)
        except Exception as error:
            error.add_note(f"In a worker process:\n{traceback.format_exc()}")
            _send(connection, "error", error)
        else:
            _send(connection, "done", result)


def _receive(connection: Connection, pieces: "SimpleQueue[Any]") -> None:
    """Take in pieces at once, so that the sender never waits. Without a sender this process ends, whatever it does."""
    try:
        while True:
            pieces.put(connection.recv())
    except (EOFError, OSError):
        os._exit(0)


def _send(connection: Connection, kind: str, content: Any) -> None:
    try:
        connection.send((kind, content))
    except OSError:
        os._exit(0)
    except Exception:  # what cannot be pickled
        connection.send(("error", RuntimeError(f"{type(content).__name__}: {content}")))
