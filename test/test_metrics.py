"""Depth metrics, with answers worked out by hand."""

import math

from dectrain_ros.depth.metrics import depth_metrics, recovery
import numpy as np
import pytest

NAN = float('nan')


def image(*rows):
    return np.array(rows, dtype=np.float32)


def test_the_true_depth_is_perfect():
    truth = image([1.0, 2.0], [3.0, 4.0])
    assert depth_metrics(truth, truth) == (1.0, 0.0, 0.0, 4)


def test_errors_follow_from_their_formulas():
    result = depth_metrics(image([1.2, 2.6, 1.5]), image([1.0, 2.0, 2.0]))
    assert result.delta1 == pytest.approx(1 / 3)                # ratios 1.2, 1.3, 1.33
    assert result.absrel == pytest.approx((0.2 + 0.3 + 0.25) / 3)
    assert result.rmse == pytest.approx(math.sqrt((0.04 + 0.36 + 0.25) / 3))
    assert result.pixels == 3


def test_a_ratio_of_exactly_1_25_is_wrong():
    assert depth_metrics(image([2.5, 2.0, 2.49]), image([2.0, 2.5, 2.0])).delta1 == (
        pytest.approx(1 / 3))


def test_nothing_is_rescaled():
    truth = image([1.0, 2.0], [3.0, 4.0])
    assert depth_metrics(2 * truth, truth).delta1 == 0.0
    assert depth_metrics(2 * truth, truth).absrel == 1.0


def test_only_ground_truth_within_range_counts():
    truth = image([NAN, 0.0, -1.0, 0.09, 0.1, 80.0, 80.1, np.inf])
    result = depth_metrics(np.full((1, 8), 80.0, np.float32), truth)
    assert result.pixels == 2 and result.delta1 == 0.5
    assert depth_metrics(truth, truth, min_depth_m=0.05, max_depth_m=100.0).pixels == 4


@pytest.mark.parametrize('nothing', [NAN, 0.0, -2.0, np.inf, -np.inf])
def test_a_missing_prediction_counts_as_wrong(nothing):
    result = depth_metrics(image([2.0, nothing]), image([2.0, 2.0]))
    assert result.pixels == 2 and result.delta1 == 0.5
    assert result.absrel == pytest.approx(0.5)                  # 0 and 1
    assert result.rmse == pytest.approx(math.sqrt(2.0))         # 0 m and 2 m


def test_without_ground_truth_there_is_no_metric():
    result = depth_metrics(np.ones((2, 2), np.float32), np.zeros((2, 2), np.float32))
    assert result.pixels == 0
    assert math.isnan(result.delta1) and math.isnan(result.absrel) and math.isnan(result.rmse)


def test_a_smaller_prediction_is_resized_with_pixel_centres_in_place():
    # Of 2 px stretched to 4, centres lie at -0.25, 0.25, 0.75, 1.25 of the old ones.
    result = depth_metrics(image([1.0, 2.0]), image([1.0, 1.25, 1.75, 2.0]))
    assert result.absrel == pytest.approx(0.0, abs=1e-6) and result.pixels == 4


def test_arrays_with_a_channel_are_refused():
    with pytest.raises(ValueError, match=r'prediction is \(1, 2, 2\) .* drop the channel'):
        depth_metrics(np.ones((1, 2, 2), np.float32), np.ones((2, 2), np.float32))


def test_recovery_is_the_share_of_the_gain_that_is_kept():
    assert recovery(0.65, 0.5, 0.7) == pytest.approx(0.75)
    assert recovery(0.25, 0.3, 0.2) == pytest.approx(0.5)       # also where less is better
    assert math.isnan(recovery(0.5, 0.6, 0.6))
