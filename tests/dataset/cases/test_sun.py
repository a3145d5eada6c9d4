from __future__ import annotations

import numpy as np
import pytest

from convcast.dataset import Sun

PLACES = Sun(np.array([[0.0, 40.0, 90.0]]), np.array([[0.0, -105.0, 10.0]]))


def zenith(time, place):
    return float(np.degrees(np.arccos(PLACES.cosine(np.datetime64(time, "h"))[0, place])))


# NOAA Solar Calculator (gml.noaa.gov/grad/solcalc) and the almanac: declinations at solstices and equinoxes.
@pytest.mark.parametrize(
    ("time", "place", "expected"),
    [
        ("2024-03-20T12", 0, 1.9),  # equinox: the hour angle alone, the equation of time is -7.4 minutes
        ("2024-06-21T12", 2, 90 - 23.44),  # the pole at the solstice
        ("2024-12-21T12", 2, 90 + 23.44),
        ("2024-06-20T19", 1, 16.6),  # Boulder at local solar noon
    ],
)
def test_known_heights(time, place, expected):
    assert zenith(time, place) == pytest.approx(expected, abs=0.4)


def test_noon_is_highest_and_midnight_lowest():
    day = [PLACES.cosine(np.datetime64("2024-05-06T00", "h") + np.timedelta64(h, "h"))[0, 1] for h in range(24)]
    assert (int(np.argmax(day)), int(np.argmin(day))) == (19, 7)


def test_a_part_is_the_same_part():
    latitude, longitude = np.meshgrid(np.linspace(20, 50, 30), np.linspace(-120, -70, 20), indexing="ij")
    sun, time = Sun(latitude, longitude), np.datetime64("2024-05-06T21", "h")
    np.testing.assert_array_equal(sun.cosine(time, slice(3, 9), slice(5, 8)), sun.cosine(time)[3:9, 5:8])
