"""The HRRR grid agrees with published figures."""

import re

import numpy as np
import pytest

from convcast.errors import DamagedFileError, SettingsError
from convcast.grid import CONUS, REGIONS, Grid, locate, parse_region


def test_the_corners_are_where_ncep_puts_them():
    latitude, longitude = CONUS.latitude_longitude()

    assert (latitude[0, 0], longitude[0, 0]) == pytest.approx((21.138123, 237.280472 - 360), abs=1e-6)
    assert (latitude[-1, -1], longitude[-1, -1]) == pytest.approx((47.842195, -60.917193), abs=1e-4)
    assert CONUS.x[-1] == pytest.approx(2696479.857, abs=0.1)


def test_a_crop_is_found_again_from_its_first_point():
    crop = CONUS.crop(slice(400, 478), slice(900, 941))
    latitude, longitude = crop.latitude_longitude()

    assert locate(latitude[0, 0], longitude[0, 0], 78, 41) == crop


def test_the_window_of_a_crop_is_what_it_was_cropped_by():
    window = slice(200, 300), slice(150, 470)
    part = CONUS.crop(slice(100, 600), slice(50, 600))
    crop = part.crop(*window)
    assert part.covers(crop)
    assert part.window(crop) == window


def test_rounded_corners_are_accepted():
    assert locate(21.138, 237.28, 1059, 1799) == CONUS


@pytest.mark.parametrize(
    ("latitude", "longitude", "ny", "nx"),
    [(12.190, 226.541, 1025, 1473), (41.612949, 185.117126, 919, 1299), (21.15, 237.28, 10, 10), (47.8, 299.0, 50, 50)],
)
def test_other_grids_are_refused(latitude, longitude, ny, nx):
    with pytest.raises(DamagedFileError):
        locate(latitude, longitude, ny, nx)


def test_a_part_of_the_simulated_world_has_edges():
    world = Grid(64, 64, 400, 900, periodic=True)

    assert world.crop(slice(None), slice(None)) == world
    assert not world.crop(slice(0, 32), slice(None)).periodic


@pytest.mark.parametrize("name", REGIONS)
def test_named_regions_lie_on_the_grid(name):
    rows, columns = parse_region(name)

    assert len(range(1059)[rows]) == rows.stop - rows.start
    assert len(range(1799)[columns]) == columns.stop - columns.start


def test_southern_plains_is_about_oklahoma():
    latitude, longitude = CONUS.crop(*parse_region("southern-plains")).latitude_longitude()

    assert np.hypot(latitude - 35.5, longitude + 97.5).min() < 0.05
    assert (latitude.min() < 32, latitude.max() > 37) == (True, True)


@pytest.mark.parametrize(
    "text",
    [
        "atlantis",
        "0:10",
        "10:5,0:3",
        "0:10,0:1800",
        "a:b,c:d",
        "",
        "37N:30N,104W:94W",
        "30N:37N,94W:104W",
        "30N:37N,10E:20E",
        "30:37,104W:94W",
        "1.2.3N:37N,104W:94W",
    ],
)
def test_an_impossible_region_is_refused(text):
    with pytest.raises(SettingsError):
        parse_region(text)


@pytest.mark.parametrize("text", ["33N:37N,103W:94.5W", "45.5n:49n, 90w:80w"])
def test_a_box_in_degrees_is_the_smallest_rectangle_that_holds_it(text):
    rows, columns = parse_region(text)
    latitude, longitude = CONUS.latitude_longitude()
    numbers = [float(n) for n in re.findall(r"[\d.]+", text)]
    inside = (latitude >= numbers[0]) & (latitude <= numbers[1])
    inside &= (longitude >= -numbers[2]) & (longitude <= -numbers[3])
    y, x = np.nonzero(inside)
    edges = [rows.start - y.min(), rows.stop - y.max() - 1, columns.start - x.min(), columns.stop - x.max() - 1]
    assert edges == pytest.approx([-1, 1, -1, 1], abs=1)


def test_a_box_that_leaves_the_grid_is_what_of_it_is_there():
    assert parse_region("10N:60N,150W:40W") == (slice(0, 1059), slice(0, 1799))
