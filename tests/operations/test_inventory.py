"""The inventory of a workspace is what the verbs have written."""

from __future__ import annotations

import json
import os
import shutil

import numpy as np
import pytest
import zarr

from convcast.dataset import HourStatus
from convcast.errors import DamagedFileError
from convcast.forecasts.calibration import EVERYWHERE, Calibration, MemberMap, save_calibration
from convcast.forecasts.integrity import EVERY_PRODUCT
from convcast.notation import HOUR
from convcast.operations.inventory import ForecastSummary, InventoryReader, ModelSummary, read_forecast, read_products
from convcast.operations.publish import publish
from convcast.operations.status import assess
from convcast.settings.load import load_settings
from convcast.workspace import create_workspace

NOW = np.datetime64("2024-05-20T05", "h")
TRAINED = (np.datetime64("2024-05-01T00", "h"), np.datetime64("2024-05-15T00", "h"))


@pytest.fixture
def place(tmp_path):
    return create_workspace(tmp_path / "w", preset="demo")


def reader_of(place, **groups):
    return InventoryReader(place, load_settings(place.settings_file, {"sampling": {"members": 4}, **groups}))


def test_an_empty_workspace(place):
    there = reader_of(place).read(NOW, since=NOW - 24 * HOUR)

    assert (there.archived, dict(there.hour_status), dict(there.forecasts), there.model) == (frozenset(), {}, {}, None)
    assert there.newest is None


def test_hours_and_the_model(place, dataset_of):
    dataset_of(place.dataset, [NOW - 2 * HOUR, NOW])
    folder = place.model("demo")
    folder.mkdir(parents=True)
    said = {"training_hours": [str(hour) for hour in TRAINED], "model": {"history": 5, "leads": [1, 6]}}
    (folder / "model.json").write_text(json.dumps(said))
    assert reader_of(place).read(NOW, since=NOW).model is None, "it has no weights yet"
    (folder / "model.safetensors").touch()

    there = reader_of(place).read(NOW, since=NOW)

    assert there.hour_status == {NOW - 2 * HOUR: HourStatus.OK, NOW - HOUR: HourStatus.ABSENT, NOW: HourStatus.OK}
    assert there.model == ModelSummary(5, (1, 6), TRAINED)
    assert there.model.trained_on(TRAINED[1])
    assert not there.model.trained_on(TRAINED[1] + HOUR)


def test_a_model_is_none_until_its_first_save_is_whole(place):
    folder = place.model("demo")
    folder.mkdir(parents=True)
    (folder / "model.safetensors").touch()
    assert reader_of(place).read(NOW, since=NOW).model is None


@pytest.mark.parametrize(
    "text",
    [
        "[]",
        "[" * 100_000,
        "{}",
        '{"training_hours": 3, "model": {}}',
        '{"training_hours": ["2024-05-01T00", "2024-05-15T00"], "model": {"history": 1000000000, "leads": [1]}}',
        '{"training_hours": ["2024-05-01T00", "2024-05-15T00"], "model": {"history": 4, "leads": [1000000000]}}',
        '{"training_hours": ["2024-05-01T00", "2024-05-15T00"], "model": {"history": 4, "leads": []}}',
    ],
)
def test_a_file_that_describes_no_model_is_named_and_stops_nothing_else(place, text):
    folder = place.model("demo")
    folder.mkdir(parents=True)
    (folder / "model.safetensors").touch()
    (folder / "model.json").write_text(text)

    there = reader_of(place).read(NOW, since=NOW)

    assert there.model is None
    assert list(there.ignored_files) == [folder / "model.json"]


def test_the_model_s_description_is_the_one_that_training_writes():
    """The names are written twice, since the model room brings torch along."""
    from convcast.model import checkpoint
    from convcast.operations import inventory

    assert (inventory.DESCRIPTION, inventory.WEIGHTS) == (checkpoint.DESCRIPTION, checkpoint.WEIGHTS)


def test_a_forecast_is_complete_when_all_members_are_at_all_leads(place, ensemble_of):
    path = place.forecast(NOW)
    ensemble_of(path, NOW, members=4, made=3)
    assert read_forecast(path, members=4) == ForecastSummary(False, (1, 3), TRAINED, 3)
    ensemble_of(path, NOW)
    assert read_forecast(path, members=4) == ForecastSummary(True, (1, 3), TRAINED, 4)
    assert not read_forecast(path, members=5).complete


def test_a_folder_that_is_no_ensemble_counts_as_no_forecast(place):
    assert read_forecast(place.forecast(NOW), members=4) == ForecastSummary(False, ())
    place.forecast(NOW).mkdir(parents=True)
    assert read_forecast(place.forecast(NOW), members=4) == ForecastSummary(False, ())


