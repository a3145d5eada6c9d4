from __future__ import annotations

import numpy as np
import pytest

from convcast.dataset.cases.windows import Window
from convcast.metrics.regimes import REGIMES
from convcast.metrics.xarray_api import crps_ensemble
from convcast.model.skill import EventFrequency
from convcast.model.training.ensemble_scores import BANDS, WIDTH, case_sums, events_of, field_skill, unpack
from convcast.variables import CAPE, REFC, T2M

SIDE = 48
M = 6
VARIABLES = (REFC, T2M, CAPE)


def window(target, last):
    side = target.shape[-1]
    still = np.zeros((2, side, side), np.float32)
    hour = np.datetime64("2024-05-06T21", "h")
    return Window(hour, 1, last[None], still, still, np.zeros(2, np.float32), np.zeros(2, np.float32), last, target)


@pytest.fixture
def case():
    """Three fields; an echo in one corner, unstable air in the other half; spread known at each point."""
    generator = np.random.default_rng(1)
    last = np.stack([np.full((SIDE, SIDE), -10.0), np.full((SIDE, SIDE), 290.0), np.zeros((SIDE, SIDE))])
    last[0, 2, 2] = 45
    last[2, :, 30:] = 2000
    width = np.linspace(0.5, 3, SIDE)[:, None] * np.ones((1, 3, 1, SIDE))
    centre = last + generator.normal(size=last.shape)
    members = centre + width * generator.normal(size=(M, 3, SIDE, SIDE))
    target = (centre + width * generator.normal(size=(1, 3, SIDE, SIDE)))[0]
    return members.astype(np.float32), window(target.astype(np.float32), last.astype(np.float32))


def skill_of(members, made, variable, reference=None):
    sums = case_sums(members, members[0] if reference is None else reference, made, VARIABLES)
    return field_skill(sums[VARIABLES.index(variable)][None], [made.lead], variable, M)


def test_crps_is_that_of_verification(case):
    import xarray as xr

    members, made = case
    skill = skill_of(members, made, T2M)
    expected = crps_ensemble(
        xr.DataArray(made.target[1], dims=("y", "x")),
        xr.DataArray(members[:, 1], dims=("number", "y", "x")),
        member_dim="number",
        estimator="fair",
    )
    assert skill.crps == pytest.approx(float(expected.mean()), rel=1e-4)
    assert skill.persistence == pytest.approx(np.abs(made.target[1] - made.history[-1, 1]).mean(), rel=1e-5)
    assert skill.low <= skill.crps <= skill.high


def test_members_that_are_like_the_truth_have_a_ratio_of_one_and_a_correlation(case):
    members, made = case
    skill = skill_of(members, made, T2M)
    assert skill.spread_error == pytest.approx(1, abs=0.1)
    assert set(skill.correlation) == set(REGIMES)
    assert skill.correlation["quiet"] > 0.2


def test_correlations_are_numpy_s_and_by_regime(case):
    members, made = case
    skill = skill_of(members, made, T2M)
    y, x = np.indices((SIDE, SIDE))
    echo = (y - 2) ** 2 + (x - 2) ** 2 <= 13**2
    spread, error = members[:, 1].std(axis=0, ddof=1), np.abs(members[:, 1].mean(axis=0) - made.target[1])
    for name, chosen in (("echo", echo), ("unstable", (x >= 30) & ~echo), ("quiet", (x < 30) & ~echo)):
        expected = np.corrcoef(spread[chosen], error[chosen])[0, 1]
        assert skill.correlation[name] == pytest.approx(expected, abs=1e-3)


def test_missing_points_are_left_out(case):
    members, made = case
    holed = made.target.copy()
    holed[1, :10] = np.nan
    skill = skill_of(members, window(holed, made.history[-1]), T2M)
    part = window(made.target[:, 10:, :38], made.history[-1][:, 10:, :38])
    assert np.isfinite(skill.crps)
    assert part is not None
    everything_gone = window(np.full_like(holed, np.nan), made.history[-1])
    assert case_sums(members, members[0], everything_gone, VARIABLES).sum() == 0


def test_no_correlation_where_nothing_varies():
    constant_spread, two_points, no_points = (10, 10, 5, 10, 4, 5), (2, 1, 1, 1, 1, 1), (0,) * 6
    sums = np.zeros((1, WIDTH))
    unpack(sums)["means"][:] = 1
    unpack(sums)["moments"][:] = constant_spread, two_points, no_points
    assert list(field_skill(sums, [1], T2M, M).correlation.values()) == [None, None, None]


def test_errors_of_mean_and_reference_are_in_the_field_s_units(case):
    members, made = case
    skill = skill_of(members, made, T2M, reference=made.target + 2)
    error = members[:, 1].mean(axis=0) - made.target[1]
    expected = (error**2).mean() - members[:, 1].var(axis=0, ddof=1).mean() / M
    assert skill.rmse == pytest.approx(np.sqrt(expected), rel=1e-4)
    assert skill.reference_rmse == pytest.approx(2, rel=1e-4)


def test_frequencies_are_by_lead_and_begin_with_any_echo():
    echo = np.full((1, 1, SIDE, SIDE), -10.0, np.float32)
    echo[..., :12, :] = 25  # a quarter of the members' points
    observed = np.full((1, SIDE, SIDE), -10.0, np.float32)
    observed[:, :24] = 35
    sums = [case_sums(np.repeat(field, 2, axis=0), field[0], window(observed, observed), (REFC,))[0]
            for field in (echo, np.full_like(echo, -10.0))]  # fmt: skip
    skill = field_skill(np.stack(sums), [1, 3], REFC, 2)
    assert skill.events[:3] == (
        EventFrequency(1, None, 0.25, 0.5),
        EventFrequency(1, 20.0, 0.25, 0.5),
        EventFrequency(1, 30.0, 0.0, 0.5),
    )
    assert [event.bias for event in skill.events if event.threshold is None] == [0.5, 0.0]
    assert [event.bias for event in skill.events if event.threshold == 50] == [None, None]
    assert events_of(T2M) == T2M.thresholds


def test_spectra_are_those_of_verification(case):
    from convcast.metrics.scores.spectra import BANDS as EDGES

    members, made = case
    assert len(EDGES) - 1 == BANDS
    same = np.repeat(made.target[None], M, axis=0)
    assert skill_of(same, made, T2M).log_spectral_distance == pytest.approx(0, abs=1e-6)
    assert skill_of(2 * same, made, T2M).log_spectral_distance == pytest.approx(6.02, abs=0.05)
    holed = made.target.copy()
    holed[1, 0, 0] = np.nan
    assert skill_of(members, window(holed, made.history[-1]), T2M).log_spectral_distance is None
