from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from convcast.archive import locations
from convcast.archive.locations import GribFile

INIT = np.datetime64("2024-05-06T09", "h")
FILE = locations.hrrr(INIT, 1)
CYCLE = np.datetime64("2026-11-20T06", "h")
FILES = {
    FILE: "hrrr.20240506/conus/hrrr.t09z.wrfsfcf01.grib2",
    GribFile("refs", "prob", CYCLE, 3): "refs.20261120/06/ensprod/refs.t06z.prob.f03.conus.grib2",
    GribFile("rrfs", "2dfld", CYCLE, 3): "rrfs.20261120/06/rrfs.t06z.2dfld.3km.f003.conus.grib2",
    GribFile("rrfs", "2dfldnomads", CYCLE, 9, 4): (
        "rrfsens.20261120/06/m004/rrfs.t06z.m004.2dfldnomads.3km.f009.conus.grib2"
    ),
    GribFile("href", "pmmn", CYCLE, 12): "href.20261120/ensprod/href.t06z.conus.pmmn.f12.grib2",
}


def test_all_clouds_are_known_to_herbie():
    assert set(locations.CLOUDS) <= set(locations.urls(FILE))


def test_address_on_aws():
    expected = "https://noaa-hrrr-bdp-pds.s3.amazonaws.com/hrrr.20240506/conus/hrrr.t09z.wrfsfcf01.grib2"
    assert locations.urls(FILE)["aws"] == (expected,)


@pytest.mark.parametrize("file", FILES)
def test_archive_keeps_the_layout_of_the_bucket(file):
    assert [str(locations.archive_path(file)), str(locations.bucket_path(file))] == [FILES[file]] * 2


@pytest.mark.parametrize("file", FILES)
def test_every_path_is_read_back(file):
    assert locations.parse_path(FILES[file]) == file


def test_refs_is_on_aws_and_on_nomads_alone():
    assert set(locations.urls(GribFile("refs", "mean", CYCLE, 1))) == {"aws", "nomads"}


def test_href_is_on_nomads_alone():
    assert set(locations.urls(GribFile("href", "mean", CYCLE, 1))) == {"nomads"}


def test_nomads_is_probed_where_notices_and_herbie_disagree():
    addresses = locations.urls(GribFile("refs", "mean", CYCLE, 1))["nomads"]
    assert [address.split("/refs/")[1].split("/")[0] for address in addresses] == ["v1.0", "prod", "para"]


@pytest.mark.parametrize("folder", ["hrrr.20240506", "hrrr.20240506/conus"])
def test_path_is_read_back(folder):
    assert locations.parse_path(f"{folder}/hrrr.t09z.wrfsfcf01.grib2") == FILE


@pytest.mark.parametrize(
    "name",
    [
        "hrrr.20240506/alaska/hrrr.t09z.wrfsfcf01.ak.grib2",
        "hrrr.20240506/conus/hrrr.t09z.wrfsubhf01.grib2",
        "hrrr.20240231/conus/hrrr.t09z.wrfsfcf01.grib2",
        "hrrr.20240506/conus/hrrr.t09z.wrfsfcf01.grib2.idx",
        "../hrrr.20240506/conus/hrrr.t09z.wrfsfcf01.grib2",
        "rrfsens.20261120/06/m004/rrfs.t06z.m003.2dfldnomads.3km.f009.conus.grib2",
        "refs.20261120/06/ensprod/refs.t12z.prob.f03.conus.grib2",
        "refs.20261120/06/ensprod/refs.t06z.prob.f003.conus.grib2",
    ],
)
def test_other_paths_are_not(name):
    assert locations.parse_path(name) is None


def test_herbie_neither_prints_nor_leaves_files(tmp_path):
    code = """
import numpy as np, os
from convcast.archive import locations
from convcast.archive.locations import GribFile
locations.urls(locations.hrrr(np.datetime64("2024-05-06T09", "h"), 0))
assert "HERBIE_CONFIG_PATH" not in os.environ
import pyproj
pyproj.CRS("EPSG:4326")
"""
    environment = {"HOME": str(tmp_path), "TMPDIR": str(tmp_path), "PATH": "/usr/bin:/bin"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    left = [path.name for path in tmp_path.rglob("*")]
    assert (done.returncode, done.stdout, done.stderr, left) == (0, "", "", [])
