from __future__ import annotations

import shutil

import numpy as np
import pytest

from convcast.dataset import Dataset, preprocess
from convcast.dataset.layout import HourStatus
from convcast.dataset.store import Store
from convcast.errors import DamagedFileError, LockedError, MissingInputError, SettingsError
from convcast.files import lock
from convcast.grid import Grid
from convcast.notation import HOUR
from convcast.settings import DatasetSettings
from convcast.variables import FIELDS, STATIC, GribKey

START = np.datetime64("2024-05-06T00", "h")
MIDDLE = START + HOUR


def statuses(verdicts) -> dict[int, str]:
    return {hour: verdict.status for hour, verdict in sorted(verdicts.items())}


def test_fields_are_exact_on_the_lattice(archive, run):
    _, dataset = run(archive)
    for hour in range(3):
        expected = np.stack(list(archive.weather(START + hour * HOUR).values()))
        np.testing.assert_array_equal(dataset.read([START + hour * HOUR])[0], expected)


def test_static_fields_are_kept(archive, run):
    terrain = np.add.outer(np.arange(24), np.arange(32)) * 3.0
    archive.add_static(terrain)
    _, dataset = run(archive)
    np.testing.assert_array_equal(dataset.static, np.stack([terrain, np.ones_like(terrain)]))
    assert list(STATIC) == ["orog", "lsm"]


def test_second_run_does_nothing(archive, run):
    _, dataset = run(archive)
    before = {path: path.stat().st_mtime_ns for path in dataset.store.path.rglob("*")}
    verdicts, _ = run(archive)
    assert verdicts == {}
    assert {path: path.stat().st_mtime_ns for path in dataset.store.path.rglob("*")} == before


def test_new_hours_are_appended_after_and_before(archive, run):
    run(archive)
    for hour in (-2, -1, 3):
        archive.add_hour(START + hour * HOUR)
    verdicts, dataset = run(archive)
    assert statuses(verdicts) == {-2: "ok", -1: "ok", 3: "ok"}
    assert list(dataset.hours) == [START + hour * HOUR for hour in range(-2, 4)]


def test_only_the_hours_asked_for(archive, tmp_path):
    path = tmp_path / "dataset.zarr"
    units = preprocess(archive, path, settings=DatasetSettings(), hours=np.array([MIDDLE]))
    assert [verdict.valid for verdict in units] == [MIDDLE]


def test_gap_is_recorded_once_and_filled_when_it_comes(archive, run):
    archive.add_hour(START + 4 * HOUR)
    verdicts, dataset = run(archive)
    assert statuses(verdicts) == {0: "ok", 1: "ok", 2: "ok", 3: "gap", 4: "ok"}
    assert list(dataset.status) == [1, 1, 1, 2, 1]
    assert run(archive)[0] == {}
    archive.add_hour(START + 3 * HOUR)
    verdicts, dataset = run(archive)
    assert statuses(verdicts) == {3: "ok"}
    assert list(dataset.status) == [1, 1, 1, 1, 1]


def test_a_crop_keeps_its_place(archive, run):
    _, dataset = run(archive, region="304:320,810:900")
    assert dataset.grid == Grid(16, 22, 304, 810)
    expected = archive.weather(START)["t2m"][4:20, 10:]
    np.testing.assert_array_equal(dataset.read([START])[0, 1], expected)


def test_a_region_elsewhere_is_refused(archive, run):
    with pytest.raises(SettingsError, match="outside the archive"):
        run(archive, region="0:16,0:16")


def test_the_simulated_world_stays_a_torus_unless_cropped(small_archive, run):
    simulated = small_archive(simulated=True)
    simulated.add_static()
    simulated.add_hour(START)
    _, dataset = run(simulated)
    assert (dataset.simulated, dataset.grid.periodic) == (True, True)


