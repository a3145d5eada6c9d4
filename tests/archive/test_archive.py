from __future__ import annotations

import os

import numpy as np
import pytest

from convcast.archive import Archive, ArchivedMessage, Sidecar
from convcast.errors import DamagedFileError
from convcast.files import sha256

HOURS = np.array(["2024-05-06T23", "2024-05-07T00"], "datetime64[h]")


@pytest.fixture
def archive(tmp_path):
    return Archive(tmp_path / "hrrr")


def store(archive, valid, lead=0, *, simulated=False) -> Sidecar:
    path = archive.path(valid, lead)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"GRIB and more")
    sidecar = Sidecar(
        source="aws",
        url="https://example.org/file.grib2",
        etag='"tag"',
        ranges=((10, 20), (30, 33)),
        messages=(ArchivedMessage("t2m", 0, 10), ArchivedMessage("cape", 10, 3)),
        bytes=13,
        sha256=sha256(path),
        simulated=simulated,
        fetched="2024-05-07T01:00:00Z",
    )
    archive.write_sidecar(path, sidecar)
    return sidecar


def test_path_is_named_for_the_cycle_not_the_valid_hour(archive):
    assert archive.path(HOURS[1], 1) == archive.root / "hrrr.20240506/conus/hrrr.t23z.wrfsfcf01.grib2"


def test_sidecar_comes_back_as_it_was(archive):
    written = store(archive, HOURS[0])
    assert archive.sidecar(archive.path(HOURS[0], 0)) == written


def test_hours_are_in_order_and_of_one_lead(archive):
    for valid in HOURS[::-1]:
        store(archive, valid)
    store(archive, HOURS[0] - 5, lead=1)
    assert archive.hours(0).tolist() == HOURS.tolist()


def test_hours_are_valid_hours(archive):
    store(archive, HOURS[1], lead=1)
    assert archive.hours(1).tolist() == [HOURS[1]]


def test_hour_without_its_sidecar_does_not_count(archive):
    store(archive, HOURS[0])
    archive.remove_sidecar(archive.path(HOURS[0], 0))
    assert archive.hours(0).tolist() == []


def test_empty_archive_has_no_hours_and_no_kind(archive):
    assert (archive.hours(0).tolist(), archive.simulated) == ([], None)


@pytest.mark.parametrize("simulated", [True, False])
def test_kind_is_that_of_its_files(archive, simulated):
    store(archive, HOURS[0], simulated=simulated)
    assert archive.simulated is simulated


def test_file_of_another_size_is_damaged(archive):
    store(archive, HOURS[0])
    archive.path(HOURS[0], 0).write_bytes(b"GRIB")
    with pytest.raises(DamagedFileError, match="has 4 bytes where its sidecar says 13"):
        archive.sidecar(archive.path(HOURS[0], 0))


def test_missing_sidecar_is_named(archive):
    with pytest.raises(DamagedFileError, match=r"wrfsfcf00\.grib2\.json is missing"):
        archive.sidecar(archive.path(HOURS[0], 0))


def test_file_has_only_what_its_sidecar_holds(archive):
    sidecar = store(archive, HOURS[0])
    path = archive.path(HOURS[0], 0)
    assert (archive.has(path, ["cape"]), archive.has(path, ["cape", "cin"])) == (sidecar, None)


@pytest.mark.parametrize("number", ["9" * 20, "0", "99999999999"])
def test_a_partial_file_of_a_process_that_cannot_be_is_swept(tmp_path, number):
    from convcast.files import HOST, sweep

    leftovers = [tmp_path / f".x.grib2.{HOST}-{number}-0.partial", tmp_path / f"x.grib2.{number}.partial"]
    for path in leftovers:
        path.write_bytes(b"half")
        os.utime(path, (0, 0))
    sweep(tmp_path)
    assert [path for path in leftovers if path.exists()] == []
