"""Nothing that is read or named leads out of the workspace, nor a server anywhere but to the web."""

from __future__ import annotations

import laboratory as lab
import pytest
from hypothesis import given, strategies as st
from laboratory import Rule
from spoiling import examples

from convcast.archive import locations, verify_archive
from convcast.archive.archive import Archive, sidecar_path
from convcast.errors import DamagedFileError, SettingsError
from convcast.files import write_bytes
from convcast.workspace import Workspace

ELSEWHERE = ["../x", "/etc/x", "..", ".", "", "a/b", "a/../../b", "x/", ".hidden", "a\0b", "a\nb", "é" * 200, "\ud800"]


@pytest.mark.parametrize("name", ELSEWHERE)
@pytest.mark.parametrize("room", ["model", "verification", "lock"])
def test_a_name_is_no_path(tmp_path, room, name):
    with pytest.raises(SettingsError, match="cannot be a file name"):
        getattr(Workspace(tmp_path), room)(name)


@given(st.text(max_size=12))
@examples(200)
def test_whatever_a_name_is_its_place_is_in_the_workspace(tmp_path, name):
    try:
        place = Workspace(tmp_path).model(name)
    except SettingsError:
        return
    assert place.resolve().parent == (tmp_path / "models").resolve()


@given(
    st.text("hr.efs0123456789/t:zwrfsfcgib2\0\\", max_size=60)
    | st.just("hrrr.20240506/conus/hrrr.t18z.wrfsfcf00.grib2")
)
@examples(300)
def test_a_path_that_a_folder_has_names_no_other_place_of_the_archive(name):
    parsed = locations.parse_path(name)
    assert parsed is None or ".." not in locations.archive_path(parsed).parts


@pytest.mark.parametrize("name", ["hrrr.20240506/../../hrrr.t18z.wrfsfcf00.grib2", "/hrrr.20240506/conus/x.grib2"])
def test_a_path_with_dots_is_none_of_the_bucket(name):
    assert locations.parse_path(name) is None


@pytest.fixture
def elsewhere(tmp_path):
    """A folder outside of the archive that an archive's day is a link to, with a file and what looks like a sidecar."""
    outside = tmp_path / "outside"
    file = outside / "conus" / "hrrr.t18z.wrfsfcf00.grib2"
    write_bytes(file, b"GRIB, but not ours")
    write_bytes(sidecar_path(file), b"{}")
    day = tmp_path / "archive" / "hrrr.20240506"
    day.parent.mkdir()
    day.symlink_to(outside)
    return file


def test_a_linked_day_is_neither_read_nor_written_nor_cleaned(run, tmp_path, elsewhere):
    before = {path: path.read_bytes() for path in elsewhere.parent.iterdir()}
    archive = Archive(tmp_path / "archive")
    with pytest.raises(DamagedFileError, match="leads out of the archive"):
        archive.sidecar(archive.path(lab.HOUR, 0))
    assert archive.hours(0).tolist() == []
    assert list(verify_archive(archive)) == []
    with pytest.raises(DamagedFileError, match="leads out of the archive"):
        run([])
    assert {path: path.read_bytes() for path in elsewhere.parent.iterdir()} == before


def test_a_linked_file_is_replaced_and_what_it_led_to_stays(run, tmp_path):
    secret = tmp_path / "secret"
    secret.write_text("not ours")
    path = Archive(tmp_path / "archive").path(lab.HOUR, 0)
    path.parent.mkdir(parents=True)
    path.symlink_to(secret)
    done = run([])
    assert done.outcome.status == "ok"
    assert not path.is_symlink()
    assert secret.read_text() == "not ours"


def test_an_archive_that_is_itself_elsewhere_is_used(run, tmp_path):
    """An operator may keep it on another disk."""
    (tmp_path / "disk").mkdir()
    (tmp_path / "archive").symlink_to(tmp_path / "disk")
    assert run([]).outcome.status == "ok"
    assert Archive(tmp_path / "archive").hours(0).tolist() == [lab.HOUR]


@pytest.mark.parametrize("to", ["file:///etc/passwd", "ftp://127.0.0.1/x", "gopher://127.0.0.1/x", "data:,x"])
@pytest.mark.parametrize("ending", [".idx", ".grib2"])
def test_a_redirect_leads_to_the_web_alone(run, to, ending):
    def answer(handler):
        handler.respond(302, b"", {"Location": to})
        return True

    done = run([Rule(ending, answer)])
    assert (done.outcome.status, done.files) == ("bad", set())
    assert "cannot be used" in done.outcome.reason


def test_redirects_are_few(run):
    """A server that sends on to an ever new address is asked no more than a few times."""

    def answer(handler):
        handler.respond(302, b"", {"Location": f"/{len(handler.script.requests)}.idx"})
        return True

    done = run([Rule(".idx", answer)])
    assert done.outcome.status == "bad"
    assert len(done.scripts[0].requests) < 10
