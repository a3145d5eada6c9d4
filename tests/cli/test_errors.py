"""A failure is one sentence, the next thing to do, and the documented exit code."""

import errno
import os
import re
import socket
from pathlib import Path

import numpy as np
import pytest

from convcast.cli.common.session import in_workspace
from convcast.grib import encode
from convcast.grid import Grid
from convcast.variables import CAPE, FIELDS, STATIC

INIT = np.datetime64("2024-05-01T00", "h")
GRID = Grid(40, 48, 400, 900)


def publish(root, hours, *, fields=FIELDS, change=None):
    """A folder of HRRR-like files; `change` alters the encoder's arguments for a field's name."""
    for number in range(hours):
        init = INIT + np.timedelta64(number, "h")
        messages = []
        for name, variable in ({k: FIELDS[k] for k in fields} | STATIC).items():
            low, high = variable.display
            values = np.random.default_rng(number).uniform(low, high, GRID.shape)
            if name == "d2m":
                values -= 12
            arguments = {"key": variable.grib, "grid": GRID, "init": init, "lead_hours": 0, "simulated": False}
            messages.append(encode(values, **arguments | (change(name) if change else {})))
        day, hour = str(init).split("T")
        path = root / f"hrrr.{day.replace('-', '')}" / "conus" / f"hrrr.t{hour}z.wrfsfcf00.grib2"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"".join(messages))
    return root


def sentence(result, code):
    assert result.exit_code == code, result.output
    lines = result.stderr.strip().splitlines()
    assert "Traceback" not in result.stderr
    (said,) = [line for line in lines if line.startswith("convcast: ")]
    return said + " ".join(line for line in lines if line.lstrip().startswith("→"))


@pytest.mark.parametrize("verb", ["preprocess", "train", "sample", "verify", "status"])
def test_a_folder_that_is_no_workspace(convcast, verb):
    said = sentence(convcast(verb), 2)

    assert "w is not a convcast workspace" in said
    assert "convcast demo" in said


def test_a_folder_of_other_things(convcast, tmp_path):
    (tmp_path / "w").mkdir()
    (tmp_path / "w" / "thesis.tex").touch()

    assert "holds other things" in sentence(convcast("fetch", "--source", "simulated"), 2)


def test_a_disk_that_fails(convcast, monkeypatch):
    def broken(descriptor):
        raise OSError(errno.EIO, os.strerror(errno.EIO), "w/convcast.toml")

    monkeypatch.setattr("os.fsync", broken)

    said = sentence(convcast("fetch", "--source", "simulated", "--days", "1"), 6)

    assert "the disk failed to read or write (w/convcast.toml)" in said


def test_unreadable_toml(convcast, tmp_path):
    (tmp_path / "w").mkdir()
    (tmp_path / "w" / "convcast.toml").write_text("preset = = phase1")

    assert "not readable TOML" in sentence(convcast("status"), 2)


def test_an_unknown_setting_in_the_file(convcast, tmp_path):
    (tmp_path / "w").mkdir()
    (tmp_path / "w" / "convcast.toml").write_text("[training]\nbach = 3\n")

    assert "did you mean training.batch?" in sentence(convcast("status"), 2)


def test_an_unknown_field(convcast):
    assert "did you mean cape?" in sentence(convcast("fetch", "--fields", "refc,capes"), 2)


def test_an_unknown_source(convcast):
    assert "did you mean simulated?" in sentence(convcast("fetch", "--source", "simulatd"), 2)


def test_no_network_says_how_to_go_on(convcast):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{closed.getsockname()[1]}"
        said = sentence(convcast("fetch", "--source", address, "--days", "1", "--set", "archive.retries=0"), 3)

    assert "--source" in said
    assert "convcast demo" in said


@pytest.mark.parametrize("more", [(), ("--dry-run",), ("--what", "refs", "--days", "1")])
def test_no_network_is_said_once(convcast, monkeypatch, more):
    """Also where Azure, whose addresses another server signs, is among the sources."""
    monkeypatch.setattr("convcast.archive.web.http.FIRST_WAIT", 0.01)
    monkeypatch.setattr("convcast.archive.sources.NOMADS_PAUSE", 0.01)
    monkeypatch.setattr("urllib3.util.connection.create_connection", unreachable)
    done = convcast("fetch", "--days", "14", *more)
    assert (done.exit_code, done.output.count("no connection can be made")) == (3, 1)
    assert len(done.output.splitlines()) < 8


