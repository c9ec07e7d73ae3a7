"""The page of the GPU's measurements: tables in Markdown, with plots where matplotlib is installed."""

import platform
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.gpu.scaling import measured_parts, scaling_tables


def write_page(
    path: Path, gpus: Sequence[str], outcomes: Sequence[dict[str, Any]], device: str = "cuda", quick: bool = False
) -> None:
    """Write the page into a folder that exists, and a PNG beside it for each table that has a plot.

    outcomes   as `benchmarks.gpu.__main__.Outcome`, as dicts
    device     on which the pieces ran: cuda or cpu
    quick      they had few repeats and small batches
    """
    lines = ["# What a GPU gives", ""]
    lines += [f"Measured by `make gpu` on {time.strftime('%Y-%m-%d')}. {_machine(gpus)}", ""]
    if device == "cpu":
        lines += ["**Run on the CPU, to try the program: nothing here is a number of a GPU.**", ""]
    if quick:
        lines += ["**Run with --quick, to try the program: few repeats and small batches.**", ""]
    tables = [table for outcome in outcomes for table in outcome["tables"]]
    pictures = 0
    for outcome in outcomes:
        for table in outcome["tables"]:
            lines += table_lines(table)
            if table.get("plot") and (picture := _draw(table["plot"], path, pictures + 1)):
                pictures += 1
                lines += [f"![{table['plot']['title']}]({picture.name})", ""]
        if outcome["error_lines"]:
            lines += [f"{outcome['title']}: {outcome['error_lines']} lines of cuDNN or ONNX Runtime on stderr.", ""]
    for table in scaling_tables(measured_parts(tables if device == "cuda" else [])):
        lines += table_lines(table)
    lines += ["## The pieces", "", "| piece | seconds | |", "|---|---|---|"]
    lines += [f"| {each['title']} | {each['seconds']:g} | {_cell(each['why'] or 'done')} |" for each in outcomes]
    new = path.with_name(f".{path.name}.new")
    new.write_text("\n".join(lines) + "\n")
    new.replace(path)


def table_lines(table: dict[str, Any]) -> list[str]:
    """A table under its title, as lines of Markdown."""
    rows = ["| " + " | ".join(map(_cell, row)) + " |" for row in table["rows"]]
    head = ["| " + " | ".join(map(_cell, table["head"])) + " |", "|" + "---|" * len(table["head"])]
    notes = [f"{'; '.join(table['notes'])}.", ""] if table.get("notes") else []
    return [f"## {table['title']}", "", *notes, *head, *rows, ""]


def _cell(text: object) -> str:
    return str(text).replace("|", "/").replace("\n", " ")


def _machine(gpus: Sequence[str]) -> str:
    names = [line.split(":", 1)[1].strip() for line in _read("/proc/cpuinfo") if line.startswith("model name")]
    cpu = f"{len(names)} logical CPUs, {names[0]}" if names else platform.processor()
    return f"GPU: {'; '.join(gpus) or 'none here'}. CPU: {cpu}. Python {platform.python_version()}{_versions()}."


def _read(path: str) -> list[str]:
    try:
        return Path(path).read_text().splitlines()
    except OSError:
        return []


def _versions() -> str:
    from importlib.metadata import PackageNotFoundError, version

    found = []
    for package in ("onnxruntime-gpu", "onnxruntime", "torch", "tensorrt", "tensorrt-rtx", "cuda-bindings", "numpy"):
        try:
            found.append(f", {package} {version(package)}")
        except PackageNotFoundError:
            continue
    return "".join(found)


def _draw(plot: dict[str, Any], page: Path, index: int) -> Path | None:
    """Draw a plot beside the page. None: there is no matplotlib, or nothing to draw."""
    try:
        import matplotlib

        matplotlib.use("agg")
        from matplotlib import pyplot
    except ImportError:
        return None
    if not plot["lines"]:
        return None
    figure, axes = pyplot.subplots(figsize=(8, 0.4 * len(plot["lines"]) + 1.5 if plot["bars"] else 4.5))
    if plot["bars"]:
        axes.barh(list(plot["lines"]), [points[0][1] for points in plot["lines"].values()])
        axes.invert_yaxis()
        axes.set_xlabel(plot["y"])
    else:
        for label, points in plot["lines"].items():
            axes.plot([x for x, _ in points], [y for _, y in points], marker="o", label=label)
        axes.set(xscale="log", yscale="log", xlabel=plot["x"], ylabel=plot["y"])
        axes.legend(fontsize=7)
    axes.set_title(plot["title"])
    path = page.with_name(f"{page.stem}-{index}.png")
    figure.savefig(path, dpi=90, bbox_inches="tight")
    pyplot.close(figure)
    return path
