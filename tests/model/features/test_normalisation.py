from __future__ import annotations

import numpy as np
import pytest

from convcast.dataset import FieldStatistics
from convcast.errors import DamagedFileError
from convcast.model.features.normalisation import Normalisation


@pytest.fixture(scope="module")
def normalisation(dataset):
    return Normalisation.of(dataset, FieldStatistics.from_hours(dataset, dataset.hours))


def test_standardised_fields_have_mean_0_and_spread_1(dataset, normalisation):
    values = normalisation.standardise(dataset.read(dataset.hours))
    np.testing.assert_allclose(values.mean(axis=(0, 2, 3)), 0, atol=1e-4)
    np.testing.assert_allclose(values.std(axis=(0, 2, 3)), 1, rtol=1e-4)


def test_restoring_gives_the_fields_back(dataset, normalisation):
    fields = dataset.read(dataset.hours[:3])
    restored = normalisation.restore(normalisation.standardise(fields))
    np.testing.assert_allclose(restored, fields, rtol=1e-5, atol=1e-3)


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
    expected = normalisation.standardise(ends)[:, cin, 0, 0]
    np.testing.assert_allclose([low[cin], high[cin]], expected, rtol=1e-5)


def test_flat_ground_does_not_explode(dataset, normalisation):
    land = normalisation.standardise_static(dataset.static)[1]
    np.testing.assert_array_equal(land, 0)


def test_it_survives_json(normalisation):
    again = Normalisation.from_dict(normalisation.variables, normalisation.to_dict())
    np.testing.assert_array_equal(again.mean, normalisation.mean)
    np.testing.assert_array_equal(again.static_std, normalisation.static_std)


def test_one_of_other_fields_is_refused(normalisation):
    with pytest.raises(DamagedFileError, match="fields"):
        Normalisation.from_dict(normalisation.variables[:3], normalisation.to_dict())


def test_noise_beside_no_echo_is_no_echo(dataset, normalisation):
    refc = [v.name for v in dataset.variables].index("refc")
    fields = dataset.read(dataset.hours[:1])
    fields[:, refc] = -10
    noise = np.random.default_rng(0).uniform(-30, 11, fields.shape).astype(np.float32)
    restored = normalisation.restore(normalisation.standardise(fields) + noise / normalisation.std[:, None, None])
    np.testing.assert_array_equal(restored[:, refc], -10)