def test_a_field_less_and_another_lead(small_archive, run):
    other = small_archive()
    other.add_static()
    other.add_hour(START, lead=1, changed={"refc": None})
    fields = tuple(name for name in FIELDS if name != "refc")
    verdicts, dataset = run(other, fields=fields, analysis_lead=1)
    assert statuses(verdicts) == {0: "ok"}
    assert (tuple(v.name for v in dataset.variables), dataset.analysis_lead) == (fields, 1)


BAD = {
    "truncated": ("damaged", lambda archive, good: archive.add(MIDDLE, good[:-300])),
    "missing message": ("t2m is missing", lambda archive, good: archive.add_hour(MIDDLE, changed={"t2m": None})),
    "doubled message": (
        "there 2 times",
        lambda archive, good: archive.add(
            MIDDLE, good + archive.message("t2m", archive.weather(MIDDLE)["t2m"], MIDDLE)
        ),
    ),
    "mixed-layer CAPE": (
        "cape is missing",
        lambda archive, good: archive.add(
            MIDDLE,
            b"".join(
                archive.message(name, values, MIDDLE, key=GribKey(0, 7, 6, 108, 18000) if name == "cape" else None)
                for name, values in archive.weather(MIDDLE).items()
            ),
        ),
    ),
    "Celsius": (
        "t2m falls to",
        lambda archive, good: archive.add_hour(MIDDLE, changed={"t2m": archive.weather(MIDDLE)["t2m"] - 273.15}),
    ),
    "another grid": ("on another grid", lambda archive, good: archive.add_hour(MIDDLE, grid=Grid(24, 32, 301, 800))),
    "an hour off by one": (
        "where the file's name says",
        lambda archive, good: archive.add(MIDDLE, archive.path(START, 0).read_bytes()),
    ),
    "simulated": ("is simulated, unlike the dataset", lambda archive, good: archive.add_hour(MIDDLE, simulated=True)),
    "flipped byte": (
        "checksum",
        lambda archive, good: archive.path(MIDDLE, 0).write_bytes(good[:2000] + bytes([good[2000] ^ 1]) + good[2001:]),
    ),
    "not GRIB": ("no GRIB message", lambda archive, good: archive.add(MIDDLE, b"<html>Not found</html>" * 20)),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_hour_is_named_and_set_aside(archive, run, case):
    reason, spoil = BAD[case]
    spoil(archive, archive.path(MIDDLE, 0).read_bytes())
    verdicts, dataset = run(archive)
    assert statuses(verdicts) == {0: "ok", 1: "rejected", 2: "ok"}
    assert reason in verdicts[1].reason
    assert reason in dataset.verdicts()[MIDDLE]["reason"]
    assert list(dataset.hours) == [START, START + 2 * HOUR]


def test_a_plateau_of_nan_is_set_aside(archive, run, monkeypatch):
    from convcast import grib

    decode = grib.Message.decode

    def with_plateau(message, *, into=None):
        values = decode(message, into=into)
        if message.header.init == MIDDLE:
            values[:8] = np.nan
        return values

    monkeypatch.setattr(grib.Message, "decode", with_plateau)
    verdicts, _ = run(archive)
    assert statuses(verdicts) == {0: "ok", 1: "rejected", 2: "ok"}
    assert "refc is missing at 33.33%" in verdicts[1].reason


def test_a_rejected_hour_is_judged_again_only_when_its_file_is_another(archive, run):
    archive.add_hour(MIDDLE, changed={"t2m": None})
    run(archive)
    assert run(archive)[0] == {}
    archive.add_hour(MIDDLE)
    verdicts, dataset = run(archive)
    assert statuses(verdicts) == {1: "ok"}
    assert dataset.verdicts()[MIDDLE]["status"] == "ok"


def test_a_warning_is_kept_with_an_hour_that_is_ok(archive, run):
    archive.add_hour(MIDDLE, changed={"cape": archive.weather(MIDDLE)["cape"] + 3000})
    verdicts, dataset = run(archive)
    assert verdicts[1].status == "ok"
    assert "mean of cape moved by 3e+03" in verdicts[1].reason
    (finding,) = dataset.verdicts()[MIDDLE]["findings"]
    assert (finding["check"], finding["rejects"]) == ("jump", False)


def test_a_collapsed_dewpoint_is_missing_in_an_hour_that_is_ok(archive, run):
    dewpoint = archive.weather(MIDDLE)["d2m"]
    dewpoint[3, 4] = 192.125
    archive.add_hour(MIDDLE, changed={"d2m": dewpoint})
    verdicts, dataset = run(archive)
    assert (verdicts[1].status, verdicts[1].reason[:24]) == ("ok", "1 points of d2m collapse")
    (finding,) = dataset.verdicts()[MIDDLE]["findings"]
    assert (finding["check"], finding["figure"]) == ("collapsed", 1)
    assert np.argwhere(np.isnan(dataset.read([MIDDLE])[0])).tolist() == [[2, 3, 4]]


@pytest.fixture
def two_files(archive):
    """Hours whose dewpoint, 1 K higher than the analysis says, lies in f01 of the cycle before."""
    for hour in range(3):
        valid = START + hour * HOUR
        dewpoint = np.minimum(archive.weather(valid)["d2m"] + 1, archive.weather(valid)["t2m"])
        archive.add(valid, archive.message("d2m", dewpoint, valid, lead=1), lead=1)
        archive.add_hour(valid, changed={"d2m": None})
    return archive


def test_dewpoints_come_from_the_cycle_before(two_files, run):
    verdicts, dataset = run(two_files, dewpoint="previous_f01")
    assert statuses(verdicts) == {0: "ok", 1: "ok", 2: "ok"}
    for hour in dataset.hours:
        expected = two_files.weather(hour)
        expected["d2m"] = np.minimum(expected["d2m"] + 1, expected["t2m"])
        np.testing.assert_array_equal(dataset.read([hour])[0], np.stack(list(expected.values())))
    assert run(two_files, dewpoint="previous_f01")[0] == {}
    with pytest.raises(DamagedFileError, match="has dewpoints of previous_f01, the settings analysis"):
        run(two_files)


def test_an_hour_waits_for_the_file_of_the_cycle_before(two_files, run):
    valid = START + 3 * HOUR
    two_files.add_hour(valid)
    assert 3 not in run(two_files, dewpoint="previous_f01")[0]
    two_files.add(valid, two_files.message("t2m", two_files.weather(valid)["t2m"], valid, lead=1), lead=1)
    assert "d2m is missing" in run(two_files, dewpoint="previous_f01")[0][3].reason
    two_files.add(valid, two_files.message("d2m", two_files.weather(valid)["d2m"], valid, lead=1), lead=1)
    assert statuses(run(two_files, dewpoint="previous_f01")[0]) == {3: "ok"}


def test_analyses_of_one_hour_ahead_are_of_one_file(small_archive, run):
    other = small_archive()
    other.add_static()
    other.add_hour(START, lead=1)
    assert statuses(run(other, analysis_lead=1, dewpoint="previous_f01")[0]) == {0: "ok"}


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"fields": ("t2m", "d2m")}, "has the fields"),
        ({"region": "304:320,810:900"}, "is on rows 300:324"),
    ],
)
def test_other_settings_are_refused(archive, run, settings, words):
    run(archive)
    with pytest.raises(DamagedFileError, match=words):
        run(archive, **settings)


