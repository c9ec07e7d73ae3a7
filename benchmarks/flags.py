"""Flags that hold several values with commas between."""

from collections.abc import Callable, Sequence
from typing import TypeVar

from serving.errors import UsageError

Number = TypeVar("Number", int, float)


def numbers(flag: str, text: str, example: str, kind: Callable[[str], Number], most: float) -> list[Number]:
    """Read "1,8,32": positive numbers, the smallest first. UsageError: others, with what the flag takes."""
    try:
        values = sorted({kind(part) for part in text.split(",")})
        good = 0 < values[0] <= values[-1] <= most
    except ValueError:
        values, good = [], False
    if not good:
        raise UsageError(f"{flag}: got {text}; wanted numbers up to {most:g} with commas between: {example}")
    return values


def names(flag: str, text: str, choices: Sequence[str]) -> list[str]:
    """Read "fp32,int8": some of the choices, in their order. UsageError: another."""
    wanted = {part.strip() for part in text.split(",")}
    if not wanted <= set(choices):
        raise UsageError(f"{flag}: got {text}; wanted one or more of {', '.join(choices)}, with commas between")
    return [name for name in choices if name in wanted]


def at_least(flag: str, value: float | None, least: float, most: float = float("inf")) -> None:
    """UsageError where a number is out of its range; None, a flag that was not given, never is."""
    if value is not None and not least <= value <= most:
        wanted = f"{least:g} or more" if most == float("inf") else f"{least:g} to {most:g}"
        raise UsageError(f"{flag}: got {value:g}; wanted {wanted}")
