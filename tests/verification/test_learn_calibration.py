"""A calibration is learnt from past forecasts, and mends what was spoilt."""

from __future__ import annotations

import shutil
from dataclasses import replace

import numpy as np
import pytest
import xarray as xr
import zarr
from typer.testing import CliRunner

from convcast.cli.main import app
from convcast.errors import MissingInputError
from convcast.forecasts.calibrated import choose_calibration, write_calibrated
from convcast.forecasts.calibration import read_calibration, save_calibration
from convcast.forecasts.store import EnsembleStore, ForecastDescription
from convcast.notation import HOUR
from convcast.variables import REFC, T2M
from convcast.verification import evaluate, learn_calibration
from convcast.verification.learn_calibration import (
    DrawnPoints,
    draw_points,
    fit_maps,
    fit_shift_and_factor,
    learn,
    match_quantiles,
)

from .conftest import INITS, VARIABLES, copied

GENERATOR = np.random.default_rng(5)


def exchangeable(members=12, points=8000, seed=0):
    """Members and a truth that is like one of them."""
    generator = np.random.default_rng(seed)
    centre = 290 + 5 * generator.standard_normal(points)
    drawn = centre + 2 * generator.standard_normal((members + 1, points))
    return drawn[1:], drawn[0]


MODEL = "0123456789ab"
"""Short name of the model that drew the forecasts of `small`."""
DAYS = [np.datetime64("2024-05-01T00", "h") + 24 * day for day in range(5)]


def in_blocks(members, observed):
    """The points of five forecasts, on DAYS."""
    parts = zip(np.array_split(members, 5, axis=1), np.array_split(observed, 5), strict=True)
    return [{"all": DrawnPoints(m.astype(np.float32), o.astype(np.float32))} for m, o in parts]


def test_lost_spread_and_bias_are_found_again():
    members, observed = exchangeable()
    mean = members.mean(0)
    fit = fit_shift_and_factor(mean + 0.5 * (members - mean) + 1.5, observed)
    assert fit.factor == pytest.approx(2, abs=0.08)
    assert fit.shift == pytest.approx(-1.5, abs=0.08)
    assert fit.points == observed.size


def test_a_calibrated_ensemble_is_left_as_it_is():
    fit = fit_shift_and_factor(*exchangeable())
    assert fit.factor == pytest.approx(1, abs=0.04)
    assert fit.shift == pytest.approx(0, abs=0.08)


def test_frequencies_of_strong_echoes_are_corrected():
    generator = np.random.default_rng(1)
    centre = 25 * generator.standard_normal(20_000) - 10
    drawn = np.maximum(centre + 8 * generator.standard_normal((11, 20_000)), -10)
    observed, members = drawn[0], drawn[1:]
    spoilt = np.where(members > 0, 1.15 * members, members)
    fit = fit_maps(REFC, in_blocks(spoilt, observed), DAYS)["all"]
    mapped = fit(spoilt, spoilt.mean(0), -10.0)
    for threshold in (20, 40):
        assert (spoilt >= threshold).mean() > 1.15 * (observed >= threshold).mean()
        assert (mapped >= threshold).mean() == pytest.approx((observed >= threshold).mean(), rel=0.12)
    assert fit.factor == pytest.approx(1, abs=0.2)


@pytest.mark.parametrize("variable", [T2M, REFC], ids=["t2m", "refc"])
def test_biases_that_differ_from_day_to_day_are_not_corrected(variable):
    """Each day has a bias of its own, with a mean that is not certain; a bias that all days share is corrected."""
    members, observed = exchangeable()
    # Echoes from 20 dBZ on are left to the line of test_strong_echoes.py.
    members, observed = 10 + 10 * (members - 290), 10 + 10 * (observed - 290)
    if variable is REFC:
        members, observed = np.maximum(members, -10), np.maximum(observed, -10)
    shared, own = in_blocks(members + 4, observed), in_blocks(members, observed)
    own = [
        {"all": replace(of["all"], members=of["all"].members + offset)}
        for of, offset in zip(own, (-7, 8, -6, 9, -2), strict=True)
    ]
    certain, uncertain = (fit_maps(variable, drawn, DAYS)["all"] for drawn in (shared, own))
    at = np.array([14.0])
    assert certain(at, at, None)[0] == pytest.approx(10, abs=0.8)
    assert uncertain(at, at, None)[0] == pytest.approx(14, abs=0.8)


