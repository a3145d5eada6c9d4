"""Rare strong echoes are corrected by what all echoes tell, and where nothing is wrong nothing is lost."""

from __future__ import annotations

import numpy as np
import pytest

from convcast.forecasts.calibration import MemberMap
from convcast.metrics.kernels import crps_points
from convcast.variables import REFC
from convcast.verification.learn_calibration import DrawnPoints, fit_maps
from convcast.verification.strong_echoes import Echoes, find_echoes, fit_certain_line, fit_line, with_line

MEMBERS = 10
FEW = 250
"""Points of a day: about ten of them exceed 50 dBZ."""
IDENTITY = MemberMap(1.0, 0.0, (-10.0, 10.0, 30.0), (-10.0, 10.0, 30.0), points=1)


def echoes(seed, points=FEW):
    """Members and a truth that is like one of them, of storms of very different strengths."""
    generator = np.random.default_rng(seed)
    centre = generator.gamma(4.0, 6.0, points)
    drawn = np.maximum(centre + 6 * generator.standard_normal((MEMBERS + 1, points)), -10)
    return drawn[1:], drawn[0]


def too_strong(members):
    return np.where(members > 0, 1.12 * members, members)


def bias(members, observed, threshold=50):
    return (members >= threshold).mean() / (observed >= threshold).mean()


def test_the_frequency_of_the_strongest_echoes_is_right_on_later_days_though_few_were_seen():
    later, truth = echoes(1000, 200_000)
    before = bias(too_strong(later), truth)
    assert before > 1.6
    after, seen = [], []
    for trial in range(20):
        days = [echoes(100 * trial + day) for day in range(5)]
        blocks = [[find_echoes(too_strong(members), observed)] for members, observed in days]
        fit = with_line(IDENTITY, fit_certain_line(blocks))
        after.append(bias(fit.to_observed(too_strong(later)), truth))
        seen.append(sum(int((observed >= 50).sum()) for _, observed in days))
    assert np.mean(seen) < 60
    assert np.mean(after) == pytest.approx(1, abs=0.1)
    assert np.std(after) < 0.25


def test_where_there_is_nothing_to_learn_the_crps_is_no_worse():
    later, truth = echoes(1002, 30_000)
    raw = crps_points(later, truth, "fair").mean()
    ratios, biases = [], []
    for trial in range(2):
        days = [echoes(5000 + 10 * trial + day) for day in range(5)]
        drawn = [{"all": DrawnPoints(m.astype(np.float32), o.astype(np.float32))} for m, o in days]
        inits = [np.datetime64("2024-05-01T00", "h") + 24 * day for day in range(5)]
        mapped = fit_maps(REFC, drawn, inits)["all"](later, later.mean(0), -10.0)
        ratios.append(crps_points(mapped, truth, "fair").mean() / raw)
        biases.append(bias(mapped, truth))
    assert np.mean(ratios) < 1.002
    assert np.mean(biases) == pytest.approx(1, abs=0.15)


def test_a_line_is_found_again():
    members, observed = echoes(7, 100_000)
    louder = np.where(members > 0, (members + 2) / 0.9, members)
    offset, slope = fit_line([find_echoes(louder, observed)])
    assert slope == pytest.approx(-0.1, abs=0.02)
    assert offset == pytest.approx(-0.1 * 40 - 2, abs=0.3)


def test_nothing_is_corrected_where_echoes_are_few_or_from_one_day():
    members, observed = echoes(8)
    assert not fit_line([find_echoes(too_strong(members)[:, :20], observed[:20])]).any()
    of_a_day = [find_echoes(too_strong(members), observed)]
    assert fit_line(of_a_day).any()
    assert not fit_certain_line([of_a_day]).any()
    none = Echoes(np.array([]), np.array([]), MEMBERS)
    assert not fit_line([none]).any()


def test_a_map_never_falls_where_the_line_begins():
    falling = MemberMap(1.0, 0.0, (-10.0, 0.0, 19.0, 40.0), (-10.0, 5.0, 25.0, 45.0), points=3)
    joined = with_line(falling, np.array([-14.0, -0.5]))
    values = joined.to_observed(np.linspace(-10, 85, 500))
    assert (np.diff(values) >= 0).all()
    np.testing.assert_allclose(joined.to_observed(np.array([-10.0, 0.0])), [-10, 5])
    assert joined.points == 3
