"""What a bundle keeps of its proofs: parity.json, and the table of the model card."""

from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

from rich.table import Table

from export.parity.comparison import BOUNDS, MAX_EXCUSE, ROUNDING_FACTOR
from export.parity.judge import Judge, Proof

PARITY = "parity.json"


def worst_of_each(proofs: Iterable[Proof]) -> list[Proof]:
    """For each backend and precision, the proof of the batch size with the least cosine."""
    worst: dict[tuple[str, str], Proof] = {}
    for proof in proofs:
        key = (proof.backend, proof.precision)
        if key not in worst or not proof.comparison.worst_cosine >= worst[key].comparison.worst_cosine:
            worst[key] = proof
    return list(worst.values())


def parity_record(judge: Judge, proofs: Iterable[Proof]) -> dict[str, Any]:
    """The content of parity.json."""
    samples = judge.samples
    return {
        "reference": judge.reference.name,
        "rows": {"probes": samples.n_probes, "recordings": len(samples.counts), "windows": len(samples.windows)},
        "bounds": {name: asdict(bound) for name, bound in BOUNDS.items()},
        "allowance": {"or_rounding_times": ROUNDING_FACTOR, "at_most_bounds": MAX_EXCUSE},
        "results": [proof.record() for proof in proofs],
    }


COLUMNS = ("runtime", "worst cosine", "worst |difference|", "worst row", "ranking", "neighbours", "accuracy")


def cells(proof: Proof) -> tuple[str, ...]:
    """The row of a proof, in the order of COLUMNS."""
    result = proof.comparison
    accuracy = "-"
    if proof.accuracy is not None and proof.reference_accuracy is not None:
        accuracy = f"{proof.accuracy:.1%} ({100 * (proof.accuracy - proof.reference_accuracy):+.1f})"
    return (
        f"{proof.backend}, {proof.precision}",
        f"{result.worst_cosine:.7f}",
        f"{result.worst_difference:.1e}",
        result.worst_cosine_row,
        *("-" if share is None else f"{share:.1%}" for share in (proof.ranking, proof.neighbours)),
        accuracy,
    )


def proof_table(judge: Judge, proofs: Iterable[Proof]) -> Table:
    """For people: the worst batch size of each backend and precision."""
    grid = Table(title=f"parity with {judge.reference.name}", title_justify="left")
    for column in COLUMNS:
        text = column in ("runtime", "worst row")
        grid.add_column(column, justify="left" if text else "right", overflow="fold")
    for proof in worst_of_each(proofs):
        grid.add_row(*cells(proof), style="red" if proof.faults else "")
    return grid


def markdown(proofs: Iterable[Proof]) -> str:
    """For the model card: the worst batch size of each backend and precision."""
    rows = [[cell.replace("|", r"\|") for cell in line] for line in (COLUMNS, *map(cells, worst_of_each(proofs)))]
    lines = [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join([lines[0], "|---" * len(COLUMNS) + "|", *lines[1:]])
