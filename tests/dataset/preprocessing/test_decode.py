from __future__ import annotations

import numpy as np
import pytest

from convcast import grib
from convcast.dataset.preprocessing.decode import decode_hour, decode_static
from convcast.errors import DamagedFileError
from convcast.grid import CONUS, Grid
from convcast.notation import HOUR
from convcast.variables import CAPE, FIELDS, LAND, REFC, STATIC, T2M, TERRAIN, GribKey

import eccodes  # isort: skip  after convcast.grib, which sees to its order

START = np.datetime64("2024-05-06T00", "h")
REAL = np.datetime64("2018-07-22T21", "h")


def reason_of(path, *, valid=START, lead=0, variables=tuple(FIELDS.values())) -> str:
    with pytest.raises(DamagedFileError) as caught:
        decode_hour(path, valid=valid, lead=lead, variables=variables)
    return str(caught.value)


def test_fields_come_back_as_they_were_written(archive):
    fields = decode_hour(archive.path(START, 0), valid=START, lead=0, variables=tuple(FIELDS.values()))
    for name, values in zip(FIELDS, fields.values, strict=True):
        np.testing.assert_array_equal(values, archive.weather(START)[name])


def test_grid_and_world_are_the_files(archive, small_archive):
    simulated = small_archive(simulated=True)
    path = simulated.add_hour(START)
    fields = decode_hour(path, valid=START, lead=0, variables=(T2M,))
    assert (fields.grid, fields.simulated) == (Grid(24, 32, 300, 800, periodic=True), True)


def test_order_is_the_callers(archive):
    fields = decode_hour(archive.path(START, 0), valid=START, lead=0, variables=(CAPE, T2M))
    np.testing.assert_array_equal(fields.values[0], archive.weather(START)["cape"])


def test_crop_keeps_its_place(archive):
    fields = decode_hour(archive.path(START, 0), valid=START, lead=0, variables=(T2M,))
    part = fields.crop(slice(2, 10), slice(3, 11))
    assert part.grid == Grid(8, 8, 302, 803)
    np.testing.assert_array_equal(part.values, fields.values[:, 2:10, 3:11])


def test_missing_messages_are_all_named(archive):
    path = archive.add_hour(START, changed={"t2m": None, "cin": None})
    assert reason_of(path).endswith("t2m is missing; cin is missing")


def test_doubled_message_is_named(archive):
    path = archive.path(START, 0)
    path.write_bytes(path.read_bytes() + archive.message("t2m", archive.weather(START)["t2m"], START))
    assert "t2m is there 2 times" in reason_of(path)


def test_mixed_layer_cape_is_not_surface_cape(archive):
    layer = archive.message("cape", archive.weather(START)["cape"], START, key=GribKey(0, 7, 6, 108, 18000))
    path = archive.add_hour(START, changed={"cape": None})
    path.write_bytes(path.read_bytes() + layer)
    assert reason_of(path).endswith("cape is missing")


def test_hour_off_by_one_is_named(archive):
    path = archive.path(START, 0)
    reason = reason_of(path, valid=START + HOUR)
    assert "t2m is of 2024-05-06T00 + 0 h where the file's name says 2024-05-06T01 + 0 h" in reason


def test_same_valid_time_by_another_lead_is_refused(archive):
    path = archive.add_hour(START, lead=1)
    assert "t2m is of 2024-05-05T23 + 1 h" in reason_of(path)


def test_messages_on_two_grids_are_refused(archive):
    other = Grid(24, 32, 301, 800)
    path = archive.add_hour(START, changed={"t2m": None})
    path.write_bytes(path.read_bytes() + archive.message("t2m", archive.weather(START)["t2m"], START, grid=other))
    assert "several grids" in reason_of(path)


def test_simulated_among_real_is_refused(archive):
    path = archive.add_hour(START, changed={"refc": None})
    path.write_bytes(path.read_bytes() + archive.message("refc", archive.weather(START)["refc"], START, simulated=True))
    assert "mixes simulated and real" in reason_of(path)


@pytest.mark.parametrize("kept", [0.05, 0.5, 0.97, 0.999])
def test_truncated_file_is_refused(archive, kept):
    path = archive.path(START, 0)
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content))])
    reason_of(path)


def test_empty_file_is_refused(archive):
    path = archive.path(START, 0)
    path.write_bytes(b"")
    assert "refc is missing" in reason_of(path)


def test_real_hour_agrees_with_cfgrib(shared_data):
    import xarray

    path = shared_data / "hrrr_hourly" / "hrrr.20180722" / "hrrr.t20z.wrfsfcf01.grib2"
    variables = tuple(variable for variable in FIELDS.values() if variable != REFC)
    fields = decode_hour(path, valid=REAL, lead=1, variables=variables)
    short_names = {"t2m": "2t", "d2m": "2d", "u10": "10u", "v10": "10v", "cape": "cape", "cin": "cin"}
    for variable, values in zip(variables, fields.values, strict=True):
        level = {1: "surface", 103: "heightAboveGround"}[variable.grib.surface]
        keys = {"shortName": short_names[variable.name], "typeOfLevel": level, "stepType": "instant"}
        options = {"indexpath": "", "filter_by_keys": keys, "errors": "raise"}
        with xarray.open_dataset(path, engine="cfgrib", backend_kwargs=options) as expected:
            (name,) = expected.data_vars
            np.testing.assert_array_equal(values, expected[name].values)
            latitude, longitude = fields.grid.latitude_longitude()
            np.testing.assert_allclose(latitude, expected.latitude, atol=1e-3)
            np.testing.assert_allclose(longitude % 360, expected.longitude, atol=1e-3)


