from __future__ import annotations

import numpy as np
import pytest

from convcast.dataset.preprocessing.quality import compare_means, examine, field_means, find_collapsed, mask_collapsed
from convcast.variables import CAPE, CIN, D2M, FIELDS, REFC, T2M, U10

START = np.datetime64("2024-05-06T00", "h")


@pytest.fixture
def good(archive):
    """Fields (variable, y, x) in the order of FIELDS."""
    return np.stack(list(archive.weather(START).values()))


def checks_of(values, *, variables=tuple(FIELDS.values())):
    return [(f.check, f.field, f.rejects) for f in examine(values, variables)]


def jumps_of(values, before):
    return [(f.check, f.field, f.rejects) for f in compare_means(field_means(values, ALL), before, ALL)]


def test_good_weather_passes(good):
    assert checks_of(good) == []


@pytest.mark.parametrize(
    ("variable", "value", "check"),
    [
        (T2M, 22.0, "low"),  # Celsius
        (T2M, 331.0, "high"),
        (D2M, 170.0, "low"),
        (U10, -95.0, "low"),
        (CAPE, 8200.0, "high"),
        (CIN, 5.0, "high"),
        (REFC, -32.0, "low"),
    ],
)
def test_values_out_of_bounds_are_rejected(good, variable, value, check):
    good[list(FIELDS).index(variable.name), 3, 4] = value
    assert checks_of(good) == [(check, variable.name, True)]


def test_values_that_are_real_pass(good):
    good[list(FIELDS).index("d2m")] = 195.0 + good[list(FIELDS).index("d2m")] / 100  # the driest air there is
    good[list(FIELDS).index("cin"), 3, 4] = 0.09
    assert checks_of(good) == []


def test_a_few_missing_points_pass(good):
    wide = np.tile(good, (1, 2, 2))
    wide[1, 3, 4] = np.nan
    assert checks_of(wide) == []


def test_a_plateau_of_nan_is_rejected_with_its_share(good):
    good[1, :6, :16] = np.nan
    (finding,) = examine(good, tuple(FIELDS.values()))
    assert (finding.check, finding.figure) == ("missing", 0.125)
    assert str(finding) == "t2m is missing at 12.50% of the points (at most 0.1%)"


def test_more_missing_points_pass_where_they_may(good):
    good[1, :6, :16] = np.nan
    assert examine(good, tuple(FIELDS.values()), max_missing_points=0.2) == []


def test_nan_does_not_hide_a_value_out_of_bounds(good):
    wide = np.tile(good, (1, 2, 2))
    wide[1, 0, 0], wide[1, 5, 5] = np.nan, 20.0
    assert checks_of(wide) == [("low", "t2m", True)]


def test_constant_temperature_is_rejected_and_constant_reflectivity_is_not(good):
    good[1], good[0] = 300.0, -10.0
    assert checks_of(good) == [("constant", "t2m", True)]


def test_dewpoint_above_temperature_is_rejected(good):
    good[1], good[2] = good[2] - 2, good[1].copy()
    assert ("supersaturated", "d2m", True) in checks_of(good)


def test_dewpoint_above_temperature_at_a_point_passes(good):
    good[2, 3, 4] = good[1, 3, 4] + 3
    assert checks_of(good) == []


def test_jump_of_mean_temperature_is_rejected(good):
    assert jumps_of(good, {"t2m": 280.0}) == [("jump", "t2m", True)]


def test_jump_of_convection_is_a_warning(good):
    assert jumps_of(good, {"cape": 0.0}) == [("jump", "cape", False)]


def test_steady_weather_is_no_jump(good):
    before = {name: float(field.mean()) for name, field in zip(FIELDS, good, strict=True)}
    assert jumps_of(good, before) == []


def test_no_echo_over_the_continent_is_a_warning():
    silent = np.full((1, 800, 700), -10.0, np.float32)
    assert checks_of(silent, variables=(REFC,)) == [("silent", "refc", False)]
    assert checks_of(silent[:, :100, :100], variables=(REFC,)) == []


D2M_ROW = list(FIELDS).index("d2m")
ALL = tuple(FIELDS.values())
FLOOR = np.float32(192.12479)
"""Value of HRRR's analyses at scattered faulty points, K."""


def test_collapsed_dewpoints_are_masked_and_counted_and_reject_no_hour_of_a_small_domain(good):
    before = good.copy()
    where = ((0, 0), (3, 4), (3, 5), (10, 31), (23, 12))
    for at in where:
        good[D2M_ROW][at] = FLOOR
    (finding,) = masked = mask_collapsed(good, ALL)
    assert (finding.check, finding.field, finding.figure, finding.rejects) == ("collapsed", "d2m", 5, False)
    assert "5 points of d2m collapsed" in str(finding)
    assert sorted(map(tuple, np.argwhere(np.isnan(good[D2M_ROW])).tolist())) == sorted(where)
    assert examine(good, ALL, masked=masked) == []
    assert len(examine(good, ALL)) == 1, "5 of 768 points would be too many to be missing otherwise"
    there = ~np.isnan(good)
    np.testing.assert_array_equal(good[there], before[there])


def test_collapsed_points_of_a_whole_field_that_others_counted_are_few():
    field = np.full((1, 1059, 1799), 285, np.float32)
    points = np.random.default_rng(0).choice(field.size, 334, replace=False)
    field.reshape(-1)[points] = FLOOR
    masked = mask_collapsed(field, (D2M,))
    assert [(each.figure, each.rejects) for each in masked] == [(334, False)]


def test_an_hour_that_collapsed_at_too_many_points_is_rejected(good):
    good[D2M_ROW, ::5, ::5] = FLOOR
    (finding,) = mask_collapsed(good, ALL)
    assert (finding.figure, finding.rejects) == (35, True)


@pytest.mark.parametrize(
    "field",
    [
        np.full((24, 32), 195, np.float32),
        np.linspace(285, 195, 24 * 32, dtype=np.float32).reshape(24, 32),
        np.tile(np.linspace(290, 205, 32, dtype=np.float32), (24, 1)),
        np.where(np.arange(32) < 16, 290, 234).astype(np.float32) * np.ones((24, 1), np.float32),
        np.where(np.arange(32) < 16, 270, 228).astype(np.float32) * np.ones((24, 1), np.float32),
    ],
    ids=["everywhere", "slowly", "a gradient", "a dryline", "a front of very dry air"],
)
def test_air_that_is_dry_over_a_region_is_real(field):
    assert len(find_collapsed(field, D2M.collapse)) == 0


def test_only_points_far_below_their_surroundings_are_masked_in_a_real_field(shared_data):
    from convcast import grib

    path = shared_data / "hrrr" / "dpt2m_20260703t00z_f28_conus.grib2"
    (field,) = (message.decode() for message in grib.read_messages(path))
    before = field.copy()
    masked = mask_collapsed(field[None], (D2M,))
    assert [(each.figure, each.rejects) for each in masked] == [(4, False)]
    np.testing.assert_allclose(np.sort(before[np.isnan(field)]), [192.1, 193.2, 193.5, 225.4], atol=0.05)
