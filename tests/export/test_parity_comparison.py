"""Embeddings are compared row by row, and the comparison fails closed."""

from dataclasses import replace

import numpy as np
import pytest

from export.parity.comparison import BOUNDS, NEIGHBOURS, Bound, Comparison, compare_rows, neighbours_kept
from export.parity.judge import Judge, ParityResult, Reference, run_in_batches
from export.parity.parity_report import worst_of_each
from export.parity.samples import SampledRecording, Samples
from serving.log_mel import LogMelConfig
from serving.probes import probe_windows
from serving.zeroshot import ZeroShot

ROWS = np.random.default_rng(0).standard_normal((1000, 128)).astype(np.float32)
NAMES = [f"row {i}" for i in range(len(ROWS))]


def test_equal_rows_pass():
    assert compare_rows(NAMES, ROWS, ROWS.copy(), BOUNDS["fp32"]).passed


def plant(kind: str) -> np.ndarray:
    rows = ROWS.copy()
    match kind:
        case "sign":
            rows[617] *= -1
        case "nan":
            rows[617, 3] = np.nan
        case "infinite":
            rows[617, 3] = np.inf
        case "zero":
            rows[617] = 0
        case "small":
            rows[617, 3] += 2e-4
        case "swapped":
            rows[[617, 618]] = rows[[618, 617]]
    return rows


@pytest.mark.parametrize("kind", ["sign", "nan", "infinite", "zero", "small", "swapped"])
def test_one_wrong_row_in_a_thousand_fails_and_is_named(kind):
    result = compare_rows(NAMES, ROWS, plant(kind), BOUNDS["fp32"])
    assert not result.passed
    assert any("row 617" in fault for fault in result.faults)
    assert not compare_rows(NAMES, plant(kind), ROWS, BOUNDS["fp32"]).passed


def test_the_table_shows_the_batch_that_failed_and_the_largest_difference():
    bound = Bound(cosine=0.9, difference=1e-4, ranking=0.99)

    def result(batch: int, cosine: float, difference: float, backend: str = "openvino") -> ParityResult:
        faults = ("a: |difference|",) if difference > bound.difference else ()
        comparison = Comparison(3, cosine, "a", difference, f"of {batch}", (), faults)
        return ParityResult(backend, "fp32", batch, comparison, 1.0, 1.0, None, None, faults)

    hidden = [result(1, 0.999995, 2e-5), result(8, 0.999999, 5e-3), result(2, 0.999990, 1e-5)]
    (worst,) = worst_of_each(hidden)
    assert (worst.batch, bool(worst.faults), worst.comparison.worst_difference) == (8, True, 5e-3)
    passed = [result(1, 0.99999, 1e-5), result(8, 0.999999, 5e-5), result(1, 0.5, 0.0, "onnxruntime")]
    first, second = worst_of_each(passed)
    assert (first.batch, first.comparison.worst_cosine, second.backend) == (1, 0.99999, "onnxruntime")
    assert (first.comparison.worst_difference, first.comparison.worst_difference_row) == (5e-5, "of 8")
    broken = [result(1, 0.5, 1.0), result(2, float("nan"), float("nan"))]
    broken[1] = replace(broken[1], faults=("NaN",))
    (worst,) = worst_of_each(broken)
    assert worst.batch == 2
    assert np.isnan(worst.comparison.worst_difference)


def test_a_flipped_row_has_cosine_minus_one():
    result = compare_rows(NAMES, ROWS, plant("sign"), BOUNDS["fp32"])
    assert result.worst_cosine == pytest.approx(-1)
    assert result.worst_cosine_row == "row 617"


