"""The simulated world has plausible fields and storms, and its state follows from its fields."""

import numpy as np
import pytest

from convcast.archive.simulated.observation import MIN_DEPRESSION, RAIN_FLOOR
from convcast.archive.simulated.world import ERA_HOURS, FIELDS, State, World, random_generator

ERA = np.datetime64(707 * ERA_HOURS, "h")  # the start of an era, so that a nature run need not catch up with it
EVENING = ERA + 22  # 22 UTC, when storms are most


def packed(fields):
    return {name: np.round(values * 16) / 16 for name, values in fields.items()}


def still(world, members=1, mean_wind=(6.0, 0.0)):
    zero = np.zeros((members, *world.terrain.shape))
    return State(zero, zero, zero, zero, np.tile(np.array([mean_wind]), (members, 1)))


def advance(world, state, time, generator):
    """An hour later, with noise for each member."""
    keys = generator.integers(2**63, size=(state.members, 2))
    return world._advance_hour(state, int(time.astype(int)), [random_generator(*key) for key in keys.tolist()])


@pytest.fixture(scope="module")
def world():
    return World(seed=3)


@pytest.fixture(scope="module")
def days(world):
    """Ten days of truth: times, and each field as (hour, ny, nx)."""
    run = list(world.nature_run(ERA + 48, 240, spin_up_hours=48))
    times = np.array([time for time, _ in run])
    observed = [world.observe(state, time) for time, state in run]
    return times, {name: np.concatenate([fields[name] for fields in observed]) for name in FIELDS}


@pytest.fixture(scope="module")
def evening(world):
    """A stormy hour: its time and state."""
    time, state = next(world.nature_run(EVENING + 24, 1, spin_up_hours=48))
    assert (state.storm > 1).mean() > 0.05
    return time, state


def test_fields_keep_their_bounds(days):
    _, fields = days
    assert all(np.isfinite(values).all() for values in fields.values())
    depression = fields["t2m"] - fields["d2m"]
    assert depression.min() >= MIN_DEPRESSION - 1e-9
    assert depression.min() < MIN_DEPRESSION + 1e-9  # the bound is met, hence enforced
    assert fields["d2m"].min() > 270
    assert fields["t2m"].max() < 315
    assert fields["cape"].min() >= 0
    assert 2500 < fields["cape"].max() < 5500
    assert fields["cin"].max() <= 0
    assert -450 < fields["cin"].min() < -150
    assert max(np.abs(fields["u10"]).max(), np.abs(fields["v10"]).max()) < 25


def test_reflectivity_has_an_exact_floor_and_a_gap_above_it(days):
    refc = days[1]["refc"]
    echo = refc[refc != -10.0]
    assert (refc == -10.0).mean() > 0.5
    assert 0 < echo.min() < 5
    assert 55 < echo.max() < 66


def test_storms_cover_what_storms_cover(days):
    times, fields = days
    refc = fields["refc"]
    hour = (times - times[0].astype("datetime64[D]")).astype(int) % 24
    cover = (refc > 20).mean(axis=(1, 2))
    assert 0.05 < cover.mean() < 0.15
    assert 0.003 < (refc > 40).mean() < 0.02
    assert cover.min() < 0.001
    assert cover.max() > 0.2
    assert cover[(hour >= 20) | (hour <= 1)].mean() > 4 * cover[(hour >= 8) & (hour <= 13)].mean()


def test_storms_are_several_cells_wide(days):
    """Most cells beside an echo above 20 dBZ are above it too; of speckle, only as few as it covers."""
    heavy = days[1]["refc"] > 20
    both = (heavy & np.roll(heavy, 2, axis=2)).sum()
    assert both / heavy.sum() > 0.6


