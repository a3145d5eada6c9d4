"""Ensembles and truths of other programs: found by what they say of themselves, compared where they share points."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from convcast.errors import DamagedFileError, MissingInputError, SettingsError
from convcast.settings import VerificationSettings
from convcast.verification import evaluate
from convcast.verification.data.truth import open_truth

from .conftest import INITS

WITHOUT_TORCH = """
import sys
from pathlib import Path
class Absent:
    def find_spec(name, path=None, target=None):
        if name.split(".")[0] == "torch":
            raise ModuleNotFoundError("No module named 'torch'", name="torch")
sys.meta_path.insert(0, Absent)
sys.argv = ["convcast", *{words!r}]
sys.path.append({helpers!r})
from unpainted import nothing_painted
from convcast.cli.main import run
with nothing_painted():
    run()
"""
"""Runs a command where torch is not installed; figures are laid out and not painted, which would take seconds."""
HELPERS = Path(__file__).parents[1] / "pictures"
OBSERVED = ("refc", "t2m", "cape", "cin")
HOURS = np.arange("2024-05-03T00", "2024-05-05T00", dtype="datetime64[h]")


def write(data, path):
    for name in data.variables:
        data[name].encoding.clear()
    data.to_zarr(path, mode="w", zarr_format=3, consolidated=False)
    return path


def score(ensembles, truth, against=("persistence",), **options):
    settings = VerificationSettings(resamples=100, baseline_members=5)
    under_way = evaluate(
        ensembles, open_truth(truth), against=against, settings=settings, workspace=None, foreign=True, **options
    )
    list(under_way)
    return under_way.result()


@pytest.fixture(scope="module")
def ours(whole):
    """Our forecasts in one dataset, dimensions (init_time, number, lead_time, y, x)."""
    parts = [xr.open_zarr(path, consolidated=False).load() for path in whole.paths]
    return xr.concat(parts, "init_time", data_vars="minimal", coords="minimal", compat="override", join="outer")


@pytest.fixture(scope="module")
def observed(whole, ours):
    """The analyses as another's file of fields by time would have them; each field takes its time to score."""
    values = whole.dataset.read(HOURS)
    fields = {
        v.name: (("time", "y", "x"), values[:, i], ours[v.name].attrs)
        for i, v in enumerate(whole.dataset.variables)
        if v.name in OBSERVED
    }
    place = {name: ours[name] for name in ("y", "x", "latitude", "longitude", "spatial_ref")}
    coordinates = {"time": ("time", HOURS.astype("datetime64[ns]"), {"standard_name": "time"})} | place
    return xr.Dataset(fields, coordinates, {"title": "somebody's radar", "simulated": 1})


@pytest.fixture(scope="module")
def expected(whole):
    under_way = evaluate(
        whole.paths,
        whole.dataset,
        against=["persistence"],
        settings=VerificationSettings(resamples=100, baseline_members=5),
        workspace=None,
    )
    list(under_way)
    return under_way.result()


def crps(result, field="t2m", system="convcast"):
    return result.find(field, "crps", system, estimator="fair")["value"]


def as_cfgrib(data):
    """ECMWF's names: `time` is that of the analysis, `step` the lead."""
    renamed = data.drop_vars(["valid_time", "complete"]).rename(init_time="time", lead_time="step")
    for name in ("number", "time", "step", "y", "x"):
        renamed[name].attrs.clear()
    return renamed


def by_standard_name(data):
    renamed = data.drop_vars(["complete", "valid_time"]).rename(
        number="m", init_time="start", lead_time="ahead", y="row", x="column", refc="reflectivity", cape="energy"
    )
    return renamed.transpose("start", "ahead", "m", "row", "column")


def hours_as_numbers(data):
    lead = xr.Variable("lead_time", [1], {"units": "hours", "standard_name": "forecast_period"})
    return data.drop_vars("valid_time").assign_coords(lead_time=lead)


def from_the_north(data):
    return data.isel(y=slice(None, None, -1))


def without_axes(data):
    return data.drop_vars(["y", "x", "spatial_ref"])


def other_spellings(data):
    return data.assign(u10=data["u10"].assign_attrs(units="m/s"), cape=data["cape"].assign_attrs(units="J/kg"))


@pytest.mark.parametrize(
    "change",
    [
        lambda data: data,
        as_cfgrib,
        by_standard_name,
        hours_as_numbers,
        from_the_north,
        without_axes,
        other_spellings,
    ],
    ids=["ours", "cfgrib", "standard names", "numbers", "north first", "angles alone", "units"],
)
def test_another_layout_scores_the_same(ours, observed, expected, tmp_path, change):
    ensemble, truth = write(change(ours.copy()), tmp_path / "e.zarr"), write(observed.copy(), tmp_path / "t.zarr")
    found = score([ensemble], truth)
    for field in ("refc", "t2m", "cin"):
        for system in ("convcast", "persistence"):
            assert crps(found, field, system) == pytest.approx(crps(expected, field, system), rel=1e-9)
    assert found.facts.truth == "somebody's radar"