def test_another_analysis_lead_is_refused(archive, run):
    run(archive)
    archive.add_hour(START, lead=1)
    with pytest.raises(DamagedFileError, match="analyses of lead 0, the settings 1"):
        run(archive, analysis_lead=1)


def test_another_world_is_refused(archive, small_archive, run):
    run(archive)
    simulated = small_archive(simulated=True)
    simulated.add_static()
    simulated.add_hour(START)
    with pytest.raises(DamagedFileError, match="holds real weather, the archive simulated"):
        run(simulated)


def test_an_empty_archive_says_what_to_do(small_archive, run):
    with pytest.raises(MissingInputError, match="no hour of lead 0") as caught:
        run(small_archive())
    assert "convcast fetch" in caught.value.advice


def test_an_archive_without_ground_says_what_to_do(small_archive, run):
    other = small_archive()
    other.add_hour(START)
    with pytest.raises(MissingInputError, match="no terrain") as caught:
        run(other)
    assert "dataset.ground=flat" in caught.value.advice


def test_without_ground_the_land_can_be_flat(small_archive, run):
    other = small_archive()
    other.add(START, b"damaged")
    other.add_hour(START + HOUR)
    verdicts, dataset = run(other, ground="flat")
    assert {hour: verdict.status for hour, verdict in verdicts.items()} == {0: "rejected", 1: "ok"}
    assert dataset.grid == other.grid
    assert dataset.simulated == other.simulated
    assert np.unique(dataset.static[0]) == 0
    assert np.unique(dataset.static[1]) == 1


