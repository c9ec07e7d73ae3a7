"""Serve a bundle over HTTP.

    python -m serving bundles/first --port 8000

Prints its address as one JSON line on stdout when it answers; its log is JSON lines on stderr. SIGTERM or Ctrl-C stops
accepting, finishes what was accepted and ends it with exit code 0.
"""

from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command. Returns its exit code."""
    # Imported here because they take most of a second, in which a signal must already find its handler.
    from serving.command_line import run_command
    from serving.server.serve_command import ServeOptions, run_server

    return run_command(ServeOptions, run_server, "python -m serving", argv)


if __name__ == "__main__":
    import os
    import signal

    if hasattr(signal, "SIGHUP"):  # not on Windows
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGHUP])  # it waits until the server can reload
    for ending in (signal.SIGTERM, signal.SIGINT):
        signal.signal(ending, lambda *_: os._exit(0))  # until the server replaces it; nothing is accepted before
    raise SystemExit(main())
