from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
import xskillscore as xs

from convcast.errors import SettingsError
from convcast.metrics import xarray_api
from convcast.metrics.xarray_api import (
    brier_score,
    crps_ensemble,
    rank_histogram,
    reliability,
    spread_error_correlation,
    spread_error_ratio,
)


@pytest.fixture
def pair():
    """Observations (time, x) and forecasts (number, time, x) of which a fifth are tied."""
    generator = np.random.default_rng(2)
    forecasts = generator.normal(0, 2, (11, 6, 40)).round(1)
    observations = generator.normal(0, 2, (6, 40)).round(1)
    return xr.DataArray(observations, dims=("time", "x")), xr.DataArray(forecasts, dims=("number", "time", "x"))


REAL = {"ensemblepp_rain_11mem": 2.39428, "ensemblepp_temp_11mem": 8.54945, "eurotemp_24mem": 0.13807}


@pytest.mark.parametrize(("name", "expected"), REAL.items())
def test_real_ensembles_have_the_values_two_other_libraries_give(shared_data, name, expected):
    with np.load(shared_data / "verification" / f"{name}.npz", allow_pickle=False) as held:
        observations = xr.DataArray(held["obs"], dims="case")
        forecasts = xr.DataArray(held["ens"], dims=("case", "number"))
    found = crps_ensemble(observations, forecasts, estimator="ensemble")
    assert float(found) == pytest.approx(expected, abs=6e-6)


@pytest.mark.parametrize("dim", [None, "time", "x", ()])
def test_crps_agrees_with_xskillscore_along_any_dimension(pair, dim):
    expected = xs.crps_ensemble(*pair, member_dim="number", dim=[] if dim == () else dim)
    xr.testing.assert_allclose(expected, crps_ensemble(*pair, dim=dim, estimator="ensemble"))


@pytest.mark.parametrize("fair", [True, False])
def test_brier_score_agrees_with_xskillscore(pair, fair):
    observations, forecasts = pair
    expected = xs.brier_score(observations >= 1, forecasts >= 1, member_dim="number", fair=fair)
    assert float(brier_score(observations, forecasts, 1.0, fair=fair)) == pytest.approx(float(expected))


def test_dask_chunks_of_any_shape_give_the_same(pair):
    observations, forecasts = pair
    found = crps_ensemble(observations.chunk(time=2, x=7), forecasts.chunk(number=3, time=4, x=11), dim="x")
    xr.testing.assert_allclose(crps_ensemble(observations, forecasts, dim="x"), found.compute())


def test_members_may_be_on_any_axis(pair):
    observations, forecasts = pair
    expected = crps_ensemble(observations, forecasts)
    xr.testing.assert_allclose(expected, crps_ensemble(observations, forecasts.transpose("x", "number", "time")))


def test_spread_error_ratio_of_a_perfect_ensemble_is_one_for_few_members():
    generator = np.random.default_rng(3)
    values = generator.standard_normal((4, 200_000))
    found = spread_error_ratio(xr.DataArray(values[0], dims="x"), xr.DataArray(values[1:], dims=("number", "x")))
    assert float(found) == pytest.approx(1, abs=0.01)


def test_spread_error_correlation_is_that_of_numpy(pair):
    observations, forecasts = pair
    spread = forecasts.std("number", ddof=1).values.ravel()
    error = np.abs(forecasts.mean("number") - observations).values.ravel()
    expected = np.corrcoef(spread, error)[0, 1]
    assert float(spread_error_correlation(*pair)) == pytest.approx(expected, abs=1e-12)


def test_rank_histogram_is_the_mean_of_random_tie_breaking(pair):
    observations, forecasts = pair
    generator = np.random.default_rng(4)
    both = np.concatenate([observations.values[None], forecasts.values]).reshape(12, -1)
    expected = np.zeros(12)
    for _ in range(400):
        jitter = generator.random(both.shape) * 1e-6
        expected += np.bincount((both + jitter).argsort(0).argsort(0)[0], minlength=12) / 400
    np.testing.assert_allclose(rank_histogram(*pair), expected, atol=0.5)
    assert float(rank_histogram(*pair).sum()) == pytest.approx(240)