def test_a_row_may_differ_by_a_few_times_its_own_rounding_and_no_more():
    rounding = np.zeros(len(ROWS))
    rounding[617] = 1e-4
    assert compare_rows(NAMES, ROWS, plant("small"), BOUNDS["fp32"], rounding.__getitem__).passed  # 2e-4
    assert not compare_rows(NAMES, ROWS, plant("small"), BOUNDS["fp32"], (0.1 * rounding).__getitem__).passed
    assert not compare_rows(NAMES, ROWS, plant("sign"), BOUNDS["fp32"], rounding.__getitem__).passed
    assert compare_rows(NAMES, ROWS, plant("small"), BOUNDS["fp32"], rounding.__getitem__).excused == ("row 617",)
    far = ROWS.copy()
    far[617, 3] += 1.2e-3  # beyond what any rounding excuses
    assert not compare_rows(NAMES, ROWS, far, BOUNDS["fp32"], (100 * rounding).__getitem__).passed


def test_nan_on_both_sides_fails():
    assert not compare_rows(NAMES, plant("nan"), plant("nan"), Bound(-1, np.inf, 0)).passed


def test_an_empty_comparison_fails():
    assert not compare_rows([], ROWS[:0], ROWS[:0], BOUNDS["fp32"]).passed


def test_rows_of_another_count_fail():
    assert not compare_rows(NAMES, ROWS, ROWS[:999], BOUNDS["fp32"]).passed


def test_zero_rows_fail_even_against_zero_rows():
    zero = np.zeros((1, 128), np.float32)
    assert not compare_rows(["a"], zero, zero, BOUNDS["fp32"]).passed
    assert not compare_rows(["a"], zero, ROWS[:1], BOUNDS["fp32"]).passed


def test_the_probes_cover_silence_tones_noise_and_full_scale():
    window = LogMelConfig().network_window(480)
    names, windows = probe_windows(window)
    assert windows.shape == (len(names), window.samples)
    assert not windows[names.index("silence")].any()
    assert np.abs(windows).max() == 1.0
    assert len(names) == len(set(names))


def test_neighbours_are_kept_by_a_rotation_and_lost_by_noise():
    rng = np.random.default_rng(0)
    rotation, _ = np.linalg.qr(rng.standard_normal((128, 128)))
    assert neighbours_kept(ROWS, ROWS @ rotation) == 1.0
    noise = rng.standard_normal(ROWS.shape).astype(np.float32)
    kept = neighbours_kept(ROWS, noise)
    assert kept is not None
    assert kept < 0.05
    assert neighbours_kept(ROWS[: NEIGHBOURS + 1], ROWS[: NEIGHBOURS + 1]) is None  # every other row is a neighbour


def judge_of(rows: np.ndarray) -> Judge:
    """Rows that are recordings of one window each, ranked among 8 classes along the first axes."""
    names = [f"row {i}" for i in range(len(rows))]
    windows = np.arange(len(rows), dtype=np.float32)[:, None]
    samples = Samples(names, windows, 0, [SampledRecording(1, [0], [0.0])] * len(rows), [])
    axes = np.eye(8, 128, dtype=np.float32)
    zeroshot = ZeroShot(
        np.zeros(128, np.float32), np.eye(128, dtype=np.float32), list("abcdefgh"), axes, np.ones(8, bool), 1.0
    )
    return Judge(samples, Reference("rows", rows, None), zeroshot)


def test_a_ranking_that_changes_fails_although_every_row_is_near_enough():
    # Two classes almost tie: a step too small for the cosine's bound changes which of them is first.
    rows = np.zeros((100, 128), np.float32)
    rows[:, :8] = 1.0
    rows[:, 0] += 1e-3
    other = rows.copy()
    other[:5, 1] += 2e-3
    result = judge_of(rows).judge(lambda batch: other[batch[:, 0].astype(int)], "fake", "int8", 1)
    assert result.comparison.passed
    assert result.ranking == 0.95
    assert any("95.0%" in fault for fault in result.faults)


@pytest.mark.parametrize("batch", [1, 2, 3, 8])
def test_every_call_has_exactly_the_asked_rows_and_no_row_is_lost(batch):
    sizes = []

    def runtime(rows: np.ndarray) -> np.ndarray:
        sizes.append(len(rows))
        return rows * 2

    windows = np.arange(10, dtype=np.float32)[:, None]
    np.testing.assert_array_equal(run_in_batches(runtime, windows, batch), windows * 2)
    assert set(sizes) == {batch}