def unreachable(*_, **__):
    raise socket.gaierror(-3, "Temporary failure in name resolution")


def test_a_dry_run_exits_as_the_run_would(convcast, tmp_path):
    publish(tmp_path / "hrrr", 2, fields=("t2m", "d2m"))
    period = ("--start", "2024-05-01T00", "--end", "2024-05-01T01", "--source", "hrrr", "--dry-run")

    assert convcast("fetch", "--fields", "t2m,d2m", *period).exit_code == 0
    assert "2 of 2 hours are not here" in sentence(convcast("fetch", "--set", 'dataset.fields=["refc"]', *period), 3)


@pytest.mark.parametrize(
    "words",
    [
        ("fetch", "--start", "{}"),
        ("fetch", "--start", "2024-05-01", "--end", "{}"),
        ("fetch", "--start", "2024-05-01", "--end", "2024-05-02", "--now", "{}"),
        ("sample", "--init", "{}"),
        ("sample", "--init", "2024-05-01/{}"),
        ("verify", "--init", "{}"),
        ("plot", "--init", "{}"),
        ("export", "--init", "{}"),
        ("cycle", "--now", "{}"),
        ("status", "--now", "{}"),
    ],
)
@pytest.mark.parametrize("time", ["0001-01-01", "9999-12-31T23", "99999999999999"])
def test_a_time_that_cannot_be_is_refused_wherever_one_is_typed(convcast, tmp_path, words, time):
    publish(tmp_path / "hrrr", 1)
    (tmp_path / "w").mkdir()
    (tmp_path / "w" / "convcast.toml").write_text('preset = "phase1"\n[archive]\nsources = ["hrrr"]\n')
    assert time in sentence(convcast(*(word.format(time) for word in words)), 2)


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("fetch", "--source", "{}", "--start", "2024-05-01T00", "--end", "2024-05-01T01", "--json"), 3),
        (("fetch", "--source", "{}", "--start", "2024-05-01T00", "--end", "2024-05-01T01", "-v", "--dry-run"), 3),
        (("check", "--set", 'archive.sources=["{}"]'), None),
        (("status", "--set", "archive.sources={}"), 2),
        (("status", "--set", "archive.workers={}"), 2),
        (("fetch", "--source", "{}?x"), 2),
        (("fetch", "--source", "{}#x"), 2),
    ],
)
@pytest.mark.parametrize("address", ["http://me:secret@127.0.0.1:9/x", "https://me:secret@127.0.0.1:9"])
def test_a_password_in_a_source_s_address_is_nowhere(convcast, tmp_path, monkeypatch, words, code, address):
    monkeypatch.setattr("convcast.operations.readiness.checks._libraries", lambda: iter(()))  # which see no address
    monkeypatch.setattr("convcast.archive.web.http._wait", lambda number: 0.0)  # before each retry
    done = convcast(*(word.format(address) for word in words))
    assert code in (None, done.exit_code), done.output
    written = [path.read_bytes() for path in (tmp_path / "w").rglob("*") if path.is_file()]
    assert not any(b"secret" in data for data in [done.output.encode(), *written])


@pytest.mark.parametrize(
    "address", ["ftp://me:secret@host", "me:secret@host", "http://me:se/secret@h", "http://[/secret"]
)
def test_an_address_that_is_none_is_refused_without_it(convcast, address):
    assert "secret" not in sentence(convcast("fetch", "--source", address, "--days", "1"), 2)


def test_an_empty_directory(convcast, tmp_path):
    (tmp_path / "empty").mkdir()

    assert "holds no HRRR files" in sentence(convcast("fetch", "--source", "empty"), 3)


def test_days_and_start_together(convcast):
    assert "--days does not go with --start" in sentence(
        convcast("fetch", "--days", "2", "--start", "2024-05-01T00"), 2
    )


