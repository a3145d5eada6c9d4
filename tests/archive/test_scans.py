"""The scan of MRMS that is nearest an hour, found in a list of a bucket and unpacked."""

from __future__ import annotations

import gzip

import numpy as np
import pytest

from convcast.archive import scans
from convcast.archive.failures import Absent, Bad, Incomplete
from convcast.archive.scans import Scan, nearest, parse_listing, prefixes, unpack

HOUR = np.datetime64("2022-07-04T11", "h")
FOLDER = "CONUS/MergedReflectivityQCComposite_00.50/"
NAME = "MRMS_MergedReflectivityQCComposite_00.50_{}.grib2.gz"


def scan(time, size=1000):
    return Scan(f"{FOLDER}{time[:8]}/{NAME.format(time)}", size)


def listing(*found, end="</ListBucketResult>"):
    entries = "".join(
        f"<Contents><Key>{one.key}</Key><LastModified>2022-07-04T11:02:17.000Z</LastModified>"
        f"<ETag>&quot;d41d8&quot;</ETag><Size>{one.size}</Size><StorageClass>STANDARD</StorageClass></Contents>"
        for one in found
    )
    head = '<?xml version="1.0"?><ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Name>b</Name>'
    return f"{head}<IsTruncated>false</IsTruncated>{entries}{end}"


def test_the_nearest_scan_is_taken_on_either_side_of_the_hour():
    before, after = scan("20220704-105840"), scan("20220704-110040")
    assert nearest([before, after], HOUR) == after
    assert nearest([scan("20220704-105955"), after], HOUR).key.endswith("105955.grib2.gz")


@pytest.mark.parametrize("time", ["20220704-105459", "20220704-110501", "20220705-110000"])
def test_a_scan_beyond_five_minutes_does_not_stand_for_the_hour(time):
    with pytest.raises(Absent, match="within 5 minutes"):
        nearest([scan(time)], HOUR)


@pytest.mark.parametrize("time", ["20220704-116040", "20220231-110000"])
def test_names_that_are_no_time_are_passed_over(time):
    with pytest.raises(Absent):
        nearest([scan(time)], HOUR)


def test_prefixes_reach_into_the_day_before():
    assert prefixes(np.datetime64("2022-07-04T00", "h")) == (
        "20220703/MRMS_MergedReflectivityQCComposite_00.50_20220703-235",
        "20220704/MRMS_MergedReflectivityQCComposite_00.50_20220704-000",
    )


def test_a_list_of_a_bucket_is_read():
    found = scan("20220704-105840", 1_473_079), scan("20220704-110040", 5)
    assert parse_listing(listing(*found)) == found
    assert parse_listing(listing()) == ()


def test_a_page_and_a_cut_list_are_refused():
    with pytest.raises(Bad, match="not a list"):
        parse_listing("<html>log in</html>")
    with pytest.raises(Incomplete, match="cut short"):
        parse_listing(listing(scan("20220704-110040"), end=""))


def test_scans_are_unpacked_whether_packed_or_not():
    message = b"GRIB" + bytes(100)
    assert unpack(gzip.compress(message)) == unpack(message) == message


def test_other_content_is_refused(monkeypatch):
    packed = gzip.compress(bytes(range(256)) * 40)
    with pytest.raises(Incomplete, match="cut short"):
        unpack(packed[:-20])
    with pytest.raises(Bad, match="cannot be unpacked"):
        unpack(b"<html>")
    with pytest.raises(Bad, match="other bytes"):
        unpack(packed + b"more")
    monkeypatch.setattr(scans, "MAX_SCAN_BYTES", 1000)
    with pytest.raises(Bad, match="larger than"):
        unpack(packed)
