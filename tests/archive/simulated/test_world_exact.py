"""The truth is statistically a member of the exact ensemble, which is sharper than any other forecast."""

import numpy as np
import pytest

from convcast.archive.simulated.world import ERA_HOURS, FIELDS, World

ERA = np.datetime64(707 * ERA_HOURS, "h")
CASES = 48
HOURS_BETWEEN = 7  # so that cases meet every hour of the day
MEMBERS = 19


def packed(fields):
    return {name: np.round(values[0] * 16) / 16 for name, values in fields.items()}


def crps(members, truth):
    """Fair CRPS of (member, ...) at each point."""
    m = len(members)
    weights = (2 * np.arange(1, m + 1) - m - 1).reshape(-1, *[1] * truth.ndim)
    return np.abs(members - truth).mean(axis=0) - (weights * np.sort(members, axis=0)).sum(axis=0) / (m * (m - 1))


@pytest.fixture(scope="module")
def cases():
    """Truth (case, ny, nx), exact members (case, member, ny, nx), initial fields, truths of other days."""
    world = World(48, 48, seed=7)
    run = [
        (time, packed(world.observe(state, time)))
        for time, state in world.nature_run(ERA, CASES * HOURS_BETWEEN + 1, spin_up_hours=48)
    ]
    truth, exact, initial, climate = ({name: [] for name in FIELDS} for _ in range(4))
    for start in range(0, CASES * HOURS_BETWEEN, HOURS_BETWEEN):
        time, fields = run[start]
        ensemble = world.exact_ensemble(fields, time, leads=[1], members=MEMBERS, seed=1)
        same_hour = [h for h in range((start + 1) % 24, len(run), 24) if abs(h - start - 1) > 24]
        for name in FIELDS:
            truth[name].append(run[start + 1][1][name])
            exact[name].append(ensemble[name][:, 0])
            initial[name].append(fields[name])
            climate[name].append(np.stack([run[h][1][name] for h in same_hour[:: max(1, len(same_hour) // 12)]]))
    return truth, exact, initial, climate


def departures_from_uniform(members, truth):
    """Return the departure of mean and variance of the truth's rank from uniform, in standard errors.

    Points of a case share their noise, so that each case counts once, by its mean over the points.
    """
    generator = np.random.default_rng(0)
    moments = []
    for ensemble, value in zip(members, truth, strict=True):
        ties = (ensemble == value).sum(axis=0)
        rank = (ensemble < value).sum(axis=0) + generator.uniform(size=value.shape) * (ties + 1)
        centred = 2 * rank / (len(ensemble) + 1) - 1
        moments.append([centred.mean(), (centred**2).mean() - 1 / 3])
    moments = np.array(moments)
    return moments.mean(axis=0) / (moments.std(axis=0, ddof=1) / np.sqrt(len(moments)))


def spread_over_error(members, truth):
    members, truth = np.array(members), np.array(truth)
    variance = members.var(axis=1, ddof=1).mean() * (members.shape[1] + 1) / members.shape[1]
    return np.sqrt(variance / ((members.mean(axis=1) - truth) ** 2).mean())


def rounded(members):
    """Members as packed as truth: else rounding alone would rank truth at a floor or among CIN near 0."""
    return [np.round(m * 16) / 16 for m in members]


@pytest.mark.slow
@pytest.mark.parametrize("name", FIELDS)
def test_truth_ranks_as_any_member(cases, name):
    truth, exact, _, _ = cases
    members = rounded(exact[name])
    # 14 statistics are judged; one of 3.5 standard errors among them has a chance of under 1 %.
    assert np.abs(departures_from_uniform(members, truth[name])).max() < 3.5


@pytest.mark.slow
@pytest.mark.parametrize("name", FIELDS)
def test_ranks_tell_a_wrong_ensemble(cases, name):
    """The judge above fails members of 0.7 times the spread, and members shifted by half of it."""
    truth, exact, _, _ = cases
    if name == "refc":  # floors survive a change of spread
        narrow = [np.where(m > -10, m.mean(axis=0) + 0.7 * (m - m.mean(axis=0)), m) for m in exact[name]]
        shifted = [np.where(m > -10, m + m.std(axis=0) / 2, m) for m in exact[name]]
    else:
        narrow = [m.mean(axis=0) + 0.7 * (m - m.mean(axis=0)) for m in exact[name]]
        shifted = [m + m.std(axis=0) / 2 for m in exact[name]]
    assert departures_from_uniform(rounded(narrow), truth[name])[1] > 3.5
    assert departures_from_uniform(rounded(shifted), truth[name])[0] < -3.5


@pytest.mark.slow
@pytest.mark.parametrize("name", FIELDS)
def test_spread_matches_error(cases, name):
    truth, exact, _, _ = cases
    assert 0.9 < spread_over_error(exact[name], truth[name]) < 1.1


@pytest.mark.slow
@pytest.mark.parametrize(("name", "least"), [("refc", 0.6), ("cape", 0.35), ("cin", 0.25)])
def test_uncertainty_depends_on_the_state(cases, name, least):
    truth, exact, _, _ = cases
    members = np.array(exact[name])
    spread = members.std(axis=1, ddof=1)
    error = np.abs(members.mean(axis=1) - np.array(truth[name]))
    assert np.corrcoef(spread.ravel(), error.ravel())[0, 1] > least


@pytest.mark.slow
@pytest.mark.parametrize("name", FIELDS)
def test_there_is_something_to_predict(cases, name):
    """Exact is well below persistence and climatology, and well above zero beside them."""
    truth, exact, initial, climate = cases
    best = np.mean([crps(m, t).mean() for m, t in zip(exact[name], truth[name], strict=True)])
    persistence = np.mean([np.abs(i - t).mean() for i, t in zip(initial[name], truth[name], strict=True)])
    climatology = np.mean([crps(c, t).mean() for c, t in zip(climate[name], truth[name], strict=True)])
    assert 2 < persistence / best < 8
    assert 1.5 < climatology / best < 8


@pytest.mark.slow
def test_uncertainty_grows_with_lead(cases):
    world = World(48, 48, seed=7)
    fields = {name: values[0] for name, values in cases[2].items()}
    ensemble = world.exact_ensemble(fields, ERA, leads=[0, 1, 3, 6], members=24, seed=0)
    for name in FIELDS:
        if name in ("refc", "cape", "cin"):  # their uncertainty comes and goes with the hour
            continue
        spread = ensemble[name].std(axis=0).mean(axis=(1, 2))
        assert spread[0] < 1e-9
        assert (np.diff(spread) > 0).all(), name


def test_a_member_is_the_same_whatever_is_asked_for():
    world = World(32, 32, seed=7)
    time, state = next(world.nature_run(ERA, 1, spin_up_hours=6))
    fields = packed(world.observe(state, time))
    six = world.exact_ensemble(fields, time, leads=[1, 3], members=6, seed=0)
    two = world.exact_ensemble(fields, time, leads=[3, 2, 1], members=2, seed=0)
    for name in FIELDS:
        assert six[name].shape == (6, 2, 32, 32)
        np.testing.assert_allclose(two[name][:, [2, 0]], six[name][:2], rtol=1e-12, atol=1e-9)
    members = six["t2m"].reshape(6, -1)
    assert len(np.unique(members[:, 0])) == 6
    others = [
        world.exact_ensemble(fields, time, leads=[1], members=1, seed=1)["t2m"],
        world.exact_ensemble(fields, time + 24, leads=[1], members=1, seed=0)["t2m"],
    ]
    assert all(not np.allclose(other[0, 0], six["t2m"][0, 0]) for other in others)


def test_members_do_not_share_the_truths_noise():
    """An ensemble of the world's own seed must not hold the truth, nor be correlated with what befell it."""
    world = World(32, 32, seed=0)
    (time, state), (_, later) = world.nature_run(ERA, 2, spin_up_hours=6)
    members = world.exact_ensemble(world.observe(state, time), time, leads=[1], members=20, seed=0)["t2m"][:, 0]
    truth = world.observe(later, time + 1)["t2m"][0]
    mean = members.mean(axis=0)
    alike = [np.corrcoef((m - mean).ravel(), (truth - mean).ravel())[0, 1] for m in members]
    assert np.max(alike) < 0.8
    assert abs(np.mean(alike)) < 0.3
