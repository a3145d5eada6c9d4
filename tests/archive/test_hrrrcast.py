"""HRRRCast: the names of its files and messages, as its program writes them and others read them."""

from __future__ import annotations

import numpy as np
import pytest

from convcast.archive import locations, open_archives
from convcast.archive.locations import GribFile
from convcast.archive.messages.index import parse, select
from convcast.archive.reference_ensembles import hrrrcast_members, requests

CYCLE = np.datetime64("2026-08-06T12", "h")
FILE = GribFile("hrrrcast", "pgrb2", CYCLE, 6, 0)
LINES = """\
1:0:d=2026080612:CAPE:surface:6 hour fcst:
2:900000:d=2026080612:CIN:surface:6 hour fcst:
3:1800000:d=2026080612:DPT:2 m above ground:6 hour fcst:
4:2900000:d=2026080612:HGT:500 mb:6 hour fcst:
5:3900000:d=2026080612:REFC:entire atmosphere:6 hour fcst:
6:4300000:d=2026080612:TMP:2 m above ground:6 hour fcst:
7:5400000:d=2026080612:TMP:850 mb:6 hour fcst:
8:6400000:d=2026080612:UGRD:10 m above ground:6 hour fcst:
9:8800000:d=2026080612:UGRD:80 m above ground:6 hour fcst:
10:9800000:d=2026080612:VGRD:10 m above ground:6 hour fcst:
11:12200000:d=2026080612:MSLMA:mean sea level:6 hour fcst:
"""
"""Made up of the names and levels that readers of the bucket use, in the form of `wgrib2 -s`."""


def test_address_is_that_of_the_bucket():
    assert locations.urls(FILE) == {
        "aws": ("https://noaa-gsl-experimental-pds.s3.amazonaws.com/HRRRCast/20260806/12/hrrrcast.m00.t12z.pgrb2.f06",)
    }


def test_paths_of_bucket_and_archive_are_read_back():
    path = locations.archive_path(FILE)
    assert str(path) == "hrrrcast.20260806/12/hrrrcast.m00.t12z.pgrb2.f06.grib2"
    assert locations.parse_path(str(path)) == locations.parse_path(str(locations.bucket_path(FILE))) == FILE


@pytest.mark.parametrize("name", ["avg", "spr", "prob"])
def test_mean_and_spread_are_no_members(name):
    file = locations.parse_path(f"HRRRCast/20260806/12/hrrrcast.{name}.t12z.pgrb2.f06")
    assert file == GribFile("hrrrcast", name, CYCLE, 6)
    assert str(locations.bucket_path(file)) == f"HRRRCast/20260806/12/hrrrcast.{name}.t12z.pgrb2.f06"
    assert str(locations.archive_path(file)) == f"hrrrcast.20260806/12/hrrrcast.{name}.t12z.pgrb2.f06.grib2"


@pytest.mark.parametrize(("hour", "lead", "count"), [(12, 48, 18), (12, 49, 0), (13, 18, 18), (13, 19, 0)])
def test_cycles_end_as_hrrrs_do(hour, lead, count):
    members = hrrrcast_members(np.datetime64("2026-08-06T00", "h") + hour, lead)
    assert len(members) == count
    assert {m.file.valid for m in members} <= {np.datetime64("2026-08-06T00", "h") + hour + lead}


def find(specs):
    """Offsets by name of messages of convcast's fields in LINES."""
    wanted = [spec for spec in specs if spec.index_name != "PWAT"]
    spans, lacking = select(parse(LINES), wanted, init=CYCLE, lead=6)
    assert lacking == ()
    return {span.spec.name: span.start for span in spans}


OFFSETS = {"cape": 0, "cin": 900_000, "d2m": 1_800_000, "refc": 3_900_000, "t2m": 4_300_000}
OFFSETS |= {"u10": 6_400_000, "v10": 9_800_000}


def test_messages_are_found_in_an_index(tmp_path):
    archives, valid = open_archives(tmp_path), np.array([CYCLE + 6])
    asked = requests("hrrrcast", archives, valid, (6,), list(OFFSETS), derived=False)
    assert len(asked) == len({request.path for request in asked}) == 18
    assert {request.path.relative_to(tmp_path).parts[0] for request in asked} == {"hrrrcast"}
    assert find(asked[0].specs) == OFFSETS


def test_mean_and_spread_have_the_messages_of_a_member_under_names_of_their_own(tmp_path):
    archives, valid = open_archives(tmp_path), np.array([CYCLE + 6])
    mean, spread = requests("hrrrcast", archives, valid, (6,), list(OFFSETS), members=False)
    assert [request.file.product for request in (mean, spread)] == ["avg", "spr"]
    named = {name: "refc_matched_mean" if name == "refc" else f"{name}_mean" for name in OFFSETS}
    assert find(mean.specs) == {named[name]: offset for name, offset in OFFSETS.items()}
    assert find(spread.specs) == {f"{name}_spread": offset for name, offset in OFFSETS.items()}


@pytest.mark.parametrize(("lead", "files"), [(18, 20), (19, 0)])
def test_a_cycle_between_the_long_ones_is_asked_for_no_lead_that_it_lacks(tmp_path, lead, files):
    valid = np.array([CYCLE + 1 + lead])
    assert len(requests("hrrrcast", open_archives(tmp_path), valid, (lead,), list(OFFSETS))) == files
