from __future__ import annotations

import numpy as np
import pytest

from convcast.metrics import formulas
from convcast.metrics.bootstrap import Bootstrap


def bootstrap(days, **changes):
    return Bootstrap(days, **({"resamples": 1000, "seed": 0, "confidence": 0.95} | changes))


def test_a_ratio_is_that_of_sums_not_of_days():
    assert bootstrap(2).estimate(formulas.ratio, [1.0, 9.0], [1.0, 3.0]).value == pytest.approx(10 / 4)


def test_the_same_seed_gives_the_same_interval():
    sums = np.random.default_rng(0).random(30), np.ones(30)
    assert bootstrap(30).estimate(formulas.ratio, *sums) == bootstrap(30).estimate(formulas.ratio, *sums)


def test_an_interval_of_a_mean_is_as_wide_as_theory_says():
    days = np.random.default_rng(1).standard_normal(400)
    found = bootstrap(400, resamples=4000).estimate(formulas.ratio, days, np.ones(400))
    assert found.high - found.low == pytest.approx(2 * 1.96 * days.std() / 20, rel=0.06)


def test_a_paired_difference_sees_what_two_intervals_hide():
    generator = np.random.default_rng(2)
    weather = generator.normal(10, 5, 40)
    ours, theirs, ones = weather, weather + generator.normal(0.5, 0.5, 40), np.ones(40)
    draws = bootstrap(40)
    alone = [draws.estimate(formulas.ratio, losses, ones) for losses in (ours, theirs)]
    assert alone[0].high > alone[1].low
    assert draws.estimate(formulas.ratio, ours - theirs, ones).high < 0


def test_hours_of_a_day_are_no_independent_evidence():
    days = np.random.default_rng(3).standard_normal(50)
    found = bootstrap(50).estimate(formulas.ratio, 24 * days, np.full(50, 24.0))
    expected = bootstrap(50).estimate(formulas.ratio, days, np.ones(50))
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))


def test_one_day_has_no_interval():
    found = bootstrap(1).estimate(formulas.ratio, [2.0], [1.0])
    assert found.value == 2.0
    assert np.isnan([found.low, found.high]).all()


@pytest.mark.parametrize("days", [3, 8, 60])
def test_events_on_a_single_day_give_no_interval(days):
    forecast, observed = np.full(days, 5.0), np.zeros(days)

    observed[0] = 10
    single = bootstrap(days).estimate(formulas.ratio, forecast, observed)
    observed[1] = 40
    two = bootstrap(days).estimate(formulas.ratio, forecast, observed)

    assert single.value == days / 2
    assert np.isnan([single.low, single.high]).all()
    assert two.low < two.value < two.high


@pytest.mark.parametrize(("days", "few"), [(19, True), (20, False)])
def test_few_days_are_called_so(days, few):
    assert bootstrap(days).few_days is few
