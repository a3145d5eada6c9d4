from __future__ import annotations

import json

import numpy as np
import pytest

from convcast.dataset import Dataset, FieldStatistics
from convcast.dataset.layout import DatasetDescription, HourStatus
from convcast.dataset.normal_scores import LEVELS, NormalScores
from convcast.dataset.statistics import histogram_means
from convcast.dataset.store import Store
from convcast.errors import DamagedFileError, MissingInputError
from convcast.grid import Grid
from convcast.notation import HOUR
from convcast.variables import REFC, T2M

START = np.datetime64("2024-05-06T00", "h")


def transformed(dataset, hours):
    """Return transformed fields (time, variable, y, x), float64: normal scores of reflectivity."""
    values = dataset.read(hours).astype(np.float64)
    fields = [v.transform.forward(values[:, i]) for i, v in enumerate(dataset.variables)]
    echo = fields[0] > -10
    scores = NormalScores.of(np.quantile(fields[0][echo], LEVELS, method="inverted_cdf"))
    fields[0] = np.where(echo, scores.forward(fields[0]), scores.weakest - REFC.floor.depth)
    return np.stack(fields, axis=1)


def test_quantiles_are_those_of_echoes(long_dataset):
    values = long_dataset.read(long_dataset.hours[3:20])[:, 0]
    statistics = FieldStatistics.from_hours(long_dataset, long_dataset.hours[3:20])
    expected = np.quantile(values[values > -10], LEVELS, method="inverted_cdf")
    np.testing.assert_array_equal(statistics.quantiles[0], expected)
    assert np.isnan(statistics.quantiles[1:]).all()


def test_mean_and_spread_are_those_of_the_values(long_dataset):
    hours = long_dataset.hours[3:20]
    values = transformed(long_dataset, hours)
    statistics = FieldStatistics.from_hours(long_dataset, hours)
    np.testing.assert_allclose(statistics.mean, values.mean(axis=(0, 2, 3)), rtol=1e-10)
    np.testing.assert_allclose(statistics.std, values.std(axis=(0, 2, 3)), rtol=1e-10)


def test_tendencies_are_those_of_hours_that_follow_one_another(long_dataset):
    hours = long_dataset.hours  # 29 hours with a gap: 27 pairs
    values = transformed(long_dataset, hours)
    values[:, 0] = long_dataset.read(hours)[:, 0]  # tendencies of reflectivity are in dBZ
    change = np.concatenate([np.diff(values[:13], axis=0), np.diff(values[13:], axis=0)])
    statistics = FieldStatistics.from_hours(long_dataset, hours)
    assert (statistics.hours, statistics.pairs) == (29, 27)
    np.testing.assert_allclose(statistics.tendency_std, change.std(axis=(0, 2, 3)), rtol=1e-3)


def test_tendencies_do_not_depend_on_the_order_in_which_hours_came(small_archive, run):
    orders = {"forward": [[0, 1, 2, 3]], "backward": [[3], [2], [0, 1]]}
    results = []
    for name, batches in orders.items():
        archive = small_archive(name)
        archive.add_static()
        for batch in batches:
            for hour in batch:
                archive.add_hour(START + hour * HOUR)
            _, dataset = run(archive)
        results.append(FieldStatistics.from_hours(dataset, dataset.hours).to_dict())
        dataset.path.rename(dataset.path.with_name(f"{name}.zarr"))
    assert results[0] == results[1]
    assert results[0]["pairs"] == 3


def test_missing_values_do_not_count(tmp_path):
    values = np.random.default_rng(0).integers(4000, 5000, (1, 20, 20)).astype(np.float32) / 16
    values[0, 3, 4:9] = np.nan
    description = DatasetDescription((T2M,), Grid(20, 20, 300, 800), False, 0)
    store = Store.create(tmp_path / "dataset.zarr", description, np.zeros((2, 20, 20), np.float32))
    store.write_hour(START, values)
    store.write_status([START], HourStatus.OK, [])
    statistics = FieldStatistics.from_hours(Dataset(store), np.array([START]))
    np.testing.assert_allclose(statistics.mean, np.nanmean(values, dtype=np.float64), rtol=1e-12)
    np.testing.assert_allclose(statistics.std, np.nanstd(values.astype(np.float64)), rtol=1e-12)


def test_a_field_that_never_varies_may_be_divided_by_its_spread(archive, run):
    calm = np.full((24, 32), -10.0)
    for hour in range(3):
        archive.add_hour(START + hour * HOUR, changed={"refc": calm})
    _, dataset = run(archive)
    statistics = FieldStatistics.from_hours(dataset, dataset.hours)
    assert (statistics.std[0], statistics.tendency_std[0]) == (1, 1)
    np.testing.assert_array_equal(statistics.quantiles[0], -10)
    lowest = NormalScores.of(statistics.quantiles[0]).weakest - REFC.floor.depth
    assert statistics.mean[0] == pytest.approx(lowest)


def test_statistics_survive_json(long_dataset):
    statistics = FieldStatistics.from_hours(long_dataset, long_dataset.hours)
    again = FieldStatistics.from_dict(json.loads(json.dumps(statistics.to_dict())))
    assert again.to_dict() == statistics.to_dict()
    np.testing.assert_array_equal(again.mean, statistics.mean)


def test_damaged_json_is_refused():
    with pytest.raises(DamagedFileError, match="statistics are damaged"):
        FieldStatistics.from_dict({"fields": ["t2m"]})


def test_statistics_of_no_hours_are_refused(long_dataset):
    with pytest.raises(MissingInputError):
        FieldStatistics.from_hours(long_dataset, long_dataset.hours[:0])


def test_statistics_of_absent_hours_are_refused(long_dataset):
    with pytest.raises(MissingInputError, match="2024-05-06T13"):
        FieldStatistics.from_hours(long_dataset, long_dataset.times)


def test_means_from_a_histogram(long_dataset):
    hour = long_dataset.hours[4]
    means = histogram_means(long_dataset.store.read_histogram(hour), long_dataset.variables)
    np.testing.assert_allclose(means, long_dataset.read([hour])[0].mean(axis=(1, 2), dtype=np.float64))
