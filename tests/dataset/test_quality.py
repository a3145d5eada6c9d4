from __future__ import annotations

import numpy as np
import pytest

from convcast.dataset.quality import examine
from convcast.variables import CAPE, CIN, D2M, FIELDS, REFC, T2M, U10

START = np.datetime64("2024-05-06T00", "h")


@pytest.fixture
def good(archive):
    """Fields (variable, y, x) in the order of FIELDS."""
    return np.stack(list(archive.weather(START).values()))


def checks_of(values, *, variables=tuple(FIELDS.values()), before=None):
    return [(f.check, f.field, f.rejects) for f in examine(values, variables, before=before)]


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
    good[list(FIELDS).index("d2m"), 3, 4] = 192.0  # as in a real HRRR forecast of 2026-07-04
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
    assert checks_of(good, before={"t2m": 280.0}) == [("jump", "t2m", True)]


def test_jump_of_convection_is_a_warning(good):
    assert checks_of(good, before={"cape": 0.0}) == [("jump", "cape", False)]


def test_steady_weather_is_no_jump(good):
    before = {name: float(field.mean()) for name, field in zip(FIELDS, good, strict=True)}
    assert checks_of(good, before=before) == []


def test_no_echo_over_the_continent_is_a_warning():
    silent = np.full((1, 800, 700), -10.0, np.float32)
    assert checks_of(silent, variables=(REFC,)) == [("silent", "refc", False)]
    assert checks_of(silent[:, :100, :100], variables=(REFC,)) == []