def test_storms_move_with_a_wind_that_changes_by_the_day(days):
    _, fields = days
    wind = 1.2 * np.stack([fields["u10"].mean(axis=(1, 2)), fields["v10"].mean(axis=(1, 2))], axis=1)
    speed = np.hypot(*wind.T)
    assert speed.min() >= 4
    assert speed.max() <= 10
    noons = wind[12::24]
    assert np.hypot(*np.diff(noons, axis=0).T).mean() > 1.5  # cells an hour, from one day to the next

    echo = np.maximum(fields["refc"], 0)
    misses = []
    for hour in np.flatnonzero((echo[:-1] > 20).mean(axis=(1, 2)) > 0.05):
        before, after = (np.fft.fft2(echo[h] - echo[h].mean()) for h in (hour, hour + 1))
        peak = np.array(np.unravel_index(np.fft.ifft2(after * before.conj()).real.argmax(), echo[0].shape))
        y, x = (peak + 32) % 64 - 32
        misses.append(np.hypot(x - wind[hour, 0], y - wind[hour, 1]))
    assert len(misses) > 40
    assert np.median(misses) < 2


@pytest.mark.parametrize("shape", [(64, 64), (33, 48), (40, 51)])
def test_unrounded_fields_show_the_state(shape):
    world = World(*shape, seed=1)
    time, state = next(world.nature_run(EVENING, 1, spin_up_hours=24))
    recovered = world.recover(world.observe(state, time), time)
    assert state.storm.any()
    for name in State.__dataclass_fields__:
        truth = getattr(state, name)
        np.testing.assert_allclose(getattr(recovered, name), truth, atol=1e-9 * np.abs(truth).max(), err_msg=name)


def test_packed_fields_show_the_state_to_their_precision(world, evening):
    time, state = evening
    fields = world.observe(state, time)
    recovered = world.recover(packed(fields), time)
    half = 1 / 32 + 1e-9
    assert np.abs(recovered.temperature - state.temperature).max() <= half
    assert np.abs(recovered.moisture - state.moisture).max() <= half
    assert np.abs(recovered.mean_wind - state.mean_wind).max() < 0.002
    assert np.array_equal(recovered.storm > 0, state.storm > 0)
    again = world.observe(recovered, time)
    assert np.abs(again["refc"] - fields["refc"]).max() <= half
    for component in ("u10", "v10"):
        assert np.abs(again[component] - fields[component]).max() < 2 / 16


def test_rounding_the_fields_costs_nothing(world, evening):
    """The recovered state and the state itself reach the same weather in an hour of the same noise."""
    time, state = evening
    recovered = world.recover(packed(world.observe(state, time)), time)
    members = [0] * 8
    ends = [
        world.observe(advance(world, start.member(members), time, np.random.default_rng(5)), time + 1)
        for start in (state, recovered)
    ]
    for name in FIELDS:
        spread = ends[0][name].std(axis=0, ddof=1)
        difference = ends[1][name] - ends[0][name]
        assert np.sqrt((difference**2).mean() / (spread**2).mean()) < 0.1, name


def test_recover_takes_one_field_or_many(world, evening):
    time, state = evening
    fields = world.observe(state.member([0, 0, 0]), time)
    assert world.recover(fields, time).members == 3
    one = world.recover({name: values[0] for name, values in fields.items()}, time)
    assert one.temperature.shape == (1, 64, 64)
    assert one.mean_wind.shape == (1, 2)


def test_an_hour_of_truth_does_not_depend_on_the_hours_asked_for(world):
    whole = list(world.nature_run(ERA, 6, spin_up_hours=3))
    part = list(world.nature_run(ERA + 2, 3, spin_up_hours=3))
    assert [time for time, _ in part] == [time for time, _ in whole[2:5]]
    for (_, ours), (_, theirs) in zip(part, whole[2:5], strict=True):
        for name in State.__dataclass_fields__:
            assert np.array_equal(getattr(ours, name), getattr(theirs, name)), name
    other = next(World(seed=4).nature_run(ERA, 1, spin_up_hours=3))[1]
    assert not np.allclose(other.temperature, whole[0][1].temperature)


