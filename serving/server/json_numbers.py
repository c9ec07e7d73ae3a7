"""JSON in which long arrays of numbers are kept out of the parser, to be parsed in pieces.

`json.loads` of 20 MB of numbers takes a second, in which no other thread of Python runs, and 16 times the memory.
"""

import json
import re
import secrets
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

MIN_ARRAY_BYTES = 65_536  # shorter arrays are left to the parser
MAX_OTHER_BYTES = 2_000_000  # of JSON besides long arrays
PIECE_BYTES = 65_536  # parsed at a time: some milliseconds
NUMBER_TEXT = re.compile(rb"[\[\]0-9eE+\-.,\s]++")


class NumbersError(Exception):
    """A long array does not hold the numbers that are wanted."""


@dataclass(frozen=True)
class NumberArray:
    """The JSON text of an array of numbers, brackets included."""

    text: bytes

    def parse(self, rows: int, columns: int) -> NDArray[np.float32]:
        """The numbers of a flat array, or of an array of rows: [rows, columns] float32.

        A number beyond float32's range becomes infinite. errors: NumbersError
        """
        values = np.empty((rows, columns), np.float32)
        if self.text.count(b"[") == 1:
            _fill(values.reshape(-1), self.text[1:-1])
            return values
        lines = self.text[1:-1].split(b"]", rows + 1)  # one row each, and nothing after the last
        if len(lines) != rows + 1 or lines[-1].strip():
            raise NumbersError(f"got {min(len(lines) - 1, rows + 1)} or more rows; wanted {rows}")
        for i, line in enumerate(lines[:-1]):
            separator, bracket, numbers = line.partition(b"[")
            if separator.strip() != (b"," if i else b"") or not bracket or b"[" in numbers:
                raise NumbersError("is neither flat nor an array of rows")
            _fill(values[i], numbers)
        return values


def load_json(text: bytes) -> tuple[Any, dict[str, NumberArray]]:
    """Parse JSON without its long arrays of numbers.

    returns  the value, in which a string that cannot be guessed stands for each long array; the arrays by that string
    errors   ValueError, RecursionError: no JSON; NumbersError: too much JSON besides long arrays
    """
    key = secrets.token_hex(16)
    arrays: dict[str, NumberArray] = {}
    others: list[bytes] = []
    n_others = start = 0
    for match in NUMBER_TEXT.finditer(text):
        first = text.find(b"[", match.start(), match.end())
        last = text.rfind(b"]", match.start(), match.end())
        if first >= 0 and last - first >= MIN_ARRAY_BYTES:
            name = f"{key}-{len(arrays)}"
            arrays[name] = NumberArray(text[first : last + 1])
            others += [text[start:first], json.dumps(name).encode()]
            n_others += first - start
            start = last + 1
        if n_others + match.start() - start > MAX_OTHER_BYTES:
            break
    others.append(text[start : start + MAX_OTHER_BYTES + 1])
    if n_others + len(others[-1]) > MAX_OTHER_BYTES:
        raise NumbersError(f"more than {MAX_OTHER_BYTES} bytes of JSON are not numbers of one tensor")
    return json.loads(b"".join(others)), arrays


def _fill(values: NDArray[np.float32], text: bytes) -> None:
    """Parse numbers separated by commas into `values`, all of which they must fill."""
    done = start = 0
    while start <= len(text):
        end = text.find(b",", start + PIECE_BYTES)
        end = len(text) if end < 0 else end
        try:
            piece = json.loads(b"[" + text[start:end] + b"]")
        except ValueError as error:
            raise NumbersError(f"is no array of numbers ({str(error)[:100]})") from error
        if not piece:
            raise NumbersError("is no array of numbers (a number is missing)")
        if done + len(piece) > len(values):
            raise NumbersError(f"got more than {len(values)} numbers")
        try:
            with np.errstate(over="ignore"):
                values[done : done + len(piece)] = piece
        except OverflowError as error:
            raise NumbersError("got a number beyond the range of floats") from error
        done += len(piece)
        start = end + 1
    if done != len(values):
        raise NumbersError(f"got {done} numbers; wanted {len(values)}")