def test_the_newest_forecast_is_found_however_old(place, ensemble_of):
    for age, made in ((100, 4), (99, 4), (98, 2)):
        ensemble_of(place.forecast(NOW - age * HOUR), NOW - age * HOUR, leads=(1,), made=made)
    reader = reader_of(place)

    assert reader.read(NOW, since=NOW - 24 * HOUR).newest is None
    assert reader.newest(before=NOW) == NOW - 99 * HOUR


def test_the_newest_calibration_is_that_of_the_model_of_the_newest_members(place, ensemble_of):
    old, new = "a" * 64, "b" * 64
    for age, model in ((9, old), (3, old), (1, new)):
        init = NOW - age * HOUR
        ensemble_of(place.forecast(init), init, leads=(1,), model=model)
    ensemble_of(place.raw_forecast(NOW - 2 * HOUR), NOW - 2 * HOUR, leads=(1,), model=old)
    maps = {"t2m": {"1": {EVERYWHERE: MemberMap()}}}

    def learn(age, model):
        hour = str(NOW - age * HOUR)
        save_calibration(Calibration(hour, hour, 12, maps, model=model[:12]), place.calibrations)

    def read(calibration):
        return reader_of(place, sampling={"members": 4, "calibration": calibration}).read(NOW, since=NOW)

    learn(2, old)
    assert read(True).calibrated is None
    learn(5, new)
    assert read(True).calibrated == NOW - 5 * HOUR
    assert read(True).other_models == {NOW - age * HOUR for age in (9, 3, 2)}
    assert read(False).other_models == frozenset()
    (place.calibrations / "20240520T04.json").write_text("{")
    assert read(True).calibrated == NOW - 5 * HOUR, "a damaged file counts as none"


def products(place, leads=(1, 3)):
    path = place.product(NOW)
    path.parent.mkdir(exist_ok=True)
    group = zarr.create_group(path, attributes={"leads": list(leads), "fields": "t2m"})
    for what in EVERY_PRODUCT:
        group.create_array(f"t2m_{what}", data=np.ones((1, len(leads), 2, 2), np.float32), chunks=(1, 1, 2, 2))
    return path


@pytest.mark.parametrize(
    ("keep", "there", "complete"),
    [
        ("members", "members", True),
        ("members", "products", True),
        ("products", "members", False),
        ("products", "products", True),
        ("both", "members", False),
        ("both", "members products", True),
        ("both", "half products", False),
        ("members", "half", False),
    ],
)
def test_a_forecast_is_complete_with_what_is_to_be_kept_of_it(place, ensemble_of, keep, there, complete):
    """Products may have outlived their members."""
    for kind in there.split():
        if kind == "products":
            products(place)
        else:
            ensemble_of(place.forecast(NOW), NOW, made=4 if kind == "members" else 2)

    inventory = reader_of(place, sampling={"members": 4, "keep": keep}).read(NOW, since=NOW)

    assert inventory.complete(NOW) == complete
    assert inventory.newest == (NOW if complete else None)
    assert inventory.forecasts[NOW].leads == (1, 3)
    assert inventory.forecasts[NOW].verifiable == (there != "products")


def test_a_member_that_lost_values_makes_a_forecast_incomplete(place, ensemble_of):
    path = place.forecast(NOW)
    ensemble_of(path, NOW)
    (path / "t2m" / "c" / "0" / "2" / "1" / "0" / "0").unlink()

    assert read_forecast(path, members=4) == ForecastSummary(False, (1, 3), TRAINED, 3)


def test_products_that_lost_values_are_none(place):
    path = products(place)
    assert read_products(path) == (1, 3)
    (path / "t2m_mean" / "c" / "0" / "1" / "0" / "0").unlink()
    assert read_products(path) == ()


def test_members_on_their_way_to_products_are_no_forecast(place, ensemble_of):
    ensemble_of(place.temporary_members(NOW), NOW)
    assert reader_of(place).read(NOW, since=NOW).forecasts == {}


def test_a_forecast_that_became_complete_is_read_once_and_an_unfinished_one_again(place, ensemble_of):
    reader = reader_of(place)
    ensemble_of(place.forecast(NOW), NOW, made=2)
    assert reader.read(NOW, since=NOW).newest is None
    ensemble_of(place.forecast(NOW), NOW)
    assert reader.read(NOW, since=NOW).newest == NOW
    shutil.rmtree(place.forecast(NOW) / "complete")
    assert reader.read(NOW, since=NOW).newest == NOW


def link_to_nothing(path):
    path.symlink_to(path.parent / "nothing")