def test_the_ensemble_of_another_program_is_not_taken_for_convcast_s(ours, observed, tmp_path):
    other = ours.copy()
    other.attrs = {"simulated": 1, "title": "ensemble of somebody"}
    found = score([write(other, tmp_path / "e.zarr")], write(observed.copy(), tmp_path / "t.zarr"))
    assert found.facts.models == ("ensemble of somebody",)
    assert found.facts.notes[0].endswith("which names its source as ensemble of somebody")


def test_valid_time_of_one_start_is_understood(ours, observed, tmp_path):
    one = ours.isel(init_time=0, lead_time=0).drop_vars(["lead_time", "complete", "valid_time"])
    valid = one["init_time"].values + np.timedelta64(1, "h")
    one = one.expand_dims(time=[valid])
    found = score([write(one, tmp_path / "e.zarr")], write(observed.copy(), tmp_path / "t.zarr"))
    assert (found.facts.cases, found.facts.leads, found.facts.inits) == (1, (1,), (str(INITS[0]),))


def test_convcast_s_dataset_is_a_truth_too(whole, ours, expected, tmp_path):
    found = score([write(ours.copy(), tmp_path / "e.zarr")], whole.workspace.dataset, against=["advection"])
    assert crps(found) == pytest.approx(crps(expected), rel=1e-9)


def test_only_the_shared_part_is_scored(ours, observed, tmp_path):
    ensemble = write(ours.isel(y=slice(4, 32), x=slice(0, 20))[["t2m", "refc"]], tmp_path / "e.zarr")
    truth = write(observed.isel(y=slice(0, 24), x=slice(2, 32)), tmp_path / "t.zarr")
    found = score([ensemble], truth)
    inside = score(
        [write(ours.isel(y=slice(4, 24), x=slice(2, 20))[["t2m", "refc"]], tmp_path / "e2.zarr")],
        write(observed.isel(y=slice(4, 24), x=slice(2, 20)), tmp_path / "t2.zarr"),
    )
    assert found.facts.points == 20 * 18
    assert found.scores == inside.scores


def test_members_that_lack_points_are_judged_where_all_are_as_baselines_are(ours, observed, tmp_path):
    holed = ours.copy(deep=True)
    holed["t2m"][:, 3, :, :10] = np.nan
    found = score([write(holed, tmp_path / "e.zarr")], write(observed.copy(), tmp_path / "t.zarr"))
    part = score(
        [write(ours.isel(y=slice(10, None)), tmp_path / "e2.zarr")], write(observed.copy(), tmp_path / "t2.zarr")
    )
    for system in ("convcast", "persistence"):
        assert crps(found, system=system) == pytest.approx(crps(part, system=system), rel=1e-9)


def test_truth_that_is_missing_everywhere_is_left_out(ours, observed, tmp_path):
    holed = observed.copy(deep=True)
    for name in OBSERVED:
        holed[name][7] = np.nan  # of the first forecast
    found = score([write(ours.copy(), tmp_path / "e.zarr")], write(holed, tmp_path / "t.zarr"), against=())
    assert found.facts.left_out == {"no point has both a forecast and a truth": 1}
    assert found.facts.cases == 3


def test_a_damaged_chunk_leaves_its_case_out_and_is_named(ours, observed, tmp_path):
    path = tmp_path / "e.zarr"
    parted = ours.chunk(init_time=1)
    write(parted, path)
    chunk = next(file for file in sorted((path / "cin" / "c" / "2").rglob("*")) if file.is_file())
    chunk.write_bytes(chunk.read_bytes()[:100])
    found = score([path], write(observed.copy(), tmp_path / "t.zarr"))
    (reason,) = found.facts.left_out
    assert reason.startswith(f"{path} is damaged")
    assert found.facts.cases == 3


def test_a_damaged_hour_of_truth_leaves_its_case_out(ours, observed, tmp_path):
    path = write(observed.chunk(time=1), tmp_path / "t.zarr")
    chunk = next(file for file in sorted((path / "cape" / "c" / "7").rglob("*")) if file.is_file())
    chunk.write_bytes(chunk.read_bytes()[:50])
    found = score([write(ours.copy(), tmp_path / "e.zarr")], path, against=())
    assert found.facts.cases == 3


def test_members_that_are_copies_are_left_out(ours, observed, tmp_path):
    padded = ours.copy(deep=True)
    for name in observed.data_vars:
        padded[name][1, 5] = padded[name][1, 2]
    found = score([write(padded, tmp_path / "e.zarr")], write(observed.copy(), tmp_path / "t.zarr"))
    assert found.facts.left_out == {"two members are identical": 1}


def mislabelled_rain(data):
    """Rain in mm/h that is called dBZ: none is 0, not -10."""
    rain = data["refc"].where(data["refc"] > 15, 0.0).assign_attrs(data["refc"].attrs)
    return data.assign(refc=rain)


