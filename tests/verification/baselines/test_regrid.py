from __future__ import annotations

import eccodes
import numpy as np
import pytest

from convcast.errors import SettingsError
from convcast.grid import CONUS, Grid
from convcast.variables import REFC, T2M, U10
from convcast.verification.baselines.regrid import CELL, NX, NY, Regridder

PART = Grid(100, 120, 500, 900)


@pytest.fixture(scope="module")
def regrid():
    return Regridder(PART)


@pytest.fixture(scope="module")
def angles():
    """Latitude and longitude of grid 227 as ecCodes has them, which did not learn them from us."""
    from ..published import GRID_227

    handle = eccodes.codes_grib_new_from_samples("GRIB2")
    keys = {"gridDefinitionTemplateNumber": 30, "shapeOfTheEarth": 6, "resolutionAndComponentFlags": 8}
    for name, value in (keys | GRID_227 | {"scanningMode": 64, "projectionCentreFlag": 0}).items():
        eccodes.codes_set(handle, name, value)
    eccodes.codes_set_values(handle, np.zeros(NX * NY))
    found = [eccodes.codes_get_array(handle, name).reshape(NY, NX) for name in ("latitudes", "longitudes")]
    eccodes.codes_release(handle)
    return found[0], (found[1] + 180) % 360 - 180


def smooth(latitude, longitude):
    return (280 + 0.7 * latitude - 0.4 * longitude + np.sin(latitude / 2)).astype(np.float32)


def test_bilinear_values_are_those_of_the_place(regrid, angles):
    found = regrid(T2M, smooth(*PART.latitude_longitude()))
    expected = smooth(*(angle[regrid.box] for angle in angles))
    np.testing.assert_allclose(found[regrid.inside], expected[regrid.inside], atol=2e-3)
    assert np.isnan(found[~regrid.inside]).all()


def test_nearest_is_a_value_of_the_nearest_point(regrid, angles):
    number = np.arange(PART.ny * PART.nx, dtype=np.float32).reshape(PART.shape)
    found = regrid(REFC, number)
    latitude, longitude = (angle[regrid.box] for angle in angles)
    here = PART.latitude_longitude()
    for row, column in ((10, 12), (25, 30), (40, 60)):
        if not regrid.inside[row, column]:
            continue
        near = np.cos(np.radians(latitude[row, column])) * (here[1] - longitude[row, column])
        apart = np.hypot(here[0] - latitude[row, column], near)
        assert apart.ravel()[int(found[row, column])] == pytest.approx(apart.min(), rel=1e-3)


def test_members_are_carried_together(regrid):
    fields = np.random.default_rng(0).normal(20, 5, (3, *PART.shape)).astype(np.float32)
    for variable in (REFC, T2M):
        np.testing.assert_array_equal(regrid(variable, fields)[1], regrid(variable, fields[1]))


def test_winds_are_refused(regrid):
    with pytest.raises(SettingsError, match="not those along the axes"):
        regrid(U10, np.zeros(PART.shape, np.float32))


def test_the_whole_of_hrrr_lies_inside():
    rows, columns = Regridder(CONUS).box
    assert rows.start > 0
    assert columns.start > 0
    assert rows.stop < NY
    assert columns.stop < NX
    assert (rows.stop - rows.start) * CELL > 1058 * 2870  # HRRR's points are 2.87 to 3 km apart on the ground


def test_real_file_has_this_grid(shared_data, angles):
    path = shared_data / "href/cape_href_grid227_20160711t00z_f02.grib1"
    with open(path, "rb") as file:
        handle = eccodes.codes_grib_new_from_file(file)
    try:
        latitude, longitude = (eccodes.codes_get_array(handle, name) for name in ("latitudes", "longitudes"))
    finally:
        eccodes.codes_release(handle)
    np.testing.assert_allclose(latitude.reshape(NY, NX), angles[0], atol=2e-3)
    np.testing.assert_allclose((longitude.reshape(NY, NX) + 180) % 360 - 180, angles[1], atol=2e-3)
