"""Maps of members keep ranks and structure, blend between regimes, and are used for no earlier forecast."""

from __future__ import annotations

import json

import numpy as np
import pytest

from convcast.errors import DamagedFileError
from convcast.forecasts.calibration import (
    Calibration,
    MemberMap,
    calibrations_before,
    read_calibration,
    save_calibration,
)
from convcast.metrics.regimes import REGIMES
from convcast.variables import REFC, T2M

HOUR = np.datetime64("2024-05-06T12", "h")
WIDER = MemberMap(factor=1.5, shift=-0.5)
LOUD = MemberMap(factor=1.1, forecast=(-10.0, 0.0, 30.0, 50.0), observed=(-10.0, -10.0, 25.0, 44.0))


def made(**maps):
    return Calibration("2024-05-01T00", "2024-05-06T12", 40, {name: {"1": by} for name, by in maps.items()})


def members(seed=0, shape=(6, 20, 24), low=280.0, high=300.0):
    return np.random.default_rng(seed).uniform(low, high, shape).astype(np.float32)


def test_shift_and_factor_change_mean_and_spread_alone():
    before = members()
    after = made(t2m={"all": WIDER}).apply(T2M, 1, before, None)
    np.testing.assert_allclose(after.mean(0), before.mean(0) - 0.5, atol=1e-3)
    np.testing.assert_allclose(after.std(0), 1.5 * before.std(0), rtol=1e-3)


@pytest.mark.parametrize("variable", [T2M, REFC], ids=lambda v: v.name)
def test_members_keep_their_ranks_at_every_point(variable):
    before = members() if variable is T2M else np.maximum(members(low=-40, high=65), -10).astype(np.float32)
    maps = {"all": WIDER, "echo": MemberMap(0.6)} if variable is T2M else {"all": LOUD, "echo": MemberMap(1.3)}
    regimes = np.zeros(before.shape[1:], np.int8)
    regimes[:, 12:] = REGIMES.index("echo")
    after = made(**{variable.name: maps}).apply(variable, 1, before, regimes)
    assert (after != before).any()
    order = np.argsort(before, axis=0, kind="stable")
    assert (np.diff(np.take_along_axis(after, order, 0), axis=0) >= -1e-4).all()


def test_reflectivity_is_mapped_to_the_quantiles_of_the_truth():
    values = np.array([[[-10.0, -4.0, 30.0, 40.0, 50.0, 60.0]]] * 3, np.float32)
    after = made(refc={"all": LOUD}).apply(REFC, 1, values, None)[0, 0]
    np.testing.assert_allclose(after, [-10, -10, 25, 34.5, 44, 54], atol=1e-4)


def test_no_value_leaves_the_bounds_of_its_field():
    after = made(refc={"all": MemberMap(5.0)}).apply(REFC, 1, members(low=-10, high=84), None)
    assert after.min() == REFC.bounds[0]
    assert after.max() == REFC.bounds[1]


def test_maps_are_blended_between_regimes():
    regimes = np.zeros((40, 40), np.int8)
    regimes[:, 20:] = REGIMES.index("echo")
    before = np.full((2, 40, 40), 290, np.float32)
    quiet, echo = MemberMap(shift=0.0), MemberMap(shift=9.0)
    after = made(t2m={"all": quiet, "quiet": quiet, "echo": echo}).apply(T2M, 1, before, regimes)[0, 20]
    assert after[5] == 290
    assert after[35] == 299
    assert 0 < np.diff(after).max() <= 1.01


def test_a_part_of_the_members_is_mapped_about_the_mean_of_all():
    before, calibration = members(), made(t2m={"all": WIDER})
    whole = calibration.apply(T2M, 1, before, None)
    part = calibration.apply(T2M, 1, before[2:3], None, mean=before.mean(0))
    np.testing.assert_allclose(part[0], whole[2], atol=1e-4)


def test_other_fields_and_leads_are_left_alone():
    before, calibration = members(), made(t2m={"all": WIDER})
    assert calibration.apply(T2M, 3, before, None) is before
    assert calibration.apply(REFC, 1, before, None) is before


def test_file_is_read_back(tmp_path):
    calibration = made(t2m={"all": WIDER}, refc={"all": LOUD})
    path = save_calibration(calibration, tmp_path)
    assert path.name == "20240506T12.json"
    assert read_calibration(path) == calibration
    assert read_calibration(path).name == calibration.name


def test_calibration_that_knows_later_hours_is_not_used(tmp_path):
    save_calibration(made(), tmp_path)
    (tmp_path / "20240507T12.json").write_text("{}")
    (tmp_path / "notes.json").write_text("{}")
    names = {hours: [path.stem for path in calibrations_before(tmp_path, HOUR + hours)] for hours in (-1, 0, 23, 24)}
    assert names == {
        -1: [],
        0: ["20240506T12"],
        23: ["20240506T12"],
        24: ["20240507T12", "20240506T12"],
    }


@pytest.mark.parametrize(
    "change",
    [
        lambda d: d["maps"]["t2m"]["1"]["all"].update(factor=-1.0),
        lambda d: d["maps"]["t2m"]["1"]["all"].update(factor=float("nan")),
        lambda d: d["maps"]["t2m"]["1"]["all"].update(forecast=[1.0, 0.0], observed=[0.0, 1.0]),
        lambda d: d["maps"]["t2m"]["1"]["all"].update(forecast=[0.0, 1.0], observed=[1.0, 0.0]),
        lambda d: d["maps"]["t2m"]["1"]["all"].update(forecast=[0.0]),
        lambda d: d["maps"]["t2m"]["1"].pop("all"),
        lambda d: d["maps"]["t2m"]["1"].update(sunny=d["maps"]["t2m"]["1"]["all"]),
        lambda d: d.update(last="tomorrow"),
        lambda d: d.pop("cases"),
        lambda d: d.update(more=1),
    ],
)
def test_other_files_are_refused(tmp_path, change):
    content = made(t2m={"all": WIDER}).to_dict()
    change(content)
    path = tmp_path / "20240506T12.json"
    path.write_text(json.dumps(content))
    with pytest.raises(DamagedFileError, match="not a calibration"):
        read_calibration(path)