def celsius_that_says_kelvin(data):
    return data.assign(t2m=(data["t2m"] - 273.15).assign_attrs(data["t2m"].attrs))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda d: d.assign(refc=d["refc"].assign_attrs(units="mm/h")), "refc in mm/h, not in dBZ"),
        (lambda d: d.assign(t2m=d["t2m"].drop_attrs()), "does not give the units of t2m"),
        (celsius_that_says_kelvin, "t2m from .* which is not K"),
        (
            lambda d: d.assign(refc=d["refc"].assign_attrs(standard_name="rainfall_rate")),
            "refc with the standard name rainfall_rate",
        ),
        (
            lambda d: d.assign(cape=d["cape"].assign_attrs(standard_name=d["cape"].standard_name[:-7] + "parcel")),
            "cape with the standard name .*parcel, not",
        ),
        (lambda d: d.isel(number=0), "no dimension number"),
        (lambda d: d[["t2m"]].rename(t2m="mine").assign(mine=d["t2m"].drop_attrs().rename("mine")), "does not hold"),
        (lambda d: d.assign_coords(x=d["x"] + 1500), "same area with different points"),
        (lambda d: d.drop_vars(["y", "x", "latitude", "longitude"]), "no coordinates of its points"),
    ],
    ids=["mm/h", "no units", "celsius", "rain", "parcel", "no members", "no fields", "between", "nowhere"],
)
def test_files_that_cannot_be_compared_are_named(ours, observed, tmp_path, change, said):
    ensemble = write(change(ours.copy()), tmp_path / "e.zarr")
    with pytest.raises(DamagedFileError, match=said) as caught:
        score([ensemble], write(observed.copy(), tmp_path / "t.zarr"))
    assert caught.value.advice


def test_rain_that_is_called_reflectivity_is_found_by_its_zeros(ours, observed, tmp_path):
    echoes = observed.copy(deep=True)
    echoes["refc"] = echoes["refc"].where(echoes["refc"] > 15, -10.0).assign_attrs(observed["refc"].attrs)
    ensemble = write(mislabelled_rain(ours.copy()), tmp_path / "e.zarr")
    with pytest.raises(DamagedFileError, match=r"refc has 0 for none in .* and -10 in the truth"):
        score([ensemble], write(echoes, tmp_path / "t.zarr"))


def test_no_overlap_in_space(ours, observed, tmp_path):
    away = observed.assign_coords(x=observed["x"] + 3000 * 32).drop_vars(["latitude", "longitude"])
    with pytest.raises(SettingsError, match="do not overlap in space"):
        score([write(ours.copy(), tmp_path / "e.zarr")], write(away, tmp_path / "t.zarr"))


@pytest.mark.parametrize("days", [-300, 1])
def test_no_overlap_in_time(ours, observed, tmp_path, days):
    """Truth of other hours: earlier ones, or later ones."""
    other = observed.assign_coords(time=observed["time"] + np.timedelta64(days * 24, "h"))
    late = ours if days < 0 else ours.isel(init_time=slice(0, 1))
    with pytest.raises(MissingInputError, match="do not overlap in time"):
        score([write(late.copy(), tmp_path / "e.zarr")], write(other, tmp_path / "t.zarr"))


def test_one_member_is_refused(ours, observed, tmp_path):
    ensemble = write(ours.isel(number=[0]), tmp_path / "e.zarr")
    with pytest.raises(SettingsError, match="scores need 2 or more"):
        score([ensemble], write(observed.copy(), tmp_path / "t.zarr"))


@pytest.mark.parametrize("name", ["advection", "hrrr", "exact"])
def test_baselines_that_need_more_than_a_truth_say_so(ours, observed, tmp_path, name):
    with pytest.raises(SettingsError, match=rf"{name}.* (needs|has no)"):
        score([write(ours.copy(), tmp_path / "e.zarr")], write(observed.copy(), tmp_path / "t.zarr"), against=[name])


def test_a_truth_of_members_is_no_truth(ours, tmp_path):
    with pytest.raises(DamagedFileError, match="is not a truth"):
        open_truth(write(ours.copy(), tmp_path / "e.zarr"))


def test_all_cases_refused_is_said(ours, observed, tmp_path):
    nothing = observed.copy(deep=True)
    for name in nothing.data_vars:
        nothing[name][:] = np.nan
    with pytest.raises(MissingInputError, match="no point has both"):
        score([write(ours.copy(), tmp_path / "e.zarr")], write(nothing, tmp_path / "t.zarr"))


@pytest.mark.slow
def test_the_command_needs_neither_torch_nor_a_workspace(ours, observed, tmp_path):
    write(ours[["t2m"]].copy(), tmp_path / "A.zarr")  # pictures of all fields would take long
    write(observed[["t2m"]].copy(), tmp_path / "B.zarr")
    words = ["verify", "--ensemble", "A.zarr", "--truth", "B.zarr", "--json", "--output", "out"]
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH.format(words=words, helpers=str(HELPERS))],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["facts"]["systems"] == ["convcast", "persistence"]
    assert {"report.html", "scores.json", "scores.zarr"} <= {path.name for path in (tmp_path / "out").iterdir()}
