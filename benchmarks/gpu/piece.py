"""What the pieces of the measurement share: their flags, their tables, and timing."""

import argparse
import importlib.util
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median

from benchmarks.gpu.one_line_parser import OneLineParser


@dataclass(frozen=True)
class Plot:
    """Lines (points of x and y by label), or bars (one point each, x is ignored), for a plot beside a table."""

    title: str
    x: str
    y: str
    lines: dict[str, list[tuple[float, float]]]
    bars: bool = False


@dataclass(frozen=True)
class Table:
    """A table of the page. numbers: values by name that other parts of the page compute with."""

    title: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    notes: Sequence[str] = ()
    plot: Plot | None = None
    numbers: dict[str, float] = field(default_factory=dict)


class Tables:
    """The tables of a piece, written to a file after each row, so that a piece that is ended keeps what it has."""

    def __init__(self, path: Path):
        self._path = path
        self._tables: list[dict[str, object]] = []

    def put(self, table: Table) -> None:
        """Add a table, or replace the one with its title, and write all."""
        new = asdict(table)
        titles = [each["title"] for each in self._tables]
        if table.title in titles:
            self._tables[titles.index(table.title)] = new
        else:
            self._tables.append(new)
        written = self._path.with_suffix(".new")
        written.write_text(json.dumps(self._tables))
        written.replace(self._path)


def parse(name: str, *positional: str, argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The flags of a piece: bundle folder and others as positional arguments, and those that all pieces have."""
    parser = OneLineParser(prog=f"python -m benchmarks.gpu.{name}")
    for each in positional:
        parser.add_argument(each)
    parser.add_argument("--precision", default="fp32")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", type=Path, required=True)
    return parser.parse_args(argv)


def is_installed(module: str) -> bool:
    """Whether a module can be imported."""
    return importlib.util.find_spec(module) is not None


def median_ms(work: Callable[[], object], seconds: float, least: int = 5) -> float:
    """Median milliseconds of a call, repeated for about as many seconds, after two calls of warm-up."""
    for _ in range(2):
        work()
    times: list[float] = []
    end = time.perf_counter() + seconds
    while len(times) < least or (time.perf_counter() < end and len(times) < 1000):
        started = time.perf_counter()
        work()
        times.append(1000 * (time.perf_counter() - started))
    return median(times)


def number(value: float) -> str:
    """Three digits."""
    return f"{value:.3g}" if value < 1000 else f"{value:,.0f}"


def one_line(error: BaseException) -> str:
    """The first 160 characters of an error."""
    return " ".join(f"{type(error).__name__}: {error}".split())[:160]
