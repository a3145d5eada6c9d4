"""The publisher's model is the world with errors: it starts from the analysis, and drifts."""

from __future__ import annotations

from itertools import islice

import numpy as np
import pytest

from convcast.archive.simulated.forecast_model import DISPLACEMENT, ForecastModel
from convcast.archive.simulated.observation import State
from convcast.archive.simulated.world import FIELDS, World

MORNING = np.datetime64("2024-05-06T10", "h")  # few storms start by themselves


@pytest.fixture(scope="module")
def model():
    return ForecastModel(32, 32, seed=3)


@pytest.fixture(scope="module")
def analysis(model):
    """Calm air with one storm in the middle."""
    zero = np.zeros((1, 32, 32))
    storm = zero.copy()
    storm[:, 14:18, 14:18] = 60.0
    state = State(zero, zero, zero, storm, np.array([[5.0, 0.0]]))
    return {name: values[0] for name, values in model.observe(state, MORNING).items()}


def forecast(model, analysis, init, hours):
    return list(islice(model.run(analysis, init), hours))


def test_analysis_and_init_determine_the_forecast(model, analysis):
    first, again = (forecast(model, analysis, MORNING, 2) for _ in range(2))
    other = forecast(model, analysis, MORNING + 24, 2)
    assert set(first[0]) == set(FIELDS)
    assert all(values.shape == (1, 32, 32) for values in first[1].values())
    for name in FIELDS:
        np.testing.assert_array_equal(first[1][name], again[1][name])
    assert not np.array_equal(first[1]["t2m"], other[1]["t2m"])


def test_it_has_the_ground_of_the_world_and_not_its_future(model, analysis):
    world = World(32, 32, seed=3)
    np.testing.assert_array_equal(model.terrain, world.terrain)
    exact = world.exact_ensemble(analysis, MORNING, leads=[1], members=1, seed=0)["t2m"][0, 0]
    assert not np.allclose(forecast(model, analysis, MORNING, 1)[0]["t2m"][0], exact, atol=0.1)


def test_members_of_its_ensemble_differ_and_do_not_depend_on_their_number(model, analysis):
    few, many = (next(model.run_ensemble(analysis, MORNING, members=members)) for members in (2, 4))
    for name in FIELDS:
        np.testing.assert_allclose(many[name][:2], few[name], atol=1e-9)
    members = [*many["t2m"], forecast(model, analysis, MORNING, 1)[0]["t2m"][0]]
    assert all(not np.allclose(a, b, atol=0.1) for n, a in enumerate(members) for b in members[:n])


def test_it_grows_too_warm(model, analysis):
    world = World(32, 32, seed=3)
    inits = MORNING + 24 * np.arange(4)
    exact = [world.exact_ensemble(analysis, t, leads=[4], members=4, seed=0)["t2m"][:, 0].mean() for t in inits]
    ours = [forecast(model, analysis, t, 4)[-1]["t2m"].mean() for t in inits]
    assert np.mean(ours) - np.mean(exact) > 0.2


def test_its_storms_are_displaced_and_live_too_long(model, analysis, monkeypatch):
    """Noise is taken away, so that only the errors of the model are left."""

    class Still:
        def standard_normal(self, shape):
            return np.full(2, 2 / DISPLACEMENT) if shape == 2 else np.zeros(shape)

    module = "convcast.archive.simulated"
    monkeypatch.setattr(f"{module}.forecast_model.random_generator", lambda *_: Still())
    monkeypatch.setattr(f"{module}.world.random_generator", lambda *_: Still())
    exact = World(32, 32, seed=3).exact_ensemble(analysis, MORNING, leads=[1], members=1, seed=0)["refc"][0, 0]
    ours = forecast(model, analysis, MORNING, 1)[0]["refc"][0]
    assert (ours > -10).any()
    shift = [int(np.mean(a) - np.mean(b)) for a, b in zip(np.nonzero(ours > 0), np.nonzero(exact > 0), strict=True)]
    np.testing.assert_allclose(shift, 2, atol=1)
    assert ours.max() > exact.max() + 1
