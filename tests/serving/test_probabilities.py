"""Probabilities of scores, and how well they are calibrated."""

import numpy as np
import pytest

from serving.zeroshot.probabilities import expected_calibration_error, softmax


def test_probabilities_sum_to_one_also_where_the_scores_are_too_large_for_exp():
    shares = softmax(np.array([[1e4, 1e4 - np.log(3)], [-1e4, -1e4]], np.float32))
    np.testing.assert_allclose(shares, [[0.75, 0.25], [0.5, 0.5]], atol=1e-3)  # float32 has steps of 1e-3 at 1e4


def test_the_calibration_error_is_the_gap_between_probability_and_accuracy():
    right = np.arange(100) < 60
    assert expected_calibration_error(np.full(100, 0.95), right) == pytest.approx(0.35)
    assert expected_calibration_error(np.full(100, 0.6), right) == pytest.approx(0.0)
    two_bins = np.r_[np.full(50, 0.25), np.full(50, 0.85)]  # right: 0 of the first, 50 of the second
    assert expected_calibration_error(two_bins, np.arange(100) >= 50) == pytest.approx(0.5 * 0.25 + 0.5 * 0.15)


def test_answers_that_are_as_often_right_as_they_are_sure_have_no_calibration_error():
    sure = np.array([0.65] * 20 + [0.95] * 20)
    right = np.array([True] * 13 + [False] * 7 + [True] * 19 + [False])
    assert expected_calibration_error(sure, right) == pytest.approx(0.0)
    assert expected_calibration_error(sure, ~right) == pytest.approx((0.3 + 0.9) / 2)
