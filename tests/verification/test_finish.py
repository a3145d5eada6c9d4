from __future__ import annotations

import numpy as np
import pytest

from convcast.verification import finish


def test_fair_brier_score_does_not_depend_on_the_size_of_the_ensemble():
    generator = np.random.default_rng(0)
    chance = generator.uniform(0, 1, 400_000)
    event = generator.random(chance.size) < chance
    expected = (chance * (1 - chance)).mean()
    for members in (2, 5, 20):
        count = generator.binomial(members, chance)
        table = np.bincount(2 * count + event, minlength=2 * members + 2).reshape(-1, 2)
        assert float(finish.brier(table, fair=True)) == pytest.approx(expected, abs=0.002)


def test_plain_brier_score_is_the_mean_squared_error_of_probabilities():
    table = np.array([[3, 1], [0, 0], [1, 5]])
    expected = (1 * 1.0 + 1 * 1.0) / 10
    assert float(finish.brier(table, fair=False)) == pytest.approx(expected)


def test_correlation_of_a_constant_is_undefined():
    n, x, y = 3.0, np.full(3, 0.1), np.array([1.0, 2.0, 4.0])
    found = finish.correlation(n, x.sum(), y.sum(), (x**2).sum(), (y**2).sum(), (x * y).sum())
    assert np.isnan(found)


def test_a_ratio_over_nothing_is_undefined():
    np.testing.assert_array_equal([np.nan, 2.0], finish.ratio(np.array([0.0, 4.0]), np.array([0.0, 2.0])))