def test_a_regime_differs_from_the_map_of_all_points_only_where_that_is_certain():
    members, observed = exchangeable(points=40_000)
    drawn = in_blocks(members + 2, observed)
    for number, of in enumerate(drawn):
        of["echo"] = replace(of["all"], members=of["all"].members + 3)
        of["quiet"] = replace(of["all"], members=of["all"].members + (3 if number % 2 else -3))
    maps = fit_maps(T2M, drawn, DAYS)
    assert maps["all"].shift == pytest.approx(-2, abs=0.1)
    assert maps["echo"].shift == pytest.approx(-5, abs=0.1)
    assert maps["quiet"].shift == pytest.approx(-2, abs=0.7)


def test_a_day_of_forecasts_is_enough_to_begin_with():
    members, observed = exchangeable()
    inits = [DAYS[0] + hour for hour in range(5)]
    assert fit_maps(T2M, in_blocks(members + 1.5, observed), inits)["all"].shift == pytest.approx(-1.5, abs=0.1)


@pytest.mark.parametrize("variable", [T2M, REFC], ids=["t2m", "refc"])
def test_forecasts_may_have_different_numbers_of_members(variable):
    """The larger are cut to the commonest number, the smaller left out."""
    members, observed = exchangeable()
    members, observed = 20 + 2 * (members - 290) + 1.5, 20 + 2 * (observed - 290)
    drawn = in_blocks(members, observed)
    drawn[1]["all"] = replace(drawn[1]["all"], members=np.concatenate([drawn[1]["all"].members] * 2))
    expected = fit_maps(variable, [*in_blocks(members, observed)[:4], {}], DAYS)
    drawn[4]["all"] = replace(drawn[4]["all"], members=drawn[4]["all"].members[:2])
    assert fit_maps(variable, drawn, DAYS) == expected


def test_one_forecast_corrects_nothing():
    members, observed = exchangeable()
    drawn = [{"all": DrawnPoints((members + 1.5).astype(np.float32), observed.astype(np.float32))}]
    only = fit_maps(T2M, drawn, DAYS[:1])["all"]
    assert (only.shift, only.factor) == (0, 1)


def test_quantiles_rise_and_end_where_events_are_few():
    forecast, observed = GENERATOR.exponential(10, (5, 1000)) - 10, GENERATOR.exponential(8, 1000) - 10
    of_forecast, of_truth = match_quantiles(forecast, observed)
    assert (np.diff(of_forecast) > 0).all()
    assert (np.diff(of_truth) >= 0).all()
    assert (observed > of_truth[-1]).sum() == pytest.approx(learn_calibration.TAIL_EVENTS, abs=1)


def test_points_are_drawn_by_regime_where_both_have_values():
    members = GENERATOR.standard_normal((3, 30, 30)).astype(np.float32)
    observed = members[0].copy()
    observed[:10] = np.nan
    members[1, 10:12] = np.nan
    regimes = np.zeros((30, 30), np.int8)
    regimes[:, 28:] = 2
    drawn = draw_points(members, observed, regimes, count=50, seed=(1,))
    assert {name: one.observed.size for name, one in drawn.items()} == {"all": 50, "quiet": 50, "echo": 36}
    assert all(np.isfinite(one.members).all() and (one.members[0] == one.observed).all() for one in drawn.values())
    assert fit_maps(T2M, [drawn], DAYS[:1]) == {}


@pytest.fixture(scope="module")
def sharpened(whole, tmp_path_factory):
    """The tests copy this workspace and leave it unchanged."""
    made = copied(whole, tmp_path_factory.mktemp("sharp") / "workspace")
    for path in made.paths:
        with xr.open_zarr(path, consolidated=False, decode_timedelta=True) as stored:
            data = stored.load()
        for variable in VARIABLES:
            if variable is not REFC:
                values = data[variable.name].values
                mean = values.mean(1, keepdims=True)
                values[:] = mean + 0.5 * (values - mean)
        shutil.rmtree(path)
        data.to_zarr(path, mode="w", zarr_format=3, consolidated=False)
    return made


