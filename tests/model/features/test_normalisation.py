from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from convcast.dataset import FieldStatistics
from convcast.errors import DamagedFileError
from convcast.model.features.normalisation import Normalisation


@pytest.fixture(scope="module")
def normalisation(dataset):
    return Normalisation.of(dataset, FieldStatistics.from_hours(dataset, dataset.hours))


def test_standardised_fields_have_mean_0_and_spread_1(dataset, normalisation):
    values = normalisation.standardise(dataset.read(dataset.hours), periodic=True)
    np.testing.assert_allclose(values.mean(axis=(0, 2, 3)), 0, atol=1e-4)
    np.testing.assert_allclose(values.std(axis=(0, 2, 3)), 1, rtol=1e-4)


def test_restoring_gives_the_fields_back(dataset, normalisation):
    """Except the weakest echoes, which become the lowest quantile."""
    fields = dataset.read(dataset.hours[:3])
    refc = [v.name for v in dataset.variables].index("refc")
    expected = fields.copy()
    expected[:, refc] = np.maximum(fields[:, refc], normalisation.quantiles[refc, 0])
    assert (expected == fields).mean() > 0.999
    restored = normalisation.restore(normalisation.standardise(fields, periodic=True))
    np.testing.assert_allclose(restored, expected, rtol=1e-5, atol=1e-3)


def test_restored_fields_are_within_bounds(dataset, normalisation):
    wild = np.random.default_rng(0).normal(0, 50, (2, 7, 16, 16)).astype(np.float32)
    restored = normalisation.restore(wild)
    for i, variable in enumerate(dataset.variables):
        assert variable.bounds[0] <= restored[:, i].min()
        assert restored[:, i].max() <= variable.bounds[1]


def test_bounds_are_standardised_bounds_in_order(dataset, normalisation):
    low, high = normalisation.bounds()
    assert (low < high).all()
    cin = [v.name for v in dataset.variables].index("cin")
    ends = np.zeros((2, 7, 1, 1), np.float32)
    ends[:, cin, 0, 0] = dataset.variables[cin].bounds
    expected = normalisation.standardise(ends, periodic=True)[:, cin, 0, 0]
    np.testing.assert_allclose([low[cin], high[cin]], expected, rtol=1e-5)


def test_the_lowest_bound_of_a_field_with_a_floor_is_that_of_a_field_of_none(dataset, normalisation):
    low, high = normalisation.bounds()
    refc = [v.name for v in dataset.variables].index("refc")
    ends = np.zeros((2, 7, 4, 4), np.float32)
    ends[:, refc] = np.array(dataset.variables[refc].bounds)[:, None, None]
    standardised = normalisation.standardise(ends, periodic=True)[:, refc, 0, 0]
    np.testing.assert_allclose(standardised, [low[refc], high[refc]], rtol=1e-5)
    assert low[refc] < normalisation.weakest()[refc] < high[refc]
    assert np.isnan(np.delete(normalisation.weakest(), refc)).all()


def test_fields_without_an_echo_anywhere_have_finite_scores(dataset, normalisation):
    """Statistics of hours without an echo have the value for none at every quantile."""
    refc = [v.name for v in dataset.variables].index("refc")
    quantiles = normalisation.quantiles.copy()
    quantiles[refc] = -10
    dry = replace(normalisation, quantiles=quantiles)
    fields = dataset.read(dataset.hours[:1])
    fields[:, refc] = -10
    values = dry.standardise(fields, periodic=True)
    assert np.isfinite(values).all()
    np.testing.assert_array_equal(dry.restore(values)[:, refc], -10)


def test_flat_ground_does_not_explode(dataset, normalisation):
    land = normalisation.standardise_static(dataset.static)[1]
    np.testing.assert_array_equal(land, 0)


def test_it_survives_json(normalisation):
    again = Normalisation.from_dict(normalisation.variables, normalisation.to_dict())
    np.testing.assert_array_equal(again.mean, normalisation.mean)
    np.testing.assert_array_equal(again.quantiles, normalisation.quantiles)
    np.testing.assert_array_equal(again.static_std, normalisation.static_std)


def test_one_without_quantiles_of_a_field_with_a_floor_is_refused(normalisation):
    lacking = replace(normalisation, quantiles=np.full_like(normalisation.quantiles, np.nan))
    with pytest.raises(DamagedFileError, match="quantiles"):
        Normalisation.from_dict(normalisation.variables, lacking.to_dict())


def test_one_of_other_fields_is_refused(normalisation):
    with pytest.raises(DamagedFileError, match="fields"):
        Normalisation.from_dict(normalisation.variables[:3], normalisation.to_dict())


def test_noise_beside_no_echo_is_no_echo(dataset, normalisation):
    refc = [v.name for v in dataset.variables].index("refc")
    fields = dataset.read(dataset.hours[:1])
    fields[:, refc] = -10
    depth = dataset.variables[refc].floor.depth
    noise = np.random.default_rng(0).uniform(-3, 0.99 * depth, fields.shape).astype(np.float32)
    values = normalisation.standardise(fields, periodic=True)
    restored = normalisation.restore(values + noise / normalisation.std[:, None, None].astype(np.float32))
    np.testing.assert_array_equal(restored[:, refc], -10)
