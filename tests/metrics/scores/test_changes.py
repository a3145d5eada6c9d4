"""The CRPS of changes between leads, on exact ensembles of the simulated world."""

from __future__ import annotations

import numpy as np
import pytest

from convcast.archive.simulated.world import State, World
from convcast.metrics.scores.changes import ChangeCrps, changes_of, crps_of_change
from convcast.metrics.spatial import FieldCase, Scales
from convcast.metrics.sums import score_field
from convcast.notation import HOUR
from convcast.variables import FIELDS, REFC, T2M

SIZE, INIT, LEADS, MEMBERS = 64, np.datetime64("2024-05-27T22", "h"), (1, 2, 3), 12
SPIN_UP = 48
"""Hours from a clear sky to the analysis, which has storms."""


def crps_by_hand(members, truth):
    """Fair CRPS at each point by its definition."""
    count = len(members)
    between = np.abs(members[:, None] - members).sum(axis=(0, 1)) / (2 * count * (count - 1))
    return np.abs(members - truth).mean(axis=0) - between


@pytest.fixture(scope="module")
def exact():
    """Two draws of the same exact distribution after a spin-up, by field: (member, lead, y, x)."""
    world, calm, start = World(SIZE, SIZE), np.zeros((1, SIZE, SIZE)), INIT - SPIN_UP * HOUR
    clear = world.observe(State(calm, calm, calm, calm, np.array([[7.0, 0.0]])), start)
    before = {name: values[0] for name, values in clear.items()}
    run = world.exact_ensemble(before, start, leads=[SPIN_UP], members=1, seed=1)
    analysis = {name: values[0, 0] for name, values in run.items()}
    return [world.exact_ensemble(analysis, INIT, leads=LEADS, members=MEMBERS, seed=seed) for seed in (1, 2)]


def test_it_is_the_crps_of_differences():
    generator = np.random.default_rng(0)
    members, truth = generator.standard_normal((5, 3, 4)), generator.standard_normal((3, 4))
    np.testing.assert_allclose(crps_of_change(members, truth), crps_by_hand(members, truth))


@pytest.mark.parametrize("name", FIELDS)
def test_members_that_keep_their_departure_from_lead_to_lead_are_worse_than_exact_ones(exact, name):
    """The spread at each lead is as it was, but weather that passes a point changes more than these members do."""
    members, truths = (drawn[name] for drawn in exact)
    mean = members.mean(axis=0)
    kept = mean[1] + (members[:, 0] - mean[0]) * (members[:, 1].std() / members[:, 0].std())

    def crps(second):
        changes = second - members[:, 0]
        return np.mean([crps_of_change(changes, truth[1] - truth[0]).mean() for truth in truths])

    assert crps(kept) > 1.1 * crps(members[:, 1])


def test_a_case_adds_its_points_and_their_crps_and_missing_points_add_none(exact):
    members, truth = exact[0]["t2m"].astype(np.float32), exact[1]["t2m"][0].astype(np.float32)
    observed = truth.max(axis=0)
    observed[2, 3] = np.nan
    changes = {
        (1, 2): crps_of_change(members[:, 1] - members[:, 0], truth[1] - truth[0]),
        (2, 3): crps_of_change(members[:, 2] - members[:, 1], truth[2] - truth[1]),
    }

    scales = Scales.of((9.0,), (SIZE, SIZE), periodic=True)
    found = score_field(members.max(axis=1), observed, T2M, scales=scales, changes=changes).whole_fields

    kept = np.ones((SIZE, SIZE), bool)
    kept[2, 3] = False
    for (first, last), crps in changes.items():
        points, total = found[f"change_{first}_{last}"]
        assert points == SIZE**2 - 1
        assert total == pytest.approx(crps[kept].sum())


def test_cases_of_a_single_lead_have_no_changes(exact):
    field = exact[0]["refc"][:, 0]
    case = FieldCase(field, field[0], np.ones(field[0].shape, bool), REFC, Scales((3,), periodic=True))
    assert ChangeCrps().sums(case) == {}
    assert list(changes_of({"energy": np.zeros((2, 3))})) == []