@pytest.fixture
def sharp(sharpened, tmp_path):
    """A workspace whose forecasts have half the spread that they should have."""
    return copied(sharpened, tmp_path / "workspace")


def test_learning_uses_no_hour_after_the_last_one(sharp):
    settings = sharp.settings(calibration_points=300)
    learnt = learn(sharp.workspace, sharp.dataset, settings, until=INITS[2])
    assert (learnt.first, learnt.last, learnt.cases) == (str(INITS[0]), str(INITS[1] + HOUR), 2)
    assert learnt.simulated
    assert 1.5 < learnt.find("t2m", 1)["all"].factor < 2.6
    assert learnt.find("refc", 1)["all"].forecast


def test_forecasts_of_another_model_teach_nothing(sharp):
    """The older two of four forecasts are another model's: they are not used, and their model gets none of the maps."""
    settings = sharp.settings(calibration_points=300)
    for path in sharp.paths[:2]:
        zarr.open_group(path, mode="r+").attrs["model_sha256"] = "fedcba9876543210"
    folder = sharp.workspace.calibrations
    save_calibration(learn(sharp.workspace, sharp.dataset, settings, until=INITS[1] + HOUR), folder)
    save_calibration(learn(sharp.workspace, sharp.dataset, settings, until=INITS[3] + HOUR), folder)
    for model, first in (("fedcba987654", INITS[0]), (MODEL, INITS[2])):
        chosen = choose_calibration(folder, [], INITS[3] + 9 * HOUR, model)
        assert (chosen.model, chosen.first, chosen.cases) == (model, str(first), 2)
    assert choose_calibration(folder, [], INITS[3] + 9 * HOUR, "another") is None


def test_points_are_kept_for_the_next_fit_and_forgotten_in_time(sharp, monkeypatch):
    settings = sharp.settings(calibration_points=300)
    first = learn(sharp.workspace, sharp.dataset, settings)
    with monkeypatch.context() as patch:
        patch.setattr(learn_calibration, "draw_points", None)
        assert learn(sharp.workspace, sharp.dataset, settings) == first
    folder = sharp.workspace.calibrations / "points"
    next(folder.glob("*.npz")).write_bytes(b"spoilt")
    assert learn(sharp.workspace, sharp.dataset, settings) == first
    later = learn(sharp.workspace, sharp.dataset, sharp.settings(calibration_points=300, calibration_days=0.8))
    assert later.cases == 2
    assert len(list(folder.glob("*.npz"))) == 2


def test_too_few_forecasts_are_an_error(sharp):
    with pytest.raises(MissingInputError, match="too few"):
        learn(sharp.workspace, sharp.dataset, sharp.settings(), until=INITS[0])


def description(small, init):
    identity = {"simulated": 1, "analysis_lead": 0, "model_sha256": "0123456789abcdef", "seed": 0}
    information = {"training_hours": "2024-05-01T00/2024-05-02T23", "title": "SIMULATED"}
    return ForecastDescription(init, (1,), (1,), small.dataset.variables, small.dataset.grid, identity, information)


