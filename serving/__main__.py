"""Serve a bundle over HTTP.

    python -m serving bundles/first --port 8000

Prints its address as one JSON line on stdout when it answers; its log is JSON lines on stderr. SIGTERM or Ctrl-C stops
accepting, finishes what was accepted and ends it with exit code 0.
"""

from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> int:
    """The command."""
    # Imported here: they take the better part of a second, in which a signal must find its handler.
    from serving.command_line import run_command
    from serving.server.command import Options, work

    return run_command(Options, work, "python -m serving", argv)


if __name__ == "__main__":
    import os
    import signal

    for ending in (signal.SIGTERM, signal.SIGINT):
        signal.signal(ending, lambda *_: os._exit(0))  # until the server takes over, nothing is accepted yet
    raise SystemExit(main())