def test_without_ground_and_without_a_readable_hour_the_first_problem_is_named(small_archive, run):
    other = small_archive()
    other.add(START, b"damaged")
    with pytest.raises(DamagedFileError, match=str(START)):
        run(other, ground="flat")


def test_two_runs_at_once_do_not_meet(archive, run, tmp_path):
    with lock(tmp_path / "locks" / "dataset.zarr.lock", "preprocessing"), pytest.raises(LockedError):
        run(archive)


def test_files_of_a_killed_run_are_swept(archive, run, tmp_path):
    run(archive)
    litter = tmp_path / "dataset.zarr" / "data" / "c" / "1.abc.partial"
    litter.write_bytes(b"half")
    archive.add_hour(START + 3 * HOUR)
    run(archive)
    assert not litter.exists()


def test_full_disk_loses_nothing(archive, run, tmp_path, monkeypatch):
    from convcast.dataset.store import Store

    run(archive)
    archive.add_hour(START + 3 * HOUR)

    def full(*arguments, **options):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Store, "write_hour", full)
        with pytest.raises(OSError, match="No space left"):
            run(archive)
    assert len(Dataset.open(tmp_path / "dataset.zarr").hours) == 3
    assert statuses(run(archive)[0]) == {3: "ok"}


def test_real_hours(real_archive, run):
    fields = ("t2m", "d2m", "u10", "v10", "cape", "cin")
    units = run(real_archive, fields=fields, analysis_lead=1)
    verdicts, dataset = units
    assert {verdict.status for verdict in verdicts.values()} == {"ok"}
    assert (len(dataset.hours), dataset.grid, dataset.simulated) == (24, Grid(78, 41, 711, 366), False)
    assert 280 < dataset.read(dataset.hours)[:, 0].mean() < 305
    assert 500 < dataset.static[0].mean() < 3500


def test_a_dataset_can_be_moved(archive, run, tmp_path):
    _, dataset = run(archive)
    expected = dataset.read(dataset.hours)
    shutil.move(tmp_path / "dataset.zarr", tmp_path / "elsewhere.zarr")
    moved = Dataset.open(tmp_path / "elsewhere.zarr")
    np.testing.assert_array_equal(moved.read(moved.hours), expected)


def test_an_hour_that_was_let_go_is_not_decoded_again_and_is_no_gap(run, archive):
    _, dataset = run(archive)
    Store.open(dataset.path, writing=True).prune([START, START + HOUR])
    archive.add_hour(START + 3 * HOUR)

    verdicts, dataset = run(archive)

    assert list(verdicts) == [3]
    assert list(dataset.status) == [HourStatus.PRUNED, HourStatus.PRUNED, HourStatus.OK, HourStatus.OK]
    with pytest.raises(MissingInputError, match=r"T00 \(pruned\)"):
        dataset.read([START])
