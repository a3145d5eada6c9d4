from __future__ import annotations

import numpy as np
import pytest
from scipy.special import ndtr

from convcast.dataset.normal_scores import LEVELS, SHARE_OF_NONE, NormalScores


def echoes(count=200_000):
    """Reflectivities with a sharp upper end, dBZ."""
    return 60 * np.random.default_rng(0).beta(2, 3, count) - 9


@pytest.fixture(scope="module")
def scores():
    return NormalScores.of(np.quantile(echoes(), LEVELS))


def test_there_and_back_is_the_value(scores):
    values = np.linspace(scores.values[0], scores.values[-1] + 15, 500)
    np.testing.assert_allclose(scores.inverse(scores.forward(values)), values, atol=1e-9)


def test_back_and_there_is_the_score(scores):
    normal = np.linspace(scores.weakest, scores.scores[-1] + 2, 500)
    np.testing.assert_allclose(scores.forward(scores.inverse(normal)), normal, atol=1e-9)


def test_scores_are_those_of_the_upper_end_of_a_normal_distribution(scores):
    """The scores are those with SHARE_OF_NONE of all values below the quantiles."""
    values = echoes()
    probability = ndtr(scores.forward(values))
    for level in (0.1, 0.5, 0.9, 0.99):
        expected = SHARE_OF_NONE + (1 - SHARE_OF_NONE) * level
        assert np.quantile(probability, level) == pytest.approx(expected, abs=1e-3)


def test_the_map_increases_strictly_and_beyond_the_highest_quantile(scores):
    values = np.linspace(scores.values[0], scores.values[-1] + 30, 5000)
    assert (np.diff(scores.forward(values)) > 0).all()


def test_the_map_goes_on_beyond_the_highest_quantile_as_steeply_as_before_it(scores):
    highest = scores.values[-1]
    beyond = scores.forward(np.array([highest, highest + 1, highest + 11]))
    assert beyond[2] - beyond[1] == pytest.approx(10 * (beyond[1] - beyond[0]))
    before = (scores.scores[-1] - scores.scores[-12]) / (highest - scores.values[-12])
    assert beyond[1] - beyond[0] == pytest.approx(before)


def test_below_the_weakest_all_is_the_weakest(scores):
    np.testing.assert_array_equal(scores.forward(np.array([-50.0, -10.0])), scores.weakest)
    np.testing.assert_array_equal(scores.inverse(np.array([-9.0, scores.weakest - 0.1])), scores.values[0])


def test_missing_values_stay_missing(scores):
    assert np.isnan(scores.forward(np.array([np.nan, 20.0]))).tolist() == [True, False]


def test_values_that_repeat_have_scores_that_differ():
    """Packed values: many quantiles are the same number."""
    packed = np.round(echoes() / 8) * 8
    scores = NormalScores.of(np.quantile(packed, LEVELS, method="inverted_cdf"))
    assert (np.diff(scores.values) > 0).all()
    assert (np.diff(scores.scores) > 0).all()
    values = np.unique(packed)
    np.testing.assert_allclose(scores.inverse(scores.forward(values)), values, atol=0.02)


def test_a_field_that_is_none_everywhere_has_finite_scores():
    scores = NormalScores.of(np.full(len(LEVELS), -10.0))
    assert np.isfinite(scores.forward(np.array([-10.0, 0.0, 85.0]))).all()
    np.testing.assert_allclose(scores.inverse(scores.forward(np.array([-10.0, 0.0]))), [-10, 0], atol=1e-6)
