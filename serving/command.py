"""What every command shares: flags from a frozen dataclass, one line for wrong input, JSON on the last line.

raise SystemExit(run_command(Options, work, "python -m serving", argv))
"""

import contextlib
import io
import json
import os
import re
import sys
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import tyro
from rich.console import Console
from rich.table import Table
from rich.text import Text

from serving.errors import UnheardError

Options = TypeVar("Options")

# Tables for people go to stdout (console); progress and warnings to stderr (progress_console).
console = Console()
progress_console = Console(stderr=True)


def say(text: str) -> None:
    """One line on stderr of what is being done, unbroken whatever the terminal's width."""
    progress_console.print(text, soft_wrap=True, markup=False, highlight=False)


def show(table: Table, title: str) -> None:
    """A table for people on stdout, under a title that is not broken: it may hold a path."""
    console.print(Text(title, style="italic"), soft_wrap=True)
    console.print(table)


def run_command(
    options_type: type[Options],
    work: Callable[[Options], dict[str, Any] | None],
    prog: str,
    argv: Sequence[str] | None = None,
) -> int:
    """Parse the flags, do the work, and give the exit code.

    work     its result is printed as one line of JSON, the last on stdout; None prints nothing
    returns  0 on success, 2 on wrong input (or the error's own code) with one line on stderr, 130 when interrupted
    """
    options = _parse(options_type, prog, sys.argv[1:] if argv is None else argv)
    try:
        result = work(options)
    except UnheardError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    if result is not None:
        print(json.dumps(result), flush=True)
    return 0


def _parse(options_type: type[Options], prog: str, argv: Sequence[str]) -> Options:
    def parse() -> Options:
        return tyro.cli(options_type, prog=prog, args=argv, config=(tyro.conf.FlagCreatePairsOff,))

    try:
        with contextlib.redirect_stderr(io.StringIO()):
            return parse()
    except SystemExit as stop:
        if stop.code == 2:
            print(f"error: {_first_message(_told_wide(parse))}; see {prog} --help", file=sys.stderr)
        raise


def _told_wide(parse: Callable[[], object]) -> str:
    """What tyro says of wrong flags, in lines that are long enough to break no path: it knows only the terminal's."""
    width, told = os.environ.get("COLUMNS"), io.StringIO()
    os.environ["COLUMNS"] = "100000"
    try:
        with contextlib.redirect_stderr(told), contextlib.suppress(SystemExit):
            parse()
    finally:
        os.environ.pop("COLUMNS")
        if width is not None:
            os.environ["COLUMNS"] = width
    return told.getvalue()


def _first_message(box: str) -> str:
    """The message inside tyro's box, without its frame and its advice, on one line."""
    lines = [re.sub(r"[│╭╮╰╯]", "", line).strip() for line in box.splitlines()[1:]]
    message = []
    for line in lines:
        if line.startswith("─"):
            break
        message.append(line)
    return " ".join(message).rstrip(".") or "wrong usage"
