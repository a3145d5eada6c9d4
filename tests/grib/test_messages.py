"""Encoded messages are like HRRR's, HRRR's are decoded correctly, and others are recognised."""

import subprocess
import sys

import numpy as np
import pytest

from convcast.errors import DamagedFileError
from convcast.grib import decode, encode, read_messages
from convcast.grid import CONUS, Grid
from convcast.variables import CAPE, FIELDS, LAND, REFC, T2M, TERRAIN

INIT = np.datetime64("2024-05-01T03", "h")
WORLD = Grid(48, 64, 400, 900, periodic=True)


def read_headers(path):
    return (message.header for message in read_messages(path))


@pytest.mark.parametrize("variable", FIELDS.values(), ids=FIELDS)
def test_a_field_comes_back_on_the_lattice(variable):
    low, high = max(variable.bounds[0], -1000), min(variable.bounds[1], 5000)
    values = np.random.default_rng(0).uniform(low, high, WORLD.shape)

    message = encode(values, key=variable.grib, grid=WORLD, init=INIT, lead_hours=1, simulated=True)
    header, decoded = decode(message)

    assert header.key == variable.grib
    assert (header.init, header.lead_hours) == (INIT, 1)
    assert header.grid() == WORLD
    assert header.simulated
    np.testing.assert_array_equal(decoded, np.round(values * 16) / 16)


def test_a_constant_field_comes_back():
    message = encode(np.full(WORLD.shape, -10.0), key=REFC.grib, grid=WORLD, init=INIT, lead_hours=0, simulated=False)

    header, decoded = decode(message)
    assert not header.simulated
    assert np.unique(decoded) == [-10]


def test_scanning_finds_each_message_in_its_place(tmp_path):
    messages = [
        encode(np.full(WORLD.shape, n), key=v.grib, grid=WORLD, init=INIT, lead_hours=0, simulated=True)
        for n, v in enumerate((T2M, CAPE, LAND))
    ]
    path = tmp_path / "a.grib2"
    path.write_bytes(b"".join(messages))

    headers = list(read_headers(path))

    assert [h.key for h in headers] == [T2M.grib, CAPE.grib, LAND.grib]
    assert [path.read_bytes()[h.offset : h.offset + h.length] for h in headers] == messages


def test_damage_is_an_error(tmp_path):
    message = encode(np.zeros(WORLD.shape), key=T2M.grib, grid=WORLD, init=INIT, lead_hours=0, simulated=True)

    with pytest.raises(DamagedFileError):
        decode(message[: len(message) // 2])
    with pytest.raises(DamagedFileError):
        decode(b"not GRIB at all")
    (tmp_path / "short.grib2").write_bytes(message + message[:-20])
    with pytest.raises(DamagedFileError, match=r"short\.grib2"):
        list(read_headers(tmp_path / "short.grib2"))


def test_real_full_grid_messages(shared_data):
    path = shared_data / "hrrr" / "refc_20221014t01z_15min_conus.grib2"
    first = next(iter(read_headers(path)))
    header, values = decode(path.read_bytes()[first.offset : first.offset + first.length])

    assert header.key == REFC.grib
    assert header.grid() == CONUS
    assert header.lead_hours == 0.25
    assert not header.simulated
    assert (values.min(), values.max()) == (-10, 73)


def test_a_real_terrain_file_with_rounded_corners_is_on_the_grid(shared_data):
    headers = list(read_headers(shared_data / "hrrr" / "terrain_land_conus.grib2"))

    assert [h.key for h in headers] == [TERRAIN.grib, LAND.grib]
    assert [h.grid() for h in headers] == [CONUS, CONUS]


@pytest.mark.parametrize(
    "name", ["hrrr/nam211_submessages_20180917t00z_f00.grib2", "href/sref_probability_sample.grib2"]
)
def test_real_files_of_other_grids_are_refused(shared_data, name):
    with pytest.raises(DamagedFileError):
        [header.grid() for header in read_headers(shared_data / name)]


def test_skin_temperature_is_not_taken_for_2_m(shared_data):
    (header,) = read_headers(shared_data / "hrrr" / "tmp_skin_20230722t06z_f01_conus.grib2")

    assert header.key != T2M.grib


@pytest.mark.parametrize("first", ["convcast.grib", "cfgrib", "xarray"])
def test_projection_and_grib_live_in_one_process(first):
    """The eccodes wheels break a later pyproj and crash at exit unless pyproj comes first."""
    program = f"import convcast.grib, {first}; from pyproj import CRS; CRS.from_epsg(4326); import cfgrib"

    finished = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)

    assert (finished.returncode, finished.stderr) == (0, "")