def test_calibrated_members_are_written_once_and_scored_beside_the_raw_ones(sharp, tmp_path):
    settings = sharp.settings(calibration_points=300)
    workspace, init = sharp.workspace, INITS[3]
    folder = workspace.calibrations
    save_calibration(learn(workspace, sharp.dataset, settings, until=INITS[3]), folder)
    raw, target = workspace.raw_forecast(init), workspace.forecast(init)
    with xr.open_zarr(target, consolidated=False, decode_timedelta=True) as stored:
        drawn = np.stack([stored[v.name].values[0, :, 0] for v in sharp.dataset.variables], axis=1)
    shutil.rmtree(target)
    what = description(sharp, init)
    store = EnsembleStore.prepare(raw, what, members=8)
    for member, fields in enumerate(drawn):
        store.write(member, 1, fields)
    learnt = choose_calibration(folder, [target], init, MODEL)
    parts = {"members": range(8), "leads": (1,), "regimes": None}
    assert write_calibrated(raw, target, what, learnt, **parts) == 8
    assert write_calibrated(raw, target, what, learnt, **parts) == 0
    with xr.open_zarr(target, consolidated=False, decode_timedelta=True) as stored:
        assert stored.attrs["calibration"] == learnt.name
        assert stored.attrs["calibration_members"] == 8
        assert str(INITS[2] + HOUR) in stored.attrs["calibration_learnt_from"]
        for number, variable in enumerate(sharp.dataset.variables):
            expected = learnt.apply(variable, 1, drawn[:, number], None)
            np.testing.assert_allclose(stored[variable.name].values[0, :, 0], expected, atol=2 / variable.scale)
    # A later calibration does not replace the one that the file names.
    later = learn(workspace, sharp.dataset, settings, until=init + HOUR)
    save_calibration(later, folder)
    assert choose_calibration(folder, [target], init, MODEL).name == learnt.name
    evaluation = evaluate([target], sharp.dataset, against=("raw",), settings=settings, workspace=workspace)
    list(evaluation)
    verification = evaluation.result()
    ratio = {system: verification.find("t2m", "spread_error_ratio", system)["value"] for system in ("convcast", "raw")}
    assert ratio["raw"] < 0.75
    assert 0.75 < ratio["convcast"] < 1.35
    assert (
        verification.find("t2m", "crps", "convcast", estimator="fair")["value"]
        <= (verification.find("t2m", "crps", "raw", estimator="fair")["value"])
    )


def test_products_stay_with_the_calibration_of_their_members(sharp):
    """Products alone record the calibration where no members are stored."""
    folder, init = sharp.workspace.calibrations, INITS[3]
    settings = sharp.settings(calibration_points=300)
    earlier = learn(sharp.workspace, sharp.dataset, settings, until=INITS[2])
    save_calibration(earlier, folder)
    product = sharp.workspace.product(init)
    zarr.create_group(product, attributes={"calibration": earlier.name})
    save_calibration(learn(sharp.workspace, sharp.dataset, settings, until=init), folder)
    stored = [sharp.workspace.temporary_members(init), product]
    assert choose_calibration(folder, stored, init, MODEL).name == earlier.name
    assert choose_calibration(folder, stored[:1], init, MODEL).name != earlier.name
    product.joinpath("zarr.json").unlink()
    zarr.create_group(product, attributes={"calibration": "none"})
    assert choose_calibration(folder, stored, init, MODEL) is None


def test_forecasts_before_anything_was_learnt_say_so(small):
    raw, target, init = small.workspace.raw_forecast(INITS[0]), small.workspace.root / "new.zarr", INITS[0]
    what = description(small, init)
    store = EnsembleStore.prepare(raw, what, members=2)
    fields = small.dataset.read([init])[0]
    for member in range(2):
        store.write(member, 1, fields + member)
    assert choose_calibration(small.workspace.calibrations, [target], init, MODEL) is None
    write_calibrated(raw, target, what, None, members=range(2), leads=(1,), regimes=None)
    with xr.open_zarr(target, consolidated=False, decode_timedelta=True) as stored:
        assert stored.attrs["calibration"] == "none"
        np.testing.assert_allclose(stored["t2m"].values[0, 1, 0], fields[1] + 1, atol=1 / 16)


def test_verb_writes_the_calibration_and_the_journal(sharp, whole):
    shutil.copytree(whole.workspace.dataset, sharp.workspace.dataset)
    words = ["calibrate", "-w", str(sharp.workspace.root), "--until", str(INITS[2]), "--json"]
    result = CliRunner().invoke(app, [*words, "--set", "verification.calibration_points=300"])
    assert result.exit_code == 0, result.output
    (path,) = sharp.workspace.calibrations.glob("*.json")
    assert read_calibration(path).cases == 2
    assert '"verb": "calibrate"' in (sharp.workspace.root / "journal.jsonl").read_text()
