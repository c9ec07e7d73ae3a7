"""Shared by all commands: flags from a frozen dataclass, one line for wrong input, JSON as the last line of stdout.

raise SystemExit(run_command(Options, work, "python -m serving", argv))
"""

import contextlib
import errno
import io
import json
import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar, get_type_hints

import tyro
from rich.console import Console
from rich.table import Table
from rich.text import Text

from serving.ending_signals import unwound_by_signals
from serving.errors import UnheardError

Options = TypeVar("Options")
KINDS = {"FLOAT": "a number with a decimal point", "INT": "a whole number"}  # of values, by tyro's names
# The way out of errors of paths that flags give: Path.exists, is_file and is_dir raise these, and are False for others.
PATH_ERRORS = {
    errno.ENAMETOOLONG: "give a shorter path",
    errno.EACCES: "correct the permissions, or give another path",
    errno.ELOOP: "give another path",
}
SYMLINK_LOOP = "Symlink loop from "  # RuntimeError of Path.resolve before Python 3.13

# Tables for people go to stdout (console); progress and warnings to stderr (progress_console). Labels and paths go to
# both as they are: rich would take "[adult]" in them for a style, and ":dog:" for a picture.
console = Console(markup=False, emoji=False)
progress_console = Console(stderr=True, markup=False, emoji=False)


def say(text: str) -> None:
    """Print one line of progress on stderr, without line breaks at any width of the terminal."""
    progress_console.print(text, soft_wrap=True, highlight=False)


def say_unknown_words(unknown: Mapping[str, Sequence[str]]) -> None:
    """Say which words a text model does not know. unknown: text -> its words, see `LabelSpace.unknown_words`."""
    for text, words in unknown.items():
        say(f"{text!r}: the text model does not know {', '.join(words)}")


def show(table: Table, title: str) -> None:
    """Print a table on stdout under its title. The title is not wrapped, because it may be a path."""
    console.print(Text(title, style="italic"), soft_wrap=True)
    console.print(table)