def test_real_full_reflectivity_is_read(shared_data):
    from convcast import grib

    path = shared_data / "hrrr" / "refc_20221014t01z_15min_conus.grib2"
    header = next(m.header for m in grib.read_messages(path) if m.header.key == REFC.grib)
    _, values = grib.decode(path.read_bytes()[header.offset : header.offset + header.length])
    assert header.grid() == CONUS
    assert (values.min(), values.max() > 60) == (-10, True)


def test_sub_hourly_file_is_not_an_analysis(shared_data):
    path = shared_data / "hrrr" / "refc_20221014t01z_15min_conus.grib2"
    reason = reason_of(path, valid=np.datetime64("2022-10-14T01", "h"), variables=(REFC,))
    assert "2022-10-14T01 + 0.25 h" in reason


def test_skin_temperature_is_not_taken_for_2_m(shared_data):
    path = shared_data / "hrrr" / "tmp_skin_20230722t06z_f01_conus.grib2"
    reason = reason_of(path, valid=np.datetime64("2023-07-22T07", "h"), lead=1, variables=(T2M,))
    assert reason.endswith("t2m is missing")


def test_nam_is_not_hrrr(shared_data):
    path = shared_data / "hrrr" / "nam211_submessages_20180917t00z_f00.grib2"
    reason = reason_of(path, valid=np.datetime64("2018-09-17T00", "h"), variables=(CAPE,))
    assert "not on the HRRR grid" in reason


def test_href_s_grid_is_not_hrrr(shared_data):
    """GRIB1 on grid 227: neither the edition nor the grid of an analysis."""
    path = shared_data / "href" / "cape_href_grid227_20160711t00z_f02.grib1"
    reason_of(path, valid=np.datetime64("2016-07-11T02", "h"), lead=2, variables=(CAPE,))


OTHER_GRIDS = {
    "HRRR of Alaska": {
        "gridType": "polar_stereographic",
        "Nx": 1299,
        "Ny": 919,
        "latitudeOfFirstGridPointInDegrees": 41.612949,
        "longitudeOfFirstGridPointInDegrees": 185.117126,
        "LaDInDegrees": 60,
        "orientationOfTheGridInDegrees": 225,
        "DxInMetres": 3000,
        "DyInMetres": 3000,
        "shapeOfTheEarth": 6,
    },
    "grid 227 of HREF": {
        "gridType": "lambert",
        "Nx": 1473,
        "Ny": 1025,
        "latitudeOfFirstGridPointInDegrees": 12.19,
        "longitudeOfFirstGridPointInDegrees": 226.541,
        "LaDInDegrees": 25,
        "LoVInDegrees": 265,
        "Latin1InDegrees": 25,
        "Latin2InDegrees": 25,
        "DxInMetres": 5079,
        "DyInMetres": 5079,
        "shapeOfTheEarth": 6,
    },
    "HRRR's own, half a cell to the east": {"longitudeOfFirstGridPointInDegrees": 237.280472 + 0.0165},
    "HRRR's own, of another latitude of tangency": {"Latin1InDegrees": 38.0},
    "HRRR's own, by rows from the north": {"jScansPositively": 0},
}


@pytest.mark.parametrize("name", OTHER_GRIDS)
def test_another_grid_is_refused(tmp_path, name):
    """Definitions as NCEP publishes them (on388 tables, HRRR-AK's files)."""
    keys = OTHER_GRIDS[name]
    good = grib.encode(np.zeros(CONUS.shape), key=T2M.grib, grid=CONUS, init=START, lead_hours=0, simulated=False)
    path = tmp_path / "hour.grib2"
    path.write_bytes(rewritten(good, keys))
    assert "not on the HRRR grid" in reason_of(path, valid=START, variables=(T2M,))


def rewritten(message: bytes, keys) -> bytes:
    handle = eccodes.codes_new_from_message(message)
    for key, value in keys.items():
        eccodes.codes_set(handle, key, value)
    made = eccodes.codes_get_message(handle)
    eccodes.codes_release(handle)
    return made


def test_real_terrain_with_rounded_corners_is_read(shared_data):
    ground = decode_static(shared_data / "hrrr" / "terrain_land_conus.grib2")
    assert ground.grid == CONUS
    assert list(STATIC.values()) == [TERRAIN, LAND]
    assert 3500 < ground.values[0].max() < 4400
    assert set(np.unique(ground.values[1])) == {0, 1}
