from __future__ import annotations

import subprocess
import sys

import numpy as np
import properscoring
import pytest

from convcast.errors import SettingsError
from convcast.metrics import kernels
from convcast.metrics.kernels import (
    count_members,
    crps_points,
    exceedances,
    pack_exceedances,
    rank_counts,
    score_points,
    sorting_network,
    sums_by_class,
)


def reference_crps(forecasts, observation, *, fair):
    """The O(M²) definition, in float64, one point."""
    x = np.asarray(forecasts, float)
    m = len(x)
    pairs = np.abs(x[:, None] - x[None]).sum()
    return np.abs(x - observation).mean() - pairs / (2 * m * (m - fair))


@pytest.mark.parametrize("members", [1, 2, 3, 7, 10, 14, 33, 50, 64, 100])
def test_network_sorts_every_sequence_of_zeros_and_ones_tried(members):
    generator = np.random.default_rng(members)
    values = (generator.random((members, 2000)) < generator.random(2000)).astype(int)
    expected = np.sort(values, axis=0)
    for low, high in sorting_network(members):
        values[[low, high]] = np.minimum(values[low], values[high]), np.maximum(values[low], values[high])
    np.testing.assert_array_equal(expected, values)


@pytest.mark.parametrize("members", [2, 3, 10, 14, 50, 100, 135])
@pytest.mark.parametrize("estimator", ["fair", "ensemble"])
@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_crps_is_that_of_the_definition(members, estimator, kind):
    generator = np.random.default_rng(members)
    # Rounded, so that there are ties among members and with the observation; 300 points: two blocks and a part.
    forecasts = generator.normal(280, 3, (members, 300)).round().astype(kind)
    truth = generator.normal(280, 3, 300).round().astype(kind)
    # The definition is slow: points at the ends of blocks, and some between.
    some = [*range(0, 300, 13), 127, 128, 255, 256, 299]
    expected = [reference_crps(forecasts[:, i], truth[i], fair=estimator == "fair") for i in some]
    np.testing.assert_allclose(score_points(forecasts, truth).crps(estimator)[some], expected, atol=1e-12)
    np.testing.assert_allclose(crps_points(forecasts, truth, estimator)[some], expected, atol=1e-12)


