"""Flags without a package: argparse, whose errors are one line as those of the other commands."""

import argparse
import math
import re
import sys
from collections.abc import Callable
from typing import NoReturn


class OneLineParser(argparse.ArgumentParser):
    """A parser that ends with exit code 2 and one line: the flag, what came, what was wanted, and where help is."""

    def error(self, message: str) -> NoReturn:
        """Print argparse's message in those words, without the usage."""
        print(f"error: {_in_words(message)}; see {self.prog} --help", file=sys.stderr)
        raise SystemExit(2)


def _in_words(message: str) -> str:
    message = message.removeprefix("argument ")
    if found := re.match(r"(.+?): invalid choice: (.*) \(choose from (.*)\)$", message):
        choices = found[3].replace("'", "")
        return f"{found[1]}: got {found[2].strip(chr(39))}; wanted one of {choices}"
    return message


def number_between(least: float, most: float) -> Callable[[str], float]:
    """A type of flags: a number above `least` and up to `most`."""

    def parse(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not least < value <= most:
            raise argparse.ArgumentTypeError(f"got {text}; wanted a number above {least:g} and up to {most:g}")
        return value

    return parse
