"""Write parity results: parity.json, the table on the terminal, and the table of the model card."""

from collections.abc import Iterable
from dataclasses import asdict, replace
from math import inf, isnan
from typing import Any

from rich.table import Table

from export.parity.comparison import BOUNDS
from export.parity.judge import Judge, ParityResult
from serving.backends.probe_check import MAX_ALLOWANCE, ROUNDING_FACTOR

COLUMNS = ("runtime", "worst cosine", "worst |difference|", "worst row", "ranking", "neighbours", "accuracy")


def worst_of_each(results: Iterable[ParityResult]) -> list[ParityResult]:
    """For each backend and precision, the worst batch size, with the largest difference of all of them.

    One that does not meet its limits is worse than one that does; among equals, the smallest cosine decides.
    """
    groups: dict[tuple[str, str], list[ParityResult]] = {}
    for result in results:
        groups.setdefault((result.backend, result.precision), []).append(result)
    return [_worst(group) for group in groups.values()]


def _worst(batches: list[ParityResult]) -> ParityResult:
    worst = min(batches, key=lambda each: (not each.faults, _or_worst(each.comparison.worst_cosine, -inf)))
    far = max((each.comparison for each in batches), key=lambda each: _or_worst(each.worst_difference, inf))
    comparison = replace(
        worst.comparison, worst_difference=far.worst_difference, worst_difference_row=far.worst_difference_row
    )
    return replace(worst, comparison=comparison)


def _or_worst(value: float, worst: float) -> float:
    return worst if isnan(value) else value  # NaN is worse than any number


def parity_record(judge: Judge, results: Iterable[ParityResult]) -> dict[str, Any]:
    """The content of parity.json."""
    samples = judge.samples
    return {
        "reference": judge.reference.name,
        "rows": {"probes": samples.n_probes, "recordings": len(samples.recordings), "windows": len(samples.windows)},
        "bounds": {name: asdict(bound) for name, bound in BOUNDS.items()},
        "allowance": {
            "or_rounding_times": ROUNDING_FACTOR,
            "at_most_bounds": round(MAX_ALLOWANCE / BOUNDS["fp32"].difference, 3),
        },
        "results": [result.as_json() for result in results],
    }


def cells(result: ParityResult) -> tuple[str, ...]:
    """The table row of a result, in the order of COLUMNS."""
    comparison = result.comparison
    accuracy = "-"
    if result.accuracy is not None and result.reference_accuracy is not None:
        accuracy = f"{result.accuracy:.1%} ({100 * (result.accuracy - result.reference_accuracy):+.1f})"
    return (
        f"{result.backend}, {result.precision}",
        f"{comparison.worst_cosine:.7f}",
        f"{comparison.worst_difference:.1e}",
        comparison.worst_cosine_row,
        *("-" if share is None else f"{share:.1%}" for share in (result.ranking, result.neighbours)),
        accuracy,
    )


def parity_table(judge: Judge, results: Iterable[ParityResult]) -> Table:
    """A table for the terminal: the worst batch size of each backend and precision."""
    grid = Table(title=f"parity with {judge.reference.name}", title_justify="left")
    for column in COLUMNS:
        text = column in ("runtime", "worst row")
        grid.add_column(column, justify="left" if text else "right", overflow="fold")
    for result in worst_of_each(results):
        grid.add_row(*cells(result), style="red" if result.faults else "")
    return grid


def parity_markdown(results: Iterable[ParityResult]) -> str:
    """The same table in Markdown, for the model card."""
    rows = [[cell.replace("|", r"\|") for cell in line] for line in (COLUMNS, *map(cells, worst_of_each(results)))]
    lines = [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join([lines[0], "|---" * len(COLUMNS) + "|", *lines[1:]])
