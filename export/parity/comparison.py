"""Whether two models are the same: their embeddings compared row by row, and the worst row decides. It fails closed.

A mean or a cosine over the flattened batch hides a wrong row: one clip of 1000 with its sign flipped still gives
0.998 there, and -1 here. NaN, a row of zeros on one side only, and an empty comparison all fail.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from serving.agreement import row_cosines

NEIGHBOURS = 5  # of each recording, to see how many of them a candidate keeps


@dataclass(frozen=True)
class Bound:
    """What a candidate must hold.

    cosine       the least of any row
    difference   the largest |difference| of any number
    ranking      the least share of recordings whose best-ranked class is the reference's
    """

    cosine: float
    difference: float
    ranking: float


# By precision; embeddings have a mean length of 1 on the training clips.
# fp32: differences come from the order of summation alone. The numbers are the contract's, the differences of fp16
# and int8 excepted: up to 8.3e-4 and 0.28 were measured, both in yamnet.
BOUNDS = {
    "fp32": Bound(cosine=0.99999, difference=1e-4, ranking=0.99),
    "fp16": Bound(cosine=0.999, difference=1e-2, ranking=0.99),
    "int8": Bound(cosine=0.985, difference=1.0, ranking=0.97),
}

# A full-scale tone leaves most DFT bins nearly empty, so that FP32 rounding shows in the log (1.5e-4 of a log-mel)
# and a network can pass on as much as 1e-4 of it. Where PyTorch's own FP32 differs from its FP64 on a row, another
# FP32 runtime may differ by a few times that: the ratio measured between ONNX Runtime and PyTorch was 0.3 to 2.3.
# The allowance ends at MAX_EXCUSE times the bound, and every row that needs it is named in the result.
ROUNDING_FACTOR = 4.0
MAX_EXCUSE = 3.0


@dataclass(frozen=True)
class Comparison:
    """The outcome over n rows.

    worst_cosine, worst_cosine_row    the least cosine and the name of its row
    worst_difference, ..._row         the largest |difference| and the name of its row
    excused                           rows over the bound, but within the allowance for their own rounding
    faults                            one line for each broken rule; empty when the models agree
    """

    rows: int
    worst_cosine: float
    worst_cosine_row: str
    worst_difference: float
    worst_difference_row: str
    excused: tuple[str, ...]
    faults: tuple[str, ...]

    @property
    def passed(self) -> bool:
        """True when nothing was found, over at least one row."""
        return not self.faults


def excused_rows(results: Iterable[Comparison]) -> list[str]:
    """Names of the rows that needed the allowance in any comparison, each once."""
    return sorted({name for result in results for name in result.excused})


def compare(
    names: list[str],
    reference: NDArray[np.floating],
    candidate: NDArray[np.floating],
    bound: Bound,
    rounding: Callable[[int], float] | None = None,
) -> Comparison:
    """Compare embeddings row by row.

    names                 of the n rows
    reference, candidate  [n, size]
    rounding              of a row's number, the largest |difference| of the reference from the same in FP64; asked for
                          rows over the bound: one may differ by ROUNDING_FACTOR times this, up to MAX_EXCUSE bounds
    """
    if not names or reference.shape != candidate.shape or len(names) != len(reference):
        fault = f"nothing to compare: {len(names)} names, shapes {reference.shape} and {candidate.shape}"
        return Comparison(len(names), float("nan"), "", float("nan"), "", (), (fault,))
    faults = []
    for side, rows in (("reference", reference), ("candidate", candidate)):
        bad = ~np.isfinite(rows).all(axis=1)
        if bad.any():
            faults.append(f"{names[int(bad.argmax())]}: the {side} has NaN or infinite numbers ({bad.sum()} rows)")
    cosines = row_cosines(reference, candidate)
    differences = np.abs(reference.astype(np.float64) - candidate).max(axis=1)
    # A NaN must come out as the worst row, not as none.
    low = int(np.nan_to_num(cosines, nan=-2.0).argmin())
    allowed = np.full(len(names), bound.difference)
    if rounding is not None:
        for i in np.flatnonzero(differences > bound.difference).tolist():
            allowed[i] = np.clip(ROUNDING_FACTOR * rounding(i), bound.difference, MAX_EXCUSE * bound.difference)
    far = int(np.nan_to_num(differences, nan=np.inf).argmax())
    over = int(np.nan_to_num(differences / allowed, nan=np.inf).argmax())
    if not cosines[low] >= bound.cosine:
        faults.append(f"{names[low]}: cosine {cosines[low]:.7f}, wanted at least {bound.cosine}")
    if not differences[over] <= allowed[over]:
        faults.append(f"{names[over]}: |difference| {differences[over]:.3g}, wanted at most {allowed[over]:.3g}")
    excused = tuple(names[i] for i in np.flatnonzero((differences > bound.difference) & (differences <= allowed)))
    return Comparison(
        rows=len(names),
        worst_cosine=float(cosines[low]),
        worst_cosine_row=names[low],
        worst_difference=float(differences[far]),
        worst_difference_row=names[far],
        excused=excused,
        faults=tuple(faults),
    )


def neighbours_kept(reference: NDArray[np.floating], candidate: NDArray[np.floating]) -> float | None:
    """Retrieval agreement: the share of each row's NEIGHBOURS nearest others, by cosine, that the candidate keeps.

    reference, candidate   [n, size]
    returns                0 to 1; None where there are too few rows for the neighbours to be a choice
    """
    if len(reference) < NEIGHBOURS + 2:
        return None
    before, after = _nearest(reference), _nearest(candidate)
    return float(np.mean([len(set(a) & set(b)) / NEIGHBOURS for a, b in zip(before, after, strict=True)]))


def _nearest(rows: NDArray[np.floating]) -> list[list[int]]:
    """The NEIGHBOURS nearest other rows of each row."""
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    unit = rows / np.maximum(lengths, np.finfo(np.float32).tiny)
    similarity = unit @ unit.T  # [n, n]
    np.fill_diagonal(similarity, -np.inf)
    return np.argsort(-similarity, axis=1, kind="stable")[:, :NEIGHBOURS].tolist()
