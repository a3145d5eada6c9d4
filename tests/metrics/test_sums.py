from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from convcast.errors import SettingsError
from convcast.metrics import formulas
from convcast.metrics.bootstrap import Bootstrap
from convcast.metrics.spatial import ObservedResults, Scales
from convcast.metrics.sums import score_field
from convcast.variables import CIN, REFC


def draw(generator, members=20, points=600, *, scale=1.0, shift=0.0):
    """Truth and members from the same distribution, of a spread that differs from point to point."""
    centre = generator.normal(10, 20, points)
    width = generator.uniform(1, 12, points)
    truth = centre + width * generator.standard_normal(points)
    forecasts = centre + shift + scale * width * generator.standard_normal((members, points))
    # Floored as reflectivity is, so that most low points are ties.
    return np.maximum(forecasts, -10).astype(np.float32), np.maximum(truth, -10).astype(np.float32)


def as_field(forecasts, truth):
    return forecasts.reshape(len(forecasts), 20, -1), truth.reshape(20, -1)


@pytest.mark.parametrize("chunk", [1, 100, 127, 10_000])
def test_statistics_are_the_same_for_any_chunking(chunk):
    forecasts, truth = as_field(*draw(np.random.default_rng(0)))
    expected, found = score_field(forecasts, truth, REFC), score_field(forecasts, truth, REFC, chunk=chunk)
    for name, total in expected.sums.items():
        np.testing.assert_allclose(found.sums[name], total, rtol=1e-12)
    np.testing.assert_array_equal(expected.tables, found.tables)
    np.testing.assert_allclose(found.ranks, expected.ranks, atol=1e-9)
    np.testing.assert_allclose(found.spread_bins, expected.spread_bins, rtol=1e-12)


@pytest.mark.parametrize("field", [REFC, CIN])
def test_statistics_have_the_same_bits_on_any_number_of_threads(field, monkeypatch):
    generator = np.random.default_rng(2)
    truth, *members = field.display[0] + np.ptp(field.display) * gaussian_filter(
        generator.random((13, 300, 500), np.float32), (0, 4, 4)
    )
    found = []
    for count in ("1", "2", "3"):
        monkeypatch.setenv("OMP_NUM_THREADS", count)
        found.append(score_field(np.stack(members), truth, field, scales=Scales((3, 9), periodic=False), chunk=1 << 14))
    for other in found[1:]:
        for one, same in zip(leaves(found[0]), leaves(other), strict=True):
            np.testing.assert_array_equal(one, same)


def test_missing_points_of_one_system_change_no_bit_of_the_next():
    generator = np.random.default_rng(3)
    truth, *members = 30 + 250 * (gaussian_filter(generator.random((13, 90, 110), np.float32), (0, 3, 3)) - 0.5)
    first, second = np.stack(members[:6]), np.stack(members[6:])
    lacking = second.copy()
    lacking[2, 40, 50] = np.nan  # fewer points: what was kept is of no use
    for observations in (truth, truth.copy()):
        kept = ObservedResults()
        for forecasts in (first, second, lacking, second):
            scales = Scales((3, 9), periodic=False)
            found = score_field(forecasts, observations, REFC, scales=scales, observed=kept)
            expected = score_field(forecasts, observations, REFC, scales=scales)
            assert expected.whole_fields["fractions"][1, 0, 2] > 0
            for one, same in zip(leaves(expected), leaves(found), strict=True):
                np.testing.assert_array_equal(one, same)


def leaves(statistics):
    for _, value in sorted(vars(statistics).items()):
        yield from value.values() if isinstance(value, dict) else [value]


def test_tables_and_ranks_count_every_point_that_is_there():
    forecasts, truth = as_field(*draw(np.random.default_rng(1)))
    truth[0, 0], forecasts[3, 1, 1] = np.nan, np.nan
    found = score_field(forecasts, truth, REFC)
    assert found.sums["points"] == 598
    assert found.ranks.sum() == pytest.approx(598)
    np.testing.assert_array_equal([598] * len(REFC.thresholds), found.tables.sum((1, 2)))
    assert found.spread_bins[:, 0].sum() == 598


def test_events_of_inhibition_are_at_or_below_the_threshold():
    forecasts = np.array([[[-30.0, 0.0]], [[-25.0, -10.0]]], np.float32)
    found = score_field(forecasts, np.array([[-25.0, -24.0]], np.float32), CIN)
    np.testing.assert_array_equal([[1, 0], [0, 0], [0, 1]], found.tables[0])


def test_ensembles_of_different_sizes_are_not_pooled():
    generator = np.random.default_rng(2)
    few, many = (score_field(*as_field(*draw(generator, m)), REFC) for m in (5, 6))
    with pytest.raises(SettingsError, match="5 and 6 members"):
        few + many


def daily(generator, days=60, **how):
    return [score_field(*as_field(*draw(generator, **how)), REFC) for _ in range(days)]


def ratio_of(statistics):
    bootstrap = Bootstrap(len(statistics), resamples=1000, seed=0, confidence=0.99)
    sums = ([s.sums[name] for s in statistics] for name in ("variance", "squared_error"))
    return bootstrap.estimate(lambda v, e: formulas.spread_error_ratio(v, e, statistics[0].members), *sums)


def test_a_perfect_ensemble_reads_calibrated():
    statistics = daily(np.random.default_rng(3))
    ratio = ratio_of(statistics)
    assert ratio.low < 1 < ratio.high
    ranks = np.array([s.ranks for s in statistics])
    error = ranks.std(0, ddof=1) * np.sqrt(len(ranks))
    assert np.all(np.abs(ranks.sum(0) - ranks.sum() / 21) < 4 * error)
    tables = np.array([s.tables[1] for s in statistics])
    stated = np.arange(21) / 20
    # A finite ensemble's counts are not quite reliable point by point (k/M of a sharper distribution), its mean is.
    expected = (tables.sum(-1) * stated).sum(1)
    observed = tables[..., 1].sum(1)
    apart = observed - expected
    assert abs(apart.mean()) < 4 * apart.std(ddof=1) / np.sqrt(len(apart))


@pytest.mark.parametrize(("scale", "over"), [(0.6, True), (1.6, False)])
def test_over_and_under_confidence_are_told_apart(scale, over):
    statistics = daily(np.random.default_rng(4), scale=scale)
    ratio = ratio_of(statistics)
    ends = np.mean([s.ranks[[0, -1]].mean() / s.ranks.mean() for s in statistics])
    assert (ratio.high < 1, ends > 1.3) == ((True, True) if over else (False, False))
    assert (ratio.low > 1, ends < 0.8) == ((False, False) if over else (True, True))


@pytest.mark.parametrize("shift", [-6.0, 6.0])
def test_a_bias_has_its_sign_and_slopes_the_ranks(shift):
    total = sum(daily(np.random.default_rng(5), shift=shift)[1:], daily(np.random.default_rng(6), 1, shift=shift)[0])
    assert np.sign(total.sums["error"]) == np.sign(shift)
    assert np.sign(total.ranks[0] - total.ranks[-1]) == np.sign(shift)
