"""Old files are deleted, needed ones stay, and a kill in between leaves nothing half deleted."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from convcast import files
from convcast.archive import Archive
from convcast.archive.archive import sidecar_path
from convcast.dataset import Dataset, HourStatus
from convcast.files import lock
from convcast.notation import HOUR, compact
from convcast.operations.inventory import ForecastSummary, Inventory, ModelSummary
from convcast.operations.plan import CycleLimits
from convcast.operations.retention import PrunePlan, StoredFiles, list_stored_files, plan_prune, prune, sweep
from convcast.operations.status import lookback
from convcast.settings import RetentionSettings
from convcast.workspace import Workspace

NOW = np.datetime64("2024-05-20T05", "h")
MODEL = ModelSummary(4, (1,), (NOW - 400 * HOUR, NOW - 300 * HOUR))
LIMITS = CycleLimits(catch_up=24)
FOREVER = RetentionSettings(archive_hours=float("inf"), forecasts_days=float("inf"))
SCORED = ForecastSummary(True, (1,), members=50)


def hour(age):
    return NOW - age * HOUR


def named(tmp_path, ages, suffix=".zarr"):
    return {tmp_path / f"{compact(hour(age))}{suffix}": hour(age) for age in ages}


def ages(paths, stock):
    return sorted(int((NOW - stock[path]) / HOUR) for path in paths)


@pytest.fixture
def place(tmp_path):
    return Workspace(tmp_path / "w")


def archived(place, age, *, bytes_=b"GRIB" * 8):
    path = Archive(place.archive / "hrrr").path(hour(age), 0)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(bytes_)
    sidecar_path(path).write_text("{}")
    return path


def stored(path, contents=b"x" * 100):
    (path / "t2m").mkdir(parents=True)
    (path / "t2m" / "0").write_bytes(contents)
    said = {"zarr_format": 3, "node_type": "group", "attributes": {"format": "convcast ensemble"}}
    (path / "zarr.json").write_text(json.dumps(said))
    return path


def test_by_default_the_archive_and_the_members_go_and_the_rest_stays(tmp_path):
    files = named(tmp_path, [0, 300, 335, 337, 900])
    stock = StoredFiles(
        archive={path: (valid, True) for path, valid in files.items()},
        dataset=(hour(900),),
        forecasts=files,
        products=files,
        statistics=files,
    )
    plan = plan_prune(stock, Inventory(NOW), LIMITS, RetentionSettings())

    assert ages(plan.archive, files) == [337, 900]
    assert ages(plan.forecasts, files) == [300, 335, 337, 900]
    assert (plan.dataset, plan.products, plan.statistics) == ((), (), ())


def test_hours_that_a_cycle_may_fetch_or_start_from_stay(tmp_path):
    files = named(tmp_path, [0, 1, 24, 28, 29, 50])
    stock = StoredFiles(archive={path: (valid, True) for path, valid in files.items()}, dataset=tuple(files.values()))
    keep = RetentionSettings(archive_hours=1, dataset_hours=1, forecasts_days=0.1)
    plan = plan_prune(stock, Inventory(NOW, model=MODEL), LIMITS, keep)

    assert ages(plan.archive, files) == [29, 50]
    assert list(plan.dataset) == [hour(29), hour(50)]


def test_nothing_grows_old_by_a_clock_that_is_wrong_or_in_an_outage(tmp_path):
    files = named(tmp_path, [0, 300])
    stock = StoredFiles(archive={path: (valid, True) for path, valid in files.items()}, forecasts=files)
    there = Inventory(
        NOW + 9000 * HOUR, archived=frozenset(files.values()), hour_status=dict.fromkeys(files.values(), HourStatus.OK)
    )

    plan = plan_prune(stock, there, LIMITS, RetentionSettings())

    assert (plan.archive, ages(plan.forecasts, files)) == ((), [300])


@pytest.mark.parametrize("ahead", [0, 24, 24 * 365])
def test_members_to_be_scored_stay_when_the_clock_is_ahead(tmp_path, ahead):
    expected = NOW + ahead * HOUR
    known = {hour(age): SCORED for age in (4, 5) if hour(age) >= expected - lookback(LIMITS)}
    inventory = Inventory(expected, hour_status={NOW: HourStatus.OK}, forecasts=known, model=MODEL)
    files = named(tmp_path, [4, 5])
    keep = RetentionSettings(forecasts_days=0.1)

    assert plan_prune(StoredFiles(forecasts=files), inventory, LIMITS, keep).forecasts == ()


def test_archived_hours_that_the_dataset_has_not_seen_stay(tmp_path):
    files = named(tmp_path, [400, 401, 402])
    stock = StoredFiles(archive={path: (valid, True) for path, valid in files.items()})
    there = Inventory(
        NOW, archived=frozenset(files.values()), hour_status={hour(400): HourStatus.OK, hour(401): HourStatus.REJECTED}
    )

    there = replace(there, archived=there.archived | {NOW})
    assert ages(plan_prune(stock, there, LIMITS, RetentionSettings()).archive, files) == [400, 401]


def test_members_to_be_scored_stay_and_so_do_the_hours_they_start_from(tmp_path):
    files = named(tmp_path, [20, 22, 40])
    stock = StoredFiles(
        forecasts=files, dataset=tuple(hour(age) for age in (18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 60))
    )
    keep = RetentionSettings(forecasts_days=0.1, dataset_hours=1)
    there = Inventory(
        NOW, forecasts={hour(20): SCORED, hour(22): SCORED}, scored=frozenset({(hour(20), 1)}), model=MODEL
    )
    plan = plan_prune(stock, there, CycleLimits(catch_up=21), keep)

    assert ages(plan.forecasts, files) == [20, 40], "22 is due by the analysis of 21"
    assert list(plan.dataset) == [hour(26), hour(27), hour(60)], "25 to 22 is its history"


def test_training_hours_of_the_model_stay_in_the_dataset():
    stock = StoredFiles(dataset=tuple(hour(age) for age in (299, 300, 350, 400, 401)))
    plan = plan_prune(stock, Inventory(NOW, model=MODEL), LIMITS, RetentionSettings(dataset_hours=48))

    assert list(plan.dataset) == [hour(299), hour(401)]


def test_forecasts_of_other_systems_stay_as_long_as_ours_are_scored_beside_them(tmp_path):
    files = named(tmp_path, [400, 420, 500])
    others = {path: (valid, False) for path, valid in files.items()}
    ours = {tmp_path / "ours.zarr": hour(400)}

    plan = plan_prune(StoredFiles(archive=others, forecasts=ours), Inventory(NOW), LIMITS, FOREVER)
    assert plan.archive == ()
    keep = replace_keep(archive_hours=100)
    plan = plan_prune(StoredFiles(archive=others, forecasts=ours), Inventory(NOW), LIMITS, keep)
    assert ages(plan.archive, files) == [500]
    plan = plan_prune(StoredFiles(archive=others), Inventory(NOW), LIMITS, keep)
    assert ages(plan.archive, files) == [400, 420, 500]


def replace_keep(**changes):
    return FOREVER.model_copy(update=changes)


def test_statistics_stay_while_their_members_do(tmp_path):
    old = named(tmp_path, [400, 500], "+001h.npz")
    stock = StoredFiles(statistics=old, forecasts=named(tmp_path, [400]))
    plan = plan_prune(stock, Inventory(NOW), LIMITS, replace_keep(statistics_days=1))

    assert ages(plan.statistics, old) == [500]


def test_members_that_a_killed_run_left_on_their_way_to_products_go(tmp_path):
    files = named(tmp_path, [3, 24, 25], ".members.zarr")
    assert ages(plan_prune(StoredFiles(temporary=files), Inventory(NOW), LIMITS, FOREVER).forecasts, files) == [25]


def test_stock_is_what_lies_in_the_rooms(place):
    analysis = archived(place, 30)
    other = Archive(place.archive / "hrrr").path(hour(30), 3)
    other.parent.mkdir(parents=True, exist_ok=True)
    other.write_bytes(b"GRIB")
    ensemble = stored(place.forecast(hour(30)))
    stored(place.forecasts / "mine.zarr")
    product = stored(place.product(hour(31)))
    temporary = stored(place.temporary_members(hour(33)))
    case = place.verification("operational") / "cases" / "convcast" / f"{compact(hour(32))}+003h.npz"
    case.parent.mkdir(parents=True)
    case.touch()

    stock = list_stored_files(place, analysis_lead=0, dataset=True)

    assert stock.archive == {analysis: (hour(30), True), other: (hour(30), False)}
    assert (stock.forecasts, stock.products) == ({ensemble: hour(30)}, {product: hour(31)})
    assert stock.temporary == {temporary: hour(33)}
    assert stock.statistics == {case: hour(32)}
    assert stock.dataset == ()


def test_links_and_what_others_made_are_never_pruned(place, tmp_path):
    elsewhere = stored(tmp_path / "elsewhere.zarr")
    place.forecasts.mkdir(parents=True)
    place.products.mkdir()
    for path in (place.forecast(hour(900)), place.product(hour(900)), place.temporary_members(hour(900))):
        path.symlink_to(elsewhere)
    place.forecast(hour(901)).symlink_to(tmp_path / "nothing")
    place.forecast(hour(902)).write_text("rubbish")
    (stored(place.forecast(hour(903))) / "zarr.json").write_text("rubbish")
    (stored(place.forecast(hour(904))) / "zarr.json").write_text('{"zarr_format": 3, "node_type": "group"}')

    stock = list_stored_files(place, analysis_lead=0, dataset=False)
    sweep(place, [hour(900)])

    assert (stock.forecasts, stock.products, stock.temporary) == ({}, {}, {})
    assert (elsewhere / "t2m" / "0").is_file()


def test_pruning_deletes_what_was_planned_and_nothing_beside_it(place):
    gone, stays = archived(place, 900), archived(place, 0)
    forecasts = [stored(place.forecast(hour(age))) for age in (900, 0)]

    went = prune(place, PrunePlan(archive=(gone,), forecasts=(forecasts[0],)))

    assert went.counts == {"archive": 1, "forecasts": 1}
    assert went.bytes == 132 + (forecasts[1] / "zarr.json").stat().st_size
    assert not gone.parent.parent.exists(), "no empty folder stays"
    assert stays.exists()
    assert sidecar_path(stays).exists()
    assert sorted(place.forecasts.iterdir()) == [forecasts[1]]
    assert prune(place, PrunePlan(archive=(gone,), forecasts=(forecasts[0],))).bytes == 0, "again it is nothing"


@pytest.mark.parametrize(("room", "guard"), [("archive", "fetch"), ("forecasts", "sample")])
def test_a_room_that_another_run_is_at_is_left_alone(place, room, guard):
    thing = archived(place, 900) if room == "archive" else stored(place.forecast(hour(900)))

    with lock(place.lock(guard), "at it"):
        went = prune(place, PrunePlan(**{room: (thing,)}))

    assert (went.left, went.counts) == ([room], {})
    assert thing.exists()


KILLED = """
import shutil, sys, os, signal
from pathlib import Path
from convcast.operations.status import lookback
from convcast.operations.retention import PrunePlan, prune
from convcast.workspace import Workspace
shutil.rmtree = lambda path, *rest, **more: os.kill(os.getpid(), signal.SIGKILL)
root, path = map(Path, sys.argv[1:])
prune(Workspace(root), PrunePlan(forecasts=(path,)))
"""


def test_a_picture_that_a_killed_cycle_was_writing_is_swept(place):
    place.page.mkdir(parents=True)
    (place.page / f".mean.png.{files.HOST}-999999999-0.partial").touch()
    (place.page / "mean.png").touch()
    assert sweep(place, ()) == 1
    assert [path.name for path in place.page.iterdir()] == ["mean.png"]


def test_killed_while_deleting_nothing_half_there_is_left_and_the_next_sweeps_it(place):
    path = stored(place.forecast(hour(900)))
    killed = subprocess.run([sys.executable, "-c", KILLED, str(place.root), str(path)], check=False)
    assert killed.returncode < 0

    assert not path.exists()
    (left,) = place.forecasts.iterdir()
    assert left.name.endswith(".partial")
    assert sweep(place, ()) == 1
    assert list(place.forecasts.iterdir()) == []


def test_files_of_a_running_process_are_not_swept_and_old_nameless_pieces_are(place):
    folder = place.forecast(hour(0)) / "t2m"
    folder.mkdir(parents=True)
    mine = place.root / f".latest.json.{files.HOST}-{os.getpid()}-0.partial"
    fresh, stale = folder / "0.1a2b.partial", folder / "1.1a2b.partial"
    for path in (mine, fresh, stale):
        path.touch()
    os.utime(stale, (0, 0))

    assert sweep(place, [hour(0)]) == 1
    assert [path.exists() for path in (mine, fresh, stale)] == [True, True, False]


def test_pruned_hours_of_the_dataset_are_gone_for_good(place, dataset_of):
    dataset_of(place.dataset, [hour(age) for age in (3, 2, 1, 0)])
    before = Dataset.open(place.dataset).store.stored_hours()
    assert before.tolist() == [hour(age).item() for age in (3, 2, 1, 0)]

    went = prune(place, PrunePlan(dataset=(hour(3), hour(2))))

    dataset = Dataset.open(place.dataset)
    assert went.counts == {"dataset": 2}
    assert went.bytes > 0
    assert dataset.hours.tolist() == [hour(1).item(), hour(0).item()]
    assert dataset.store.stored_hours().tolist() == dataset.hours.tolist()
    assert dict(zip(dataset.times, dataset.status, strict=True))[hour(2)] == HourStatus.PRUNED
    assert np.isfinite(dataset.read([hour(1), hour(0)])).all()


def test_the_dataset_is_left_alone_while_a_model_trains(place, dataset_of):
    dataset_of(place.dataset, [hour(0)])
    with lock(place.lock("train-phase1"), "training"):
        assert prune(place, PrunePlan(dataset=(hour(0),))).left == ["dataset"]
    assert Dataset.open(place.dataset).hours.size == 1


def test_pruned_hours_are_no_gaps_and_are_not_decoded_again(place):
    there = Inventory(
        NOW, archived=frozenset({hour(2)}), hour_status={hour(2): HourStatus.PRUNED, hour(3): HourStatus.PRUNED}
    )
    assert there.unprocessed == frozenset()
    assert not there.needs_fetch(hour(3))
    assert not replace(there, hour_status={}).needs_fetch(hour(2))


def test_forcing_goes_with_the_hours_that_it_forces(place, dataset_of):
    from convcast.archive import HrrrForecast
    from convcast.dataset.forcing.store import ForcingStore, verdict

    store = dataset_of(place.dataset, [hour(0)])
    values = store.unpack(store.read(hour(0), 1, slice(None), slice(None)))[0]
    forecasts = ForcingStore.prepare(place.dataset)
    for age in (420, 390, 200, 70, 0):
        forecast = HrrrForecast(hour(age), 2)
        forecasts.write(forecast, values)
        forecasts.commit(HourStatus.OK, [forecast], [verdict(forecast, HourStatus.OK, "")])
    stock = list_stored_files(place, analysis_lead=0, dataset=True)
    assert list(stock.cycles) == [hour(age) for age in (420, 390, 200, 70, 0)]
    there = Inventory(NOW, hour_status={NOW: HourStatus.OK}, model=MODEL)
    plan = plan_prune(stock, there, LIMITS, RetentionSettings(dataset_hours=48))
    # The training hours begin 400 h ago, and cycles of up to 25 h before force them.
    assert plan.cycles == (hour(200),)
    went = prune(place, plan)
    assert went.counts["forcing"] == 1
    status = Dataset.open(place.dataset).forecast_status
    assert status[HrrrForecast(hour(200), 2)] == HourStatus.PRUNED
    assert sum(code == HourStatus.OK for code in status.values()) == 4
    assert list_stored_files(place, analysis_lead=0, dataset=False).cycles == ()