@pytest.mark.slow
def test_eras_join(monkeypatch):
    """The last hour of an era leads, by its own noise, to the first of the next."""
    monkeypatch.setattr("convcast.archive.simulated.world.ERA_HOURS", 5 * 24)  # how an era begins is the same
    begin = np.datetime64(3960 * 5 * 24, "h")
    small = World(24, 24, seed=3)
    (_, last), (_, first) = small.nature_run(begin - 1, 2)
    ((_, first_alone),) = small.nature_run(begin, 1)
    assert np.array_equal(first.temperature, first_alone.temperature)
    continued = small._advance_hour(last, int(begin.astype(int)) - 1, [small._nature(int(begin.astype(int)) - 1)])
    assert not np.array_equal(continued.temperature, first.temperature)  # another run, which has converged
    ours, theirs = small.observe(continued, begin), small.observe(first, begin)
    for name in ("t2m", "d2m", "u10", "v10", "refc"):
        assert np.abs(ours[name] - theirs[name]).max() < 1 / 32, name


def test_advance_follows_its_generator(world, evening):
    time, state = evening
    members = state.member([0, 0])
    one, same, other = (advance(world, members, time, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert np.array_equal(one.temperature, same.temperature)
    assert not np.array_equal(one.temperature, other.temperature)
    assert not np.array_equal(one.temperature[0], one.temperature[1])
    generator = np.random.default_rng(1)
    assert np.array_equal(advance(world, members, time, generator).storm, one.storm)
    assert not np.array_equal(advance(world, members, time, generator).storm, one.storm)


def test_storms_start_where_cape_is_high_and_cin_low(world):
    members = 16
    state = still(world, members)
    moisture = state.moisture.copy()
    moisture[..., :32] += 3.0
    moisture[..., 32:] -= 3.0
    state = State(state.temperature, moisture, state.stream_function, state.storm, np.zeros((members, 2)))
    fields = world.observe(state, EVENING)
    moist, dry = (slice(8, 24), slice(40, 56))  # away from the edges that the wind carries
    assert fields["cape"][..., moist].mean() > 3 * fields["cape"][..., dry].mean()
    later = advance(world, state, EVENING, np.random.default_rng(0))
    assert (later.storm[..., moist] > 0).mean() > 0.005
    assert (later.storm[..., moist] > 0).sum() > 10 * (later.storm[..., dry] > 0).sum()


def test_storms_leave_cold_dry_outflowing_air(world):
    calm = still(world, 4)
    y, x = np.mgrid[:64, :64]
    storm = np.where(np.hypot(x - 20, y - 30) < 5, 60.0, 0.0) * np.ones((4, 1, 1))
    stormy = State(calm.temperature, calm.moisture, calm.stream_function, storm, calm.mean_wind)
    u = world.observe(stormy, EVENING)["u10"] - world.observe(calm, EVENING)["u10"]
    assert u[0, 30, 26] > 1
    assert u[0, 30, 14] < -1
    with_storm, without = (
        world.observe(advance(world, start, EVENING, np.random.default_rng(7)), EVENING + 1) for start in (stormy, calm)
    )
    downwind = (slice(None), slice(28, 33), slice(25, 30))  # 7 cells on
    for name, change in (("t2m", -2), ("d2m", -1), ("cape", -300), ("cin", -10)):
        assert (with_storm[name] - without[name])[downwind].mean() < change, name
    elsewhere = (slice(None), slice(0, 10), slice(45, 60))
    assert np.abs((with_storm["t2m"] - without["t2m"])[elsewhere]).mean() < 0.05


def test_rain_below_the_floor_is_not_there(days, evening):
    storm = evening[1].storm
    assert ((storm == 0) | (storm >= RAIN_FLOOR)).all()


def test_ground_is_periodic_and_has_a_lake(world):
    terrain = world.terrain
    assert terrain.min() >= 0
    assert 200 < np.ptp(terrain) < 1500
    assert set(np.unique(world.land)) == {0.0, 1.0}
    assert np.ptp(terrain[world.land == 0]) == 0
    inside = np.abs(np.diff(terrain, axis=1)).mean()
    assert np.abs(terrain[:, 0] - terrain[:, -1]).mean() < 2 * inside
    assert not np.allclose(terrain, World(seed=4).terrain)