def test_reliability_counts_are_exact(pair):
    observations, forecasts = pair
    expected = np.zeros((12, 2), int)
    for o, f in zip(observations.values.ravel(), forecasts.values.reshape(11, -1).T, strict=True):
        expected[int((f >= 0.5).sum()), int(o >= 0.5)] += 1
    np.testing.assert_array_equal(expected, reliability(*pair, 0.5))


def test_missing_points_are_left_out(pair):
    observations, forecasts = pair
    holed = forecasts.where((forecasts.x != 3) | (forecasts.number != 2))
    expected = crps_ensemble(observations.drop_isel(x=3), forecasts.drop_isel(x=3))
    assert float(crps_ensemble(observations, holed)) == pytest.approx(float(expected))
    assert int(reliability(observations, holed, 0.0).sum()) == 6 * 39


@pytest.mark.parametrize("score", [crps_ensemble, spread_error_ratio, spread_error_correlation])
def test_one_member_is_refused(pair, score):
    observations, forecasts = pair
    with pytest.raises(SettingsError, match="needs 2 members or more, the ensemble has 1"):
        score(observations, forecasts.isel(number=[0]))


def test_an_unknown_estimator_is_refused(pair):
    with pytest.raises(SettingsError, match="no CRPS estimator 'pwm'"):
        crps_ensemble(*pair, estimator="pwm")


def fields(seed, cases=3, members=5, shape=(12, 14)):
    generator = np.random.default_rng(seed)
    truth = xr.DataArray(generator.normal(size=(cases, *shape)), dims=("time", "y", "x"))
    forecasts = xr.DataArray(generator.normal(size=(members, cases, *shape)), dims=("number", "time", "y", "x"))
    return truth + 0.5, forecasts + 0.8 * truth


def test_roc_area_is_scipy_s():
    from scipy.stats import mannwhitneyu

    truth, forecasts = fields(0)
    event = truth.values.ravel() >= 1
    share = (forecasts.values >= 1).mean(0).ravel()
    expected = mannwhitneyu(share[event], share[~event]).statistic / (event.sum() * (~event).sum())
    assert float(xarray_api.roc_area(truth, forecasts, 1)) == pytest.approx(expected)
    assert xarray_api.roc_area(truth, forecasts, 1, dim=("y", "x")).dims == ("time",)


def test_fss_pools_cases_and_chunks_do_not_matter():
    truth, forecasts = fields(1)
    found = float(xarray_api.fractions_skill_score(truth, forecasts, 1, 3))
    lazy = xarray_api.fractions_skill_score(truth.chunk(time=1), forecasts.chunk(time=1, number=2), 1, 3)
    assert float(lazy) == pytest.approx(found)
    assert 0 < found < float(xarray_api.fractions_skill_score(truth, forecasts, 1, 9, periodic=True)) < 1
    assert float(xarray_api.fractions_skill_score(truth, truth.expand_dims(number=2), 1, 3)) == pytest.approx(1)


@pytest.mark.parametrize("width", [2, 0, 13])
def test_a_square_without_a_centre_is_refused(width):
    with pytest.raises(SettingsError, match="no centre"):
        xarray_api.fractions_skill_score(*fields(2), 1, width)


def test_the_energy_score_of_a_case_is_its_own():
    truth, forecasts = fields(3)
    found = xarray_api.energy_score(truth, forecasts)
    assert found.dims == ("time",)
    alone = xarray_api.energy_score(truth.isel(time=1), forecasts.isel(time=1))
    assert float(alone) == pytest.approx(float(found[1]))
    one = xarray_api.energy_score(truth, forecasts.isel(number=[0]), estimator="ensemble")
    rmse = np.sqrt(((forecasts[0] - truth) ** 2).mean(("y", "x")))
    np.testing.assert_allclose(one, rmse)
    with pytest.raises(SettingsError, match="fair energy score"):
        xarray_api.energy_score(truth, forecasts.isel(number=[0]))
    with pytest.raises(SettingsError, match="no estimator"):
        xarray_api.energy_score(truth, forecasts, estimator="median")