def link_to_a_file(path):
    (path.parent / "file").write_text("rubbish")
    path.symlink_to(path.parent / "file")


def a_file(path):
    path.write_text("rubbish")


def rubbish(path):
    path.mkdir()
    (path / "zarr.json").write_text("[" * 100_000)


def of_another_program(path):
    zarr.create_group(path, attributes={"made_by": "somebody"})


def a_loop(path):
    path.symlink_to(path)


STRANGE = [link_to_nothing, link_to_a_file, a_file, rubbish, of_another_program, a_loop]


@pytest.mark.parametrize("folder", ["forecast", "product"])
@pytest.mark.parametrize("spoil", STRANGE)
def test_a_file_that_is_no_forecast_is_named_and_left_alone(place, ensemble_of, spoil, folder):
    ensemble_of(place.forecast(NOW - HOUR), NOW - HOUR)
    path = getattr(place, folder)(NOW)
    path.parent.mkdir(exist_ok=True)
    spoil(path)
    reader = reader_of(place, sampling={"members": 4, "keep": "products" if folder == "product" else "members"})

    there = reader.read(NOW, since=NOW - 24 * HOUR)
    situation = assess(reader, NOW.astype("datetime64[s]"))

    assert list(there.ignored_files) == [path]
    assert there.blocked == {NOW}, "sampling does not try it every hour"
    assert not there.complete(NOW)
    assert situation.ignored_files == [f"{path} {there.ignored_files[path]} and is left alone"]
    assert situation.forecast == (None if folder == "product" else NOW - HOUR)
    assert os.path.lexists(path)


def test_a_link_to_a_whole_ensemble_is_read_and_named(place, ensemble_of, tmp_path):
    ensemble_of(tmp_path / "elsewhere.zarr", NOW)
    place.forecasts.mkdir()
    place.forecast(NOW).symlink_to(tmp_path / "elsewhere.zarr")

    there = reader_of(place).read(NOW, since=NOW)

    assert there.complete(NOW)
    assert list(there.ignored_files.values()) == ["is a link"]
    with pytest.raises(DamagedFileError, match="is a link"):
        ensemble_of(place.forecast(NOW), NOW)


@pytest.mark.parametrize(
    "text", ["rubbish", "[" * 100_000, "[]", "7", "{}", '{"stages": [3], "notes": [], "seconds": 1}', '{"stages": 3}']
)
def test_a_damaged_entry_of_the_last_cycle_is_none(place, text):
    place.last_cycle.write_text(text)
    assert assess(reader_of(place), NOW.astype("datetime64[s]")).last == {}


@pytest.mark.parametrize("text", ["rubbish", "[" * 100_000])
def test_a_damaged_pointer_to_the_newest_forecast_is_replaced(place, ensemble_of, text):
    ensemble_of(place.forecast(NOW), NOW)
    place.latest.write_text(text)

    said, new = publish(place, NOW, ForecastSummary(True, (1, 3)))

    assert new
    assert json.loads(place.latest.read_text()) == said


def test_forcing_that_is_missing_or_not_preprocessed(place, dataset_of):
    from convcast.archive import Archive, HrrrForecast, Sidecar
    from convcast.dataset.forcing.store import ForcingStore, verdict

    store = dataset_of(place.dataset, [NOW - 2 * HOUR, NOW - HOUR, NOW])
    forced = reader_of(place, model={"forcing": "hrrr"})
    hours = {NOW - HOUR, NOW}
    there = forced.read(NOW, since=NOW - HOUR)
    assert there.unforced == hours
    assert all(there.wants_fetch(hour) and hour not in there.archived for hour in hours)
    assert reader_of(place).read(NOW, since=NOW - HOUR).unforced == frozenset(), "the settings ask for none"

    forecasts = ForcingStore.prepare(place.dataset)
    for age in (0, 1):
        forecast = HrrrForecast(NOW - (1 + age) * HOUR, 1 + age)
        forecasts.write(forecast, store.unpack(store.read(NOW, 1, slice(None), slice(None)))[0])
        forecasts.commit(HourStatus.OK, [forecast], [verdict(forecast, HourStatus.OK, "")])
    assert forced.read(NOW, since=NOW - HOUR).unforced == {NOW}

    archive = Archive(place.archive / "hrrr")
    for lead in (1, 2):
        path = archive.path(NOW + HOUR, lead)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        archive.write_sidecar(path, Sidecar("", "", None, (), (), 0, "", False, ""))
    there = forced.read(NOW, since=NOW - HOUR)
    assert there.unforced == frozenset()
    assert there.unprocessed_forecasts == {HrrrForecast(NOW, 1), HrrrForecast(NOW - HOUR, 2)}
