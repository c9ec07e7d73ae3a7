"""What every measurement leaves behind: JSON, CSV, Markdown and pictures, each whole or not at all."""

import csv
import io
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from rich import box
from rich.table import Table

from serving.command import console
from serving.errors import UsageError
from serving.whole import replace_whole

BLUE = "#1f6feb"
ACCENT = "#d4572a"
GREY = "#5b616b"
COLOURS = (BLUE, ACCENT, "#2a9d62", "#8250df", "#bf8700", "#57606a")


def shown(value: float | None) -> str:
    """Three digits that tell, in six places: 1.23, 12.34, 123.4, 1234.5; "-" for None."""
    return "-" if value is None else f"{value:.{1 if abs(value) >= 100 else 2}f}"


def to_csv(rows: Sequence[Any]) -> str:
    """A header and a line for each of these dataclass instances, at least one."""
    out = io.StringIO()
    writer = csv.DictWriter(out, list(asdict(rows[0])), lineterminator="\n")
    writer.writeheader()
    writer.writerows(asdict(row) for row in rows)
    return out.getvalue()


def to_markdown(head: Sequence[str], lines: Sequence[Sequence[str]], left: int = 1) -> str:
    """A table; the first `left` columns are text, the others numbers."""
    rule = ["---"] * left + ["---:"] * (len(head) - left)
    rows = [f"| {' | '.join(head)} |", f"|{'|'.join(rule)}|", *(f"| {' | '.join(line)} |" for line in lines)]
    return "\n".join([*rows, ""])


def to_table(title: str, head: Sequence[str], lines: Sequence[Sequence[str]], left: int = 1) -> Table:
    """The same for a terminal."""
    # Narrow: a dozen numbers are to fit into 80 columns.
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    for i, column in enumerate(head):
        table.add_column(column, justify="left" if i < left else "right", no_wrap=True)
    for line in lines:
        table.add_row(*line)
    return table


def bullets(notes: Sequence[str]) -> str:
    """A Markdown list."""
    return "".join(f"- {note}\n" for note in notes)


def style(axes: Axes) -> None:
    """A quiet frame and grid."""
    axes.set_axisbelow(True)
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)


def save_figure(figure: Figure, notes: Sequence[str], out: Path) -> None:
    """Write a figure as PNG, with what it depends on below it."""
    figure.supxlabel("\n".join(notes), fontsize=7.5, color=GREY, x=0.01, ha="left", wrap=True)
    replace_file(out, lambda path: figure.savefig(path, dpi=130, format="png"))


def write_json(content: dict[str, Any], out: Path) -> None:
    """Write an object as an indented JSON file."""
    write_text(json.dumps(content, indent=1) + "\n", out)


def write_text(text: str, out: Path) -> None:
    """Write a text file."""
    replace_file(out, lambda path: path.write_text(text))


def make_folder(out: Path) -> None:
    """Make the folder unless it is there. UsageError where that cannot be."""
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"{out}: cannot be made a folder ({error.strerror}); give another --out") from error


def replace_file(out: Path, write: Callable[[Path], object]) -> None:
    """Let `write` fill a file, whole or not at all.

    errors   UsageError: the place cannot be written
    """
    try:
        replace_whole(out, write)
    except OSError as error:
        raise UsageError(f"{out}: cannot be written ({error.strerror}); give another --out") from error


def write_report(
    name: str,
    rows: Sequence[Any],
    result: dict[str, Any],
    title: str,
    head: Sequence[str],
    lines: Sequence[Sequence[str]],
    plot: Callable[[Path], None],
    notes: Sequence[str],
    out: Path,
) -> None:
    """Write NAME.json, .csv, .md and .png into the folder `out`, and show the table.

    rows, result   dataclass instances, at least one, for the CSV; all that was measured, for the JSON
    head, lines    the table's;  notes: what the numbers depend on
    plot           draws the PNG
    """
    write_json(result, out / f"{name}.json")
    write_text(to_csv(rows), out / f"{name}.csv")
    write_text(f"{to_markdown(head, lines)}\n{bullets(notes)}", out / f"{name}.md")
    plot(out / f"{name}.png")
    written = f"written: {out}/{name}.json, {name}.csv, {name}.md, {name}.png"
    tell([to_table(title, head, lines)], [*notes, written])


def tell(tables: Sequence[Table], notes: Sequence[str]) -> None:
    """Show tables, and a line for each note, unbroken."""
    for table in tables:
        console.print(table)
    for line in notes:
        console.print(line, soft_wrap=True, highlight=False, markup=False)
