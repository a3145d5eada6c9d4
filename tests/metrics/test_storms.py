"""Storms are areas of strong echo, found, measured and matched as by hand."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter, label

from convcast.metrics.scores import FIELD_SCORES
from convcast.metrics.scores.base import DailyFieldSums
from convcast.metrics.scores.storms import StormScores
from convcast.metrics.spatial import FieldCase, Scales
from convcast.metrics.storms import SIZES, SMALLEST, find_storms
from convcast.variables import REFC, T2M

SHAPE = 60, 80
SCALES = Scales((3,), periodic=False)


def field(*boxes, shape=SHAPE, echo=45.0):
    """Return a field with echo in boxes of (row, column, height, width), which may lie across the edges."""
    values = np.full(shape, -10.0, np.float32)
    for row, column, height, width in boxes:
        values[np.ix_(np.arange(row, row + height) % shape[0], np.arange(column, column + width) % shape[1])] = echo
    return values


def storms(*boxes, periodic=False):
    return find_storms(field(*boxes) >= 40, periodic=periodic)


def test_centres_and_sizes_of_storms():
    found = storms((10, 20, 3, 5), (40, 60, 4, 4), (30, 5, 2, 5))
    assert sorted(found.sizes.tolist()) == [15, 16]  # the third has 10 cells, too few
    assert sorted(map(tuple, found.centres.tolist())) == [(11.0, 22.0), (41.5, 61.5)]
    assert found.by_size().tolist() == [2, 0, 0, 0, 0]


def test_areas_that_touch_at_a_corner_are_one_storm():
    assert storms((10, 20, 3, 3), (13, 23, 3, 3)).sizes.tolist() == [18]


def test_storm_across_the_edges_is_one_where_the_domain_has_none():
    box = (58, 77, 5, 6)
    assert storms(box).sizes.tolist() == [] or len(storms(box)) != 1
    (centre,) = storms(box, periodic=True).centres
    np.testing.assert_allclose(centre, [0, 79.5], atol=1e-6)
    assert storms(box, periodic=True).sizes.tolist() == [30]


@pytest.mark.parametrize("density", [0.02, 0.3, 0.5, 0.7])
def test_areas_are_those_of_scipy(density):
    strong = np.random.default_rng(0).random(SHAPE) < density
    labels, _ = label(strong, structure=np.ones((3, 3)))
    sizes = np.bincount(labels.ravel())[1:]
    found = find_storms(strong, periodic=False)
    np.testing.assert_array_equal(found.sizes, sizes[sizes >= SMALLEST])


@pytest.mark.parametrize("density", [0.3, 0.5])
def test_areas_of_a_periodic_domain_do_not_depend_on_its_origin(density):
    strong = gaussian_filter(np.random.default_rng(1).random(SHAPE), 1, mode="wrap")
    strong = strong > np.quantile(strong, 1 - density)
    expected = sorted(find_storms(strong, periodic=True).sizes)
    for shift in ((1, 0), (0, 1), (30, 40), (59, 79)):
        assert sorted(find_storms(np.roll(strong, shift, (0, 1)), periodic=True).sizes) == expected


@pytest.mark.parametrize(("cells", "near"), [(13, True), (14, False)])
def test_storms_match_within_forty_kilometres(cells, near):
    one, other = storms((10, 10, 4, 4)), storms((10, 10 + cells, 4, 4))
    assert one.near(other).tolist() == [near]


def test_distance_goes_the_short_way_round():
    one, other = storms((10, 1, 4, 4), periodic=True), storms((10, 75, 4, 4), periodic=True)
    assert one.near(other).tolist() == [True]


def test_no_storms_match_nothing():
    assert storms().near(storms((1, 1, 4, 4))).tolist() == []
    assert storms((1, 1, 4, 4)).near(storms()).tolist() == [False]


def case(members, observed, around=(), present=None):
    members = np.stack(members)
    present = np.ones(SHAPE, bool) if present is None else present
    return FieldCase(members, observed, present, REFC, SCALES, around=around)


def values(*cases):
    score = StormScores()
    sums = [score.sums(one) for one in cases]
    daily = {name: np.stack([one[name] for one in sums]) for name in sums[0]}
    found = {}
    for value in score.values(DailyFieldSums(daily, REFC, SCALES, len(cases))):
        name = value.name + (f" {value.labels['from_km2']:g}" if "from_km2" in value.labels else "")
        found[name] = float(value.formula(*[part.sum(0) for part in value.sums]))
    return found


def test_storms_of_members_are_counted_and_matched():
    observed = field((10, 10, 4, 4), (40, 60, 10, 10))
    hit, near, empty = field((10, 12, 4, 4), (40, 60, 10, 10)), field((14, 10, 4, 4)), field()
    far = field((30, 40, 4, 4), (10, 10, 4, 4))
    scores = values(case([hit, near, empty, far], observed))
    assert scores["storms_matched"] == pytest.approx((2 + 1 + 0 + 1) / 8)
    assert scores["storms_confirmed"] == pytest.approx((2 + 1 + 0 + 1) / (2 + 1 + 0 + 2))
    assert scores["storm_count"] == pytest.approx(5 / 4)
    assert scores["storm_count_observed"] == 2
    numbers = np.array([2, 1, 0, 2])
    pairs = np.abs(numbers[:, None] - numbers).sum() / 2 / 12
    assert scores["storm_count_crps"] == pytest.approx(np.abs(numbers - 2).mean() - pairs)
    assert scores["storm_count_of_size 108"] == pytest.approx(4 / 4)
    assert scores["storm_count_of_size 864"] == pytest.approx(1 / 4)
    assert scores["storm_count_of_size_observed 864"] == 1
    assert "storms_matched_within_1h" not in scores


def test_storm_that_comes_an_hour_late_matches_within_an_hour():
    observed = field((10, 10, 4, 4))
    later = np.stack([field((10, 10, 4, 4)), field()]) >= 40
    scores = values(case([field(), field()], observed, around=(later,)), case([observed, observed], observed))
    assert scores["storms_matched"] == pytest.approx(0.5)
    assert scores["storms_matched_within_1h"] == pytest.approx(0.5)  # of the one case that has forecasts around it


def test_points_without_coverage_have_no_storms():
    present = np.ones(SHAPE, bool)
    present[:, :40] = False
    observed = field((10, 10, 4, 4), (40, 60, 4, 4))
    scores = values(case([observed, observed], observed, present=present))
    assert scores["storm_count"] == scores["storm_count_observed"] == 1


def test_other_fields_have_no_storms():
    score = next(score for score in FIELD_SCORES if isinstance(score, StormScores))
    one = FieldCase(np.full((2, *SHAPE), 290.0), np.full(SHAPE, 290.0), np.ones(SHAPE, bool), T2M, SCALES)
    sums = score.sums(one)
    assert not sums["storms"].any()
    assert sums["storm_sizes"].shape == (2, len(SIZES))
    assert list(score.values(DailyFieldSums({name: a[None] for name, a in sums.items()}, T2M, SCALES, 1))) == []