def test_a_missing_field_is_named(convcast, tmp_path):
    publish(tmp_path / "hrrr", 2, fields=("t2m", "d2m"))

    said = sentence(convcast("fetch", "--source", "hrrr", "--start", "2024-05-01T00"), 3)
    assert "refc" in said


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda _: {"grid": Grid(40, 48, 400, 900), "key": CAPE.grib}, "t2m"),
        (lambda _: {"init": INIT + np.timedelta64(50, "h")}, "2024-05-03T02"),
    ],
    ids=["another level", "another hour"],
)
def test_a_file_that_is_not_what_it_is_called(convcast, tmp_path, change, words):
    publish(tmp_path / "hrrr", 1, fields=("t2m", "d2m"), change=change)

    said = sentence(convcast("fetch", "--source", "hrrr", "--start", "2024-05-01T00", "--fields", "t2m,d2m"), 3)
    assert words in said


def test_a_grid_that_changes_is_rejected_and_the_other_hours_stay(convcast, tmp_path):
    publish(tmp_path / "hrrr", 3, fields=("t2m", "d2m"))
    other = tmp_path / "other"
    publish(other, 4, fields=("t2m", "d2m"), change=lambda _: {"grid": Grid(40, 48, 300, 300)})
    name = "hrrr.20240501/conus/hrrr.t03z.wrfsfcf00.grib2"
    (other / name).rename(tmp_path / "hrrr" / name)
    assert convcast("fetch", "--source", "hrrr", "--start", "2024-05-01T00", "--fields", "t2m,d2m").exit_code == 0

    said = sentence(convcast("preprocess"), 3)

    assert "1 of 4 hours were rejected" in said
    status = convcast("status")
    assert "(3 hours), 1 rejected" in status.output


def test_an_ensemble_without_members_is_refused(convcast, tmp_path):
    (tmp_path / "w").mkdir()
    (tmp_path / "w" / "convcast.toml").write_text('preset = "demo"\n')

    assert "at least one member" in sentence(convcast("sample", "--members", "0"), 2)


def test_another_run_holds_the_lock(convcast, tmp_path):
    from convcast.files import lock

    publish(tmp_path / "hrrr", 1)
    with lock(tmp_path / "w" / "locks" / "fetch.lock", "fetching"):
        (tmp_path / "w" / "convcast.toml").write_text('preset = "phase1"\n')
        assert "another run is fetching" in sentence(convcast("fetch", "--source", "hrrr", "--days", "1"), 5)


@pytest.mark.parametrize(
    ("advice", "complete"),
    [
        ("run `convcast train`", "run `convcast train -w 'my w'`"),
        ("run `convcast fetch --days 1`, then `convcast preprocess`", None),
        ("run `convcast sample -w other`", "run `convcast sample -w other`"),
        ("run `convcast fetch --workspace=x`", "run `convcast fetch --workspace=x`"),
        ("try `convcast demo`, or see `convcast check`", "try `convcast demo`, or see `convcast check`"),
        ("use --leads 1", "use --leads 1"),
    ],
)
def test_commands_of_an_advice_name_the_workspace(advice, complete):
    expected = complete or "run `convcast fetch --days 1 -w 'my w'`, then `convcast preprocess -w 'my w'`"
    assert in_workspace(advice, Path("my w")) == expected


def test_a_command_can_be_typed_as_it_stands(convcast, tmp_path):
    convcast("init", "other", "--preset", "demo")

    said = sentence(convcast("sample", "-w", "other"), 2)

    assert re.search(r"`convcast [a-z]+ [^`]*-w other`", said), said


def test_no_advice_names_a_setting_without_a_command():
    package = Path(__file__).resolve().parents[2] / "convcast"
    groups = "archive|dataset|split|model|training|sampling|verification|products|retention|operations|simulation"
    keyed = re.compile(rf"advice=[^)]*(?<!--)\b(?:set|lower|raise|with|among|less:) (?:{groups})\.")
    named = [path.name for path in package.rglob("*.py") if keyed.search(path.read_text())]
    assert named == []
