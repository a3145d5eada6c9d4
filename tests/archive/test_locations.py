from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from convcast.archive import locations

INIT = np.datetime64("2024-05-06T09", "h")


def test_all_clouds_are_known_to_herbie():
    assert set(locations.CLOUDS) <= set(locations.urls(INIT, 0))


def test_address_on_aws():
    expected = "https://noaa-hrrr-bdp-pds.s3.amazonaws.com/hrrr.20240506/conus/hrrr.t09z.wrfsfcf01.grib2"
    assert locations.urls(INIT, 1)["aws"] == expected


def test_archive_keeps_the_layout_of_the_bucket():
    assert locations.archive_path(INIT, 1) == locations.path(INIT, 1)


@pytest.mark.parametrize("folder", ["hrrr.20240506", "hrrr.20240506/conus"])
def test_path_is_read_back(folder):
    assert locations.parse_path(f"{folder}/hrrr.t09z.wrfsfcf01.grib2") == (INIT, 1)


@pytest.mark.parametrize(
    "name",
    [
        "hrrr.20240506/alaska/hrrr.t09z.wrfsfcf01.ak.grib2",
        "hrrr.20240506/conus/hrrr.t09z.wrfsubhf01.grib2",
        "hrrr.20240231/conus/hrrr.t09z.wrfsfcf01.grib2",
        "hrrr.20240506/conus/hrrr.t09z.wrfsfcf01.grib2.idx",
        "../hrrr.20240506/conus/hrrr.t09z.wrfsfcf01.grib2",
    ],
)
def test_other_paths_are_not(name):
    assert locations.parse_path(name) is None


def test_herbie_neither_prints_nor_leaves_files(tmp_path):
    code = """
import numpy as np, os
from convcast.archive import locations
locations.urls(np.datetime64("2024-05-06T09", "h"), 0)
assert "HERBIE_CONFIG_PATH" not in os.environ
import pyproj
pyproj.CRS("EPSG:4326")
"""
    environment = {"HOME": str(tmp_path), "TMPDIR": str(tmp_path), "PATH": "/usr/bin:/bin"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    left = [path.name for path in tmp_path.rglob("*")]
    assert (done.returncode, done.stdout, done.stderr, left) == (0, "", "", [])
