from __future__ import annotations

import numpy as np
import pytest
import torch

from convcast.dataset.windows import Window
from convcast.metrics.regimes import REGIMES
from convcast.metrics.xarray_api import crps_ensemble
from convcast.model.skill import FieldSkill, Validation
from convcast.model.training.validation import case_sums, field_skill
from convcast.variables import CAPE, REFC, T2M

SIDE = 48
M = 6


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


def test_crps_is_that_of_verification(case):
    import xarray as xr

    members, made = case
    skill = field_skill(case_sums(members, made, (REFC, T2M, CAPE))[1][None], M)
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
    skill = field_skill(case_sums(members, made, (REFC, T2M, CAPE))[1][None], M)
    assert skill.spread_error == pytest.approx(1, abs=0.1)
    assert set(skill.correlation) == set(REGIMES)
    assert skill.correlation["quiet"] > 0.2


def test_correlations_are_numpy_s_and_by_regime(case):
    members, made = case
    skill = field_skill(case_sums(members, made, (REFC, T2M, CAPE))[1][None], M)
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
    skill = field_skill(case_sums(members, window(holed, made.history[-1]), (REFC, T2M, CAPE))[1][None], M)
    part = window(made.target[:, 10:, :38], made.history[-1][:, 10:, :38])
    assert np.isfinite(skill.crps)
    assert part is not None
    everything_gone = window(np.full_like(holed, np.nan), made.history[-1])
    assert case_sums(members, everything_gone, (REFC, T2M, CAPE)).sum() == 0


def test_no_correlation_where_nothing_varies():
    constant_spread, two_points, no_points = (10, 10, 5, 10, 4, 5), (2, 1, 1, 1, 1, 1), (0,) * 6
    sums = np.array([[1, 1, 1, 1, *constant_spread, *two_points, *no_points]], float)
    assert list(field_skill(sums, M).correlation.values()) == [None, None, None]


def test_the_score_is_relative_to_persistence_and_falls_back_to_the_loss():
    skill = FieldSkill(1.0, 0.9, 1.1, 2.0, 1.0, {"quiet": None})
    found = Validation(0.3, 1, 2, "a", "b", {"t2m": skill, "refc": FieldSkill(3, 3, 3, 3.0, 1.0, {})})
    assert found.score == pytest.approx(0.75)
    assert Validation(0.3, 0, 2, None, None, {}).score == 0.3
    assert Validation.from_dict(found.to_dict()) == found


def test_ensembles_are_drawn_at_checkpoints_the_same_each_time(dataset, make_settings, tmp_path):
    from convcast.model.distributed import Distributed
    from convcast.model.training import preparation
    from convcast.model.training.trainer import Trainer

    settings = make_settings(training={"validation_cases": 2, "validation_members": 3, "precision": "float32"})
    description = preparation.describe(dataset, settings)
    _, validator = preparation.cases(dataset, description, settings)
    trainer = Trainer(description, settings.training, Distributed(torch.device("cpu")))
    once, again = trainer.validate(validator), trainer.validate(validator)
    assert once == again
    assert once.cases == 2
    assert once.first < once.last
    assert set(once.fields) == {v.name for v in dataset.variables}
    assert all(skill.crps > 0 for skill in once.fields.values())
