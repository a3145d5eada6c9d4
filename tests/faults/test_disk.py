"""A run that fails because of the disk, the archive or the user leaves complete files."""

from __future__ import annotations

import errno
import os

import laboratory as lab
import pytest

from convcast import files
from convcast.archive import Archive, fetch, verify_archive
from convcast.archive.archive import sidecar_path
from convcast.errors import DamagedFileError

WHOLE = {"static.grib2", "static.grib2.json"} | {
    f"hrrr.20240506/conus/hrrr.t18z.wrfsfcf00.grib2{suffix}" for suffix in ("", ".json")
}


def test_a_fetched_hour_is_its_file_its_sidecar_and_the_static_fields(run):
    assert run().files == WHOLE


def test_second_run_asks_the_server_nothing(run):
    run()
    again = run()
    assert (again.outcome.status, again.scripts[0].requests) == ("cached", [])


def test_full_disk_escapes_as_it_is_and_leaves_nothing(run, tmp_path, monkeypatch):
    def full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        run(hours=lab.HOURS)
    assert [path for path in (tmp_path / "archive").rglob("*") if path.is_file()] == []


def test_full_disk_keeps_what_was_complete(run, tmp_path, monkeypatch):
    run()

    def full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        run(hours=lab.HOURS)
    assert Archive(tmp_path / "archive").hours(0).tolist() == [lab.HOUR]


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.write_bytes(path.read_bytes()[:-1]),
        lambda path: path.unlink(),
        lambda path: sidecar_path(path).unlink(),
        lambda path: sidecar_path(path).write_text("{"),
        lambda path: sidecar_path(path).write_text("[]"),
        lambda path: sidecar_path(path).write_text('{"bytes": 3}'),
    ],
    ids=["short file", "no file", "no sidecar", "half a sidecar", "another sidecar", "sidecar without parts"],
)
def test_an_incomplete_file_is_fetched_again(run, damage):
    path = run().archive.path(lab.HOUR, 0)
    damage(path)
    again = run()
    assert (again.outcome.status, again.data(), again.files) == ("ok", lab.subset(lab.HOUR), WHOLE)


def test_hour_without_a_field_that_is_now_wanted_is_fetched_again(run):
    run(variables=lab.VARIABLES[:2])
    assert run().outcome.status == "ok"


def test_hour_with_more_fields_than_wanted_is_cached(run):
    run()
    assert run(variables=lab.VARIABLES[:2]).outcome.status == "cached"


def test_leftovers_of_a_dead_process_are_swept(run):
    path = run().archive.path(lab.HOUR, 0)
    leftover = path.with_name(f".{path.name}.{files.HOST}-{2**22 + 1}-0.partial")
    leftover.write_bytes(b"GRIB")
    assert run().files == WHOLE


def test_leftovers_of_a_running_process_stay(run):
    path = run().archive.path(lab.HOUR, 0)
    path.with_name(f".{path.name}.{files.HOST}-{os.getppid()}-0.partial").write_bytes(b"GRIB")
    assert len(run().files - WHOLE) == 1


def test_simulated_files_are_refused_by_a_real_archive(run, tmp_path):
    done = run()
    for hour in lab.HOURS[:2]:
        lab.publish(tmp_path / "simulated-bucket", hour, simulated=True)
    with pytest.raises(DamagedFileError, match="holds real files and cannot take simulated ones"):
        run(root=tmp_path / "simulated-bucket", hours=lab.HOURS[:2])
    assert done.files == WHOLE


def test_archive_says_that_it_is_simulated(run, tmp_path):
    lab.publish(tmp_path / "simulated-bucket", lab.HOUR, simulated=True)
    assert run(root=tmp_path / "simulated-bucket").archive.simulated is True


def test_archive_says_that_it_is_real(run):
    assert run().archive.simulated is False


def test_verify_finds_one_changed_byte_and_the_next_fetch_mends_it(run):
    path = run().archive.path(lab.HOUR, 0)
    data = bytearray(path.read_bytes())
    data[200] ^= 1
    path.write_bytes(data)
    assert [o.status for o in verify_archive(Archive(path.parents[2]))] == ["ok", "bad"]
    again = run()
    assert (again.outcome.status, again.data()) == ("ok", lab.subset(lab.HOUR))


def test_deadline_ends_the_run_between_hours(run):
    done = run(hours=lab.HOURS, deadline=1e-9)
    assert {(o.status, o.reason.rpartition(": ")[2]) for o in done.outcomes} == {
        ("transient", "the run's deadline passed")
    }


def test_stopped_consumer_leaves_whole_files(bucket, tmp_path):
    from convcast.archive import open_sources
    from convcast.settings.load import load_settings
    from convcast.workspace import Workspace

    settings, archive = load_settings(), Archive(tmp_path / "archive")
    with open_sources([str(bucket)], workspace=Workspace(tmp_path), settings=settings) as sources:
        options = {"variables": lab.VARIABLES, "lead": 0, "settings": settings.archive, "now": lab.HOURS[-1]}
        outcomes = fetch(archive, sources, lab.HOURS, **options)
        first = next(outcomes)
        outcomes.close()
    assert archive.path(first.valid, 0).read_bytes() == lab.subset(first.valid)
    assert list(archive.root.rglob("*.partial")) == []


def test_old_sidecar_does_not_vouch_for_a_new_file(run, monkeypatch):
    """Killed between naming the new file and writing its sidecar."""
    path = run(variables=lab.VARIABLES[:2]).archive.path(lab.HOUR, 0)

    def killed(self, path, sidecar):
        raise RuntimeError("killed")

    monkeypatch.setattr(Archive, "write_sidecar", killed)
    with pytest.raises(RuntimeError):
        run()
    assert (path.read_bytes(), sidecar_path(path).exists()) == (lab.subset(lab.HOUR), False)
