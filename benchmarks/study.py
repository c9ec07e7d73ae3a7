"""What every benchmark shares: the machine row, the record that becomes JSON, the files, the tables, the figures."""

import csv
import io
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from rich import box
from rich.table import Table as TerminalTable

from benchmarks.host import describe_hardware, describe_software, read_host
from serving.command_line import console
from serving.errors import UsageError
from serving.files.atomic_write import write_atomically
from serving.files.new_folder import refuse_unwritable

BLUE, ACCENT, GREY, PALE = "#1f6feb", "#d4572a", "#5b616b", "#b6bcc5"
BUSY_LOAD = 0.5  # load average for each core: above it other work disturbs the measurement


@dataclass(frozen=True)
class TextTable:
    """A table of text: the first column is aligned to the left, the others, numbers, to the right."""

    title: str
    head: Sequence[str]
    lines: Sequence[Sequence[str]]

    def markdown(self) -> str:
        """The table in Markdown, without its title."""
        rule = ["---", *["---:"] * (len(self.head) - 1)]
        lines = [f"| {' | '.join(line)} |" for line in (self.head, *self.lines)]
        return "\n".join([lines[0], f"|{'|'.join(rule)}|", *lines[1:], ""])

    def terminal(self) -> TerminalTable:
        """The table for a terminal, narrow enough for a dozen numbers in 80 columns."""
        table = TerminalTable(
            title=self.title, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False
        )
        for i, column in enumerate(self.head):
            table.add_column(column, justify="right" if i else "left", no_wrap=True)
        for line in self.lines:
            table.add_row(*line)
        return table


class Study:
    """One benchmark, from its start to its files NAME.json, .csv, .md and .png in a folder.

    errors   UsageError: the folder cannot be made
    """

    def __init__(self, name: str, out: Path):
        self._name = name
        self._out = out
        self._load_average = round(os.getloadavg()[0], 2)  # read before this benchmark itself loads the machine
        self.host = read_host()
        make_folder(out)

    def record(self, **content: Any) -> dict[str, Any]:
        """The content of the JSON: time, machine row, what the benchmark measured, and the folder."""
        return {
            "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
            "machine": asdict(self.host) | {"load_average_before": self._load_average},
            **content,
            "out": str(self._out),
        }

    def write(
        self,
        record: dict[str, Any],
        rows: Sequence[Any],
        tables: Sequence[TextTable],
        notes: Sequence[str],
        plot: Callable[[], Figure] | None = None,
    ) -> None:
        """Write the files, and show the tables and notes on the terminal.

        rows    dataclass instances for the CSV; without any there is neither a CSV file nor a figure
        notes   what the numbers depend on, one line each; they become part of the record
        """
        record["notes"] = list(notes)
        lines = [*notes, describe_machine(record["machine"])]
        stem = self._out / self._name
        write_json(record, stem.with_suffix(".json"))
        written = [f"{self._name}.json"]
        if tables:
            text = "\n".join(table.markdown() for table in tables)
            write_text(f"{text}\n{bullet_list(lines)}", stem.with_suffix(".md"))
            written.append(f"{self._name}.md")
        if rows:
            write_text(to_csv([asdict(row) for row in rows]), stem.with_suffix(".csv"))
            written.append(f"{self._name}.csv")
        if rows and plot:
            save_figure(plot(), describe_hardware(record["machine"]), stem.with_suffix(".png"))
            written.append(f"{self._name}.png")
        for table in tables:
            console.print(table.terminal())
        for line in (*lines, f"written to {self._out}: {', '.join(written)}"):
            console.print(line, soft_wrap=True, highlight=False)


def describe_machine(machine: Mapping[str, Any]) -> str:
    """A record's machine row in one line, with a warning if the machine was busy before the measurement."""
    load = machine["load_average_before"]
    warning = " (the machine was busy: these times may be too long)" if load > BUSY_LOAD * machine["cores"] else ""
    return f"{describe_hardware(machine)}; {describe_software(machine)}; load average before: {load:g}{warning}"


def digits(value: float | None) -> str:
    """A number in at most six characters: 1.23, 12.34, 123.4, 1234.5; "-" for None."""
    return "-" if value is None else f"{value:.{1 if abs(value) >= 100 else 2}f}"


def to_csv(rows: Sequence[Mapping[str, Any]]) -> str:
    """CSV with a header line: the union of the rows' keys, in order of appearance. At least one row."""
    columns = list(dict.fromkeys(key for row in rows for key in row))
    out = io.StringIO()
    writer = csv.DictWriter(out, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()


def bullet_list(notes: Sequence[str]) -> str:
    """A Markdown list."""
    return "".join(f"- {note}\n" for note in notes)


def style_axes(axes: Axes) -> None:
    """Draw a light grid behind the data, and no frame on the top and right."""
    axes.set_axisbelow(True)
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)


def save_figure(figure: Figure, caption: str, out: Path) -> None:
    """Write a figure as PNG, with a caption in small type below it."""
    figure.supxlabel(caption, fontsize=8, color=GREY, x=0.01, ha="left", wrap=True)
    write_file(out, lambda path: figure.savefig(path, dpi=130, format="png"))


def write_json(content: Mapping[str, Any], out: Path) -> None:
    """Write an object as an indented JSON file."""
    write_text(json.dumps(content, indent=1) + "\n", out)


def write_text(text: str, out: Path) -> None:
    """Write a text file."""
    write_file(out, lambda path: path.write_text(text))


def make_folder(out: Path, flag: str = "--out") -> None:
    """Make a folder if it is not there yet. UsageError: it cannot be made, or no file can be written into it."""
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"{out}: cannot make this folder ({error.strerror}); give another {flag}") from error
    refuse_unwritable(out, flag)  # before the measurement instead of after it


def write_file(out: Path, write: Callable[[Path], object]) -> None:
    """Replace a file by what `write` puts into a temporary one; after a failure the old file is unchanged.

    errors   UsageError: the file cannot be written
    """
    try:
        write_atomically(out, write)
    except OSError as error:
        raise UsageError(f"{out}: cannot write this file ({error.strerror}); give another --out") from error