def run_command(
    options_type: type[Options],
    work: Callable[[Options], dict[str, Any] | None],
    prog: str,
    argv: Sequence[str] | None = None,
) -> int:
    """Parse the flags, do the work, and return the exit code.

    work     its result is printed as one line of JSON, the last one on stdout; None prints nothing
    returns  0 on success, 2 on wrong input (or the error's own code) with one line on stderr, 130 when interrupted
    SIGTERM or SIGHUP, if nothing else handles it, ends the command too with its temporary files removed.
    """
    given = sys.argv[1:] if argv is None else argv
    options = _parse(options_type, prog, given)
    try:
        with unwound_by_signals():
            result = work(options)
    except UnheardError as error:
        print(f"error: {_with_flag(str(error), type(options), given)}", file=sys.stderr)
        return error.exit_code
    except (OSError, RuntimeError) as error:
        reason = _path_error(error)
        if reason is None:
            raise
        print(f"error: {reason}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    if result is not None:
        print(json.dumps(result), flush=True)
    return 0


def _path_error(error: OSError | RuntimeError) -> str | None:
    """What is wrong with a path, in one line; None: another error."""
    if isinstance(error, RuntimeError):
        message = str(error)
        path = message.removeprefix(SYMLINK_LOOP).strip("'\"")
        return f"{path}: is a loop of links; give another path" if message.startswith(SYMLINK_LOOP) else None
    if error.errno not in PATH_ERRORS or not isinstance(error.filename, str | os.PathLike):
        return None
    return f"{error.filename}: cannot be used ({error.strerror}); {PATH_ERRORS[error.errno]}"


def _with_flag(message: str, options_type: type, argv: Sequence[str]) -> str:
    """The message with flags in place of Python's parameters.

    At its start the flag is as the user gave it: "threads: got 0; wanted 1 or more" -> "--workers: got 0; wanted 1 or
    more", if --workers was given. "give another folder, or overwrite=True" -> "give another folder, or --overwrite"
    """
    kinds = get_type_hints(options_type, include_extras=True)

    def flag_of(argument: re.Match[str]) -> str:
        if argument[1] not in kinds:
            return argument[0]
        return f"--{argument[1].replace('_', '-')}{'' if argument[2] == 'True' else ' ' + argument[2]}"

    message = re.sub(r"(?<= )([a-z_]+)=(True|\d+)(?![^ ,;])", flag_of, message)
    name, colon, rest = message.partition(":")
    field = name.removeprefix("--").replace("-", "_")
    kind = kinds.get(field)
    marks = getattr(kind, "__metadata__", ())
    is_flag = name.startswith("--") or rest.startswith(" got ")  # otherwise it may be a path
    if not colon or not is_flag or kind is None or tyro.conf.Positional in marks:
        return message
    flag = f"--{field.replace('_', '-')}"
    aliases = [alias for mark in marks for alias in getattr(mark, "aliases", None) or ()]
    words = {word.partition("=")[0].replace("_", "-") for word in argv}
    return next((alias for alias in aliases if alias in words and flag not in words), flag) + colon + rest


def _parse(options_type: type[Options], prog: str, argv: Sequence[str]) -> Options:
    def parse() -> Options:
        return tyro.cli(options_type, prog=prog, args=argv, config=(tyro.conf.FlagCreatePairsOff,))

    try:
        with contextlib.redirect_stderr(io.StringIO()):
            return parse()
    except SystemExit as stop:
        if stop.code == 2:
            print(f"error: {_first_message(_error_of_tyro(parse))}; see {prog} --help", file=sys.stderr)
        raise


def _error_of_tyro(parse: Callable[[], object]) -> str:
    """What tyro prints about wrong flags, on lines long enough for any path: tyro wraps at the terminal's width."""
    width, output = os.environ.get("COLUMNS"), io.StringIO()
    os.environ["COLUMNS"] = "100000"
    try:
        with contextlib.redirect_stderr(output), contextlib.suppress(SystemExit):
            parse()
    finally:
        os.environ.pop("COLUMNS")
        if width is not None:
            os.environ["COLUMNS"] = width
    return output.getvalue()


def _first_message(box: str) -> str:
    """The message in tyro's box on one line, without the frame and the advice.

    Where stdout is not UTF-8 the box is drawn with hyphens, and has one more rule below its title.
    """
    lines = [re.sub(r"[│╭╮╰╯]", "", line).strip() for line in box.splitlines()[1:]]
    message: list[str] = []
    for line in lines:
        is_rule = re.match(r"(─|-{3})", line)  # hyphens where the output is ASCII
        if is_rule and message:
            break
        if not is_rule:
            message.append(line)
    return _in_words(" ".join(message).rstrip(".")) or "wrong usage"


def _in_words(message: str) -> str:
    """tyro's message about a wrong value as flag, got and wanted; any other message as it is."""
    if found := re.match(r"Error parsing (.+?): no type matching (.+?) could be instantiated from \[(.*?)\]", message):
        kinds = [KINDS.get(kind, kind) for kind in found[2].split("|") if kind != "{None}"]
        return f"{found[1]}: got {found[3]}; wanted {' or '.join(kinds)}"
    if found := re.match(r"Error parsing (.+?): invalid literal for int\(\) with base 10: (.*)$", message):
        return f"{found[1]}: got {found[2]}; wanted {KINDS['INT']}"
    if found := re.match(r"Error parsing (.+?): could not convert string to float: (.*)$", message):
        return f"{found[1]}: got {found[2]}; wanted {KINDS['FLOAT']}"
    if found := re.match(r"invalid choice '(.*)' for argument '(.+?)'\. Expected one of \((.*)\)$", message):
        choices = sorted(set(re.findall(r"'(.*?)'", found[3])) - {"None"})
        return f"{found[2]}: got {found[1]!r}; wanted one of {', '.join(choices)}"
    return message.removeprefix("Error parsing ")