@pytest.mark.parametrize("points", [0, 1, 127, 128, 1000])
@pytest.mark.parametrize("threads", [1, 2, 5])
def test_crps_alone_is_the_same_by_any_number_of_threads(monkeypatch, points, threads):
    monkeypatch.setattr(kernels, "threads", lambda: threads)
    generator = np.random.default_rng(points)
    forecasts, truth = generator.normal(size=(10, 1000)).astype("f4"), generator.normal(size=1000).astype("f4")
    forecasts[3, 5], truth[8] = np.nan, np.inf
    every_other = forecasts[:, ::2][:, :points], truth[::2][:points]  # as a slice of a larger array comes
    found = crps_points(*every_other, "fair")
    np.testing.assert_array_equal(found, score_points(*every_other).crps("fair"))
    assert np.isnan(found).sum() == min(1, points // 5)


def test_compiled_code_is_kept_between_processes():
    """Compiling takes seconds."""
    code = (
        "import numpy as np; from convcast.metrics import kernels; "
        "kernels.crps_points(np.ones((50, 300), 'f4'), np.ones(300, 'f4'), 'fair'); "
        "print(sum(kernels._crps.stats.cache_hits.values()), sum(kernels._crps.stats.cache_misses.values()))"
    )
    crps_points(np.ones((50, 300), "f4"), np.ones(300, "f4"), "fair")
    assert subprocess.run([sys.executable, "-c", code], check=True, capture_output=True).stdout == b"1 0\n"


def test_ensemble_crps_agrees_with_properscoring_on_floored_reflectivity():
    generator = np.random.default_rng(0)
    forecasts = np.maximum(generator.normal(-12, 20, (50, 400)), -10).astype(np.float32)
    truth = np.maximum(generator.normal(-12, 20, 400), -10).astype(np.float32)
    expected = properscoring.crps_ensemble(truth, forecasts, axis=0)
    np.testing.assert_allclose(score_points(forecasts, truth).crps("ensemble"), expected, atol=1e-9)


@pytest.mark.parametrize(("estimator", "expected"), [("ensemble", 5 / 6 - 4 / 9), ("fair", 5 / 6 - 4 / 6)])
def test_published_value_of_specsverification(estimator, expected):
    found = score_points(np.array([[1.0], [2.0], [3.0]]), np.array([1.5]))
    np.testing.assert_allclose(found.crps(estimator), [expected], rtol=1e-14)


@pytest.mark.parametrize("members", [2, 10, 50])
def test_fair_crps_of_a_perfect_normal_ensemble_is_the_closed_form_at_any_size(members):
    generator = np.random.default_rng(members)
    forecasts, truth = generator.standard_normal((members, 100_000)), generator.standard_normal(100_000)
    np.testing.assert_allclose(score_points(forecasts, truth).crps("fair").mean(), np.pi**-0.5, rtol=0.01)


def test_a_single_member_is_scored_by_its_absolute_error():
    found = score_points(np.array([[3.0, 1.0]], np.float32), np.array([1.0, 1.0], np.float32))
    np.testing.assert_array_equal([2.0, 0.0], found.crps("fair"))


def test_no_member_is_refused():
    for score in (score_points, lambda f, o: crps_points(f, o, "fair")):
        with pytest.raises(SettingsError, match="without members"):
            score(np.empty((0, 4)), np.zeros(4))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_point_that_is_not_whole_is_missing_and_spoils_no_other(bad):
    forecasts, truth = np.arange(12.0).reshape(3, 4), np.ones(4)
    whole = score_points(forecasts, truth)
    forecasts[1, 2], truth[0] = bad, bad
    found = score_points(forecasts, truth)
    np.testing.assert_array_equal([False, True, False, True], found.present)
    np.testing.assert_array_equal(np.where(found.present, whole.crps("fair"), np.nan), found.crps("fair"))


def test_order_of_members_does_not_matter():
    generator = np.random.default_rng(1)
    forecasts, truth = generator.normal(size=(13, 50)), generator.normal(size=50)
    expected = score_points(np.sort(forecasts, 0), truth)
    found = score_points(forecasts[generator.permutation(13)], truth)
    np.testing.assert_allclose(found.crps("fair"), expected.crps("fair"), atol=1e-14)
    np.testing.assert_allclose(found.variance, forecasts.var(0, ddof=1), rtol=1e-12)


def test_exceedances_count_values_at_the_threshold():
    forecasts = np.array([[40.0, 39.9], [40.1, 0.0]], np.float32)
    np.testing.assert_array_equal([2, 0], exceedances(forecasts, 40.0))
    np.testing.assert_array_equal([1, 2], exceedances(forecasts, 40.0, events_below=True))


def test_ties_share_a_rank_in_equal_parts():
    below, equal = np.array([0, 1, 0, -1], np.int32), np.array([3, 0, 1, -1], np.int32)
    expected = np.array([0.25 + 0.5, 0.25 + 1 + 0.5, 0.25, 0.25])
    np.testing.assert_allclose(rank_counts(below, equal, 3), expected)


@pytest.mark.parametrize("members", [0, 1, 32, 70])
@pytest.mark.parametrize("events_below", [False, True])
def test_packed_exceedances_are_those_of_each_member(members, events_below):
    forecasts = np.random.default_rng(members).integers(0, 5, (members, 3, 700)).astype(np.float32)
    forecasts[:, 1, 5] = np.nan
    packed = pack_exceedances(forecasts, (1.0, 3.0), events_below=events_below)
    for k, threshold in enumerate((1.0, 3.0)):
        expected = forecasts <= threshold if events_below else forecasts >= threshold
        found = [packed[m // 32, k] >> np.uint32(m % 32) & 1 for m in range(members)]
        np.testing.assert_array_equal(np.array(found, bool).reshape(expected.shape), expected)
        np.testing.assert_array_equal(count_members(packed)[k], expected.sum(0))


def test_sums_by_class_are_those_of_bincount_bit_for_bit():
    rng = np.random.default_rng(0)
    classes, quantities = rng.integers(0, 3, 5000), [rng.normal(size=5000) for _ in range(4)]
    expected = [np.bincount(classes, quantity, 5) for quantity in quantities]
    np.testing.assert_array_equal(sums_by_class(classes, quantities, 5), expected)
    np.testing.assert_array_equal(sums_by_class(classes[:0], [quantity[:0] for quantity in quantities], 5), 0)


@pytest.mark.parametrize("count", [2, 0])
def test_a_class_beyond_the_last_is_refused(count):
    with pytest.raises(ValueError, match="classes from 0 to 2"):
        sums_by_class(np.array([0, 2]), [np.ones(2)], count)
