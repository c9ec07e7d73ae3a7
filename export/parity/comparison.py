"""Compare the embeddings of two models row by row. The worst row decides.

A cosine over the flattened batch hides a wrong row: if one of 1000 clips has the wrong sign, that cosine is still
0.998, but the cosine of the wrong row is -1. NaN, a row of zeros on one side only, and an empty comparison all fail.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from serving.backends.probe_check import MAX_ALLOWANCE, ROUNDING_FACTOR
from serving.cosine import row_cosines

NEIGHBOURS = 5  # nearest recordings that are compared for each recording


@dataclass(frozen=True)
class Bound:
    """The limits that a candidate must meet.

    cosine       minimum over all rows
    difference   maximum |difference| over all elements
    ranking      minimum share of recordings that have the same best-ranked class as the reference
    """

    cosine: float
    difference: float
    ranking: float


# By precision, for embeddings with a mean length of 1 on the training clips.
# fp32: the only cause of differences is the order of summation.
# fp16, int8: the largest differences measured were 8.3e-4 and 0.28, both with yamnet.
BOUNDS = {
    "fp32": Bound(cosine=0.99999, difference=1e-4, ranking=0.99),
    "fp16": Bound(cosine=0.999, difference=1e-2, ranking=0.99),
    "int8": Bound(cosine=0.985, difference=1.0, ranking=0.97),
}


@dataclass(frozen=True)
class Comparison:
    """The result of comparing n rows.

    worst_cosine, worst_cosine_row             the smallest cosine and the name of its row
    worst_difference, worst_difference_row     the largest |difference| and the name of its row
    excused                                    rows over the bound but within their allowance for rounding
    faults                                     one line for each limit that is not met
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
        """Whether all limits are met. An empty comparison has a fault."""
        return not self.faults


def excused_rows(results: Iterable[Comparison]) -> list[str]:
    """The sorted names of all rows that needed the rounding allowance in at least one comparison."""
    return sorted({name for result in results for name in result.excused})


def compare_rows(
    names: list[str],
    reference: NDArray[np.floating],
    candidate: NDArray[np.floating],
    bound: Bound,
    rounding: Callable[[int], float] | None = None,
) -> Comparison:
    """Compare embeddings row by row.

    names                 names of the n rows
    reference, candidate  [n, size]
    rounding              row index -> largest |FP32 - FP64| of the reference in that row; called only for rows over
                          the bound, which may differ by ROUNDING_FACTOR times this value, as when a backend opens the
                          bundle (serving.backends.probe_check has the reason)
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
    # argmin and argmax must select a row with NaN as the worst row.
    low = int(np.nan_to_num(cosines, nan=-2.0).argmin())
    allowed = np.full(len(names), bound.difference)
    if rounding is not None:
        for i in np.flatnonzero(differences > bound.difference).tolist():
            allowed[i] = np.clip(ROUNDING_FACTOR * rounding(i), bound.difference, MAX_ALLOWANCE)
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
    """The share of each row's NEIGHBOURS nearest rows (by cosine) that are the same in the candidate.

    reference, candidate   [n, size]
    returns                0 to 1; None if there are fewer than NEIGHBOURS + 2 rows
    """
    if len(reference) < NEIGHBOURS + 2:
        return None
    before, after = _nearest(reference), _nearest(candidate)
    return float(np.mean([len(set(a) & set(b)) / NEIGHBOURS for a, b in zip(before, after, strict=True)]))


def _nearest(rows: NDArray[np.floating]) -> list[list[int]]:
    """The indices of the NEIGHBOURS nearest other rows of each row."""
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    unit = rows / np.maximum(lengths, np.finfo(np.float32).tiny)
    similarity = unit @ unit.T  # [n, n]
    np.fill_diagonal(similarity, -np.inf)
    return np.argsort(-similarity, axis=1, kind="stable")[:, :NEIGHBOURS].tolist()
