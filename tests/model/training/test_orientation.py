from __future__ import annotations

from dataclasses import replace
from itertools import combinations, product

import numpy as np
import pytest
import torch

from convcast.dataset import Window, advect
from convcast.errors import SettingsError
from convcast.model.features.inputs import _displacement
from convcast.model.training import preparation
from convcast.model.training.loop import train
from convcast.model.training.orientation import Orientation, orientations
from convcast.variables import select

SIDE = 12
VARIABLES = select(["refc", "t2m", "u10", "v10"])
U, V = 2, 3
EIGHT = orientations("rotations")
FIELDS = ("history", "static", "sun", "motion", "target")


@pytest.fixture
def window() -> Window:
    """Smooth fields on a torus without any symmetry; the temperature is that of the terrain."""
    generator = np.random.default_rng(0)
    y, x = 2 * np.pi * np.mgrid[:SIDE, :SIDE] / SIDE

    def smooth(*shape):
        a, b, c = generator.normal(size=(3, *shape, 1, 1))
        return (a * np.sin(y + b) + c * np.cos(x + 2 * y)).astype(np.float32)

    static = smooth(2)
    history = 4 * smooth(4, 4)
    history[:, 1] = 290 + static[0]
    return Window(
        init=np.datetime64("2024-05-06T06", "h"),
        lead=2,
        history=history,
        static=static,
        sun=smooth(2),
        hour=np.array([1, 0], np.float32),
        motion=smooth(2),
        periodic=True,
        target=4 * smooth(4),
    )


def same(a: Window, b: Window) -> bool:
    return all(np.array_equal(getattr(a, name), getattr(b, name)) for name in FIELDS)


def test_settings_name_their_orientations():
    assert orientations("none") == (Orientation(),)
    assert len(orientations("flips")) == 4
    assert not any(orientation.exchange for orientation in orientations("flips"))
    assert len(set(EIGHT)) == 8
    assert set(orientations("flips")) < set(EIGHT)


def test_the_eight_are_distinct_in_every_field(window):
    turned = [orientation.apply(window, VARIABLES) for orientation in EIGHT]
    for a, b in combinations(turned, 2):
        assert not any(np.array_equal(getattr(a, name), getattr(b, name)) for name in FIELDS)


def test_the_first_changes_nothing(window):
    assert EIGHT[0].apply(window, VARIABLES) is window


@pytest.mark.parametrize(("first", "second"), product(EIGHT, EIGHT))
def test_one_after_another_is_one_of_the_eight(window, first, second):
    both = second.apply(first.apply(window, VARIABLES), VARIABLES)
    assert sum(same(both, orientation.apply(window, VARIABLES)) for orientation in EIGHT) == 1


@pytest.mark.parametrize("orientation", EIGHT)
def test_the_input_is_left_alone(window, orientation):
    before = replace(window, **{name: getattr(window, name).copy() for name in FIELDS})
    orientation.apply(window, VARIABLES)
    assert same(window, before)


def by_wind(window):
    last, motion = torch.from_numpy(window.history[-1:]), torch.from_numpy(window.motion[None])
    return _displacement(last, motion, torch.full((1, 1, 1, 1), float(window.lead)), VARIABLES)[0].numpy()


@pytest.mark.parametrize("orientation", EIGHT)
@pytest.mark.parametrize("periodic", [True, False])
def test_advection_commutes_with_turning(window, orientation, periodic):
    """Test with motion and with wind that differ from point to point."""
    window = replace(window, periodic=periodic)
    for name in ("motion", "wind"):

        def moved(case, name=name):
            cells = case.motion * case.lead if name == "motion" else by_wind(case)
            assert np.abs(cells).max() > 1
            return advect(case.history[-1], cells, periodic=periodic)

        turned = orientation.apply(replace(window, target=moved(window)), VARIABLES)
        np.testing.assert_allclose(moved(turned), turned.target, atol=2e-3)


@pytest.mark.parametrize("orientation", EIGHT)
def test_divergence_moves_along(window, orientation):
    def divergence(fields):
        y, x = (np.roll(fields[i], -1, axis) - np.roll(fields[i], 1, axis) for i, axis in ((V, 0), (U, 1)))
        return y + x

    expected = window.target.copy()
    expected[0] = divergence(window.target)  # reflectivity's place: a scalar
    turned = orientation.apply(window, VARIABLES)
    moved_along = orientation.apply(replace(window, target=expected), VARIABLES).target[0]
    np.testing.assert_allclose(divergence(turned.target), moved_along, atol=1e-5)


@pytest.mark.parametrize("orientation", EIGHT)
def test_terrain_moves_along(window, orientation):
    turned = orientation.apply(window, VARIABLES)
    np.testing.assert_array_equal(turned.history[-1, 1], (290 + turned.static[0]).astype(np.float32))
    np.testing.assert_array_equal(turned.hour, window.hour)
    assert (turned.init, turned.lead, turned.weight) == (window.init, window.lead, window.weight)


@pytest.mark.parametrize("orientation", EIGHT)
def test_fields_without_wind_are_turned_as_they_are(window, orientation):
    scalars = replace(window, history=window.history[:, :2], target=None)
    turned = orientation.apply(scalars, VARIABLES[:2])
    np.testing.assert_array_equal(turned.history, orientation.apply(window, VARIABLES).history[:, :2])
    assert turned.target is None


def test_a_quarter_turn_of_a_west_wind_is_a_south_wind():
    """Columns increase to the east and rows to the north."""
    north, east = np.zeros((2, 1, SIDE, SIDE), np.float32)
    wind = np.concatenate([east + 5, north])
    case = Window(
        np.datetime64("2024-05-06T06", "h"), 1, wind[None], wind, wind, wind[0, 0, :2], wind[::-1], True, None
    )
    turned = Orientation(exchange=True).apply(case, select(["u10", "v10"]))
    np.testing.assert_array_equal(turned.history[0, 0], 0)
    np.testing.assert_array_equal(turned.history[0, 1], 5)
    np.testing.assert_array_equal(turned.motion[0], 5)
    np.testing.assert_array_equal(Orientation(columns=True).apply(case, select(["u10", "v10"])).history[0, 0], -5)


def test_training_sees_every_orientation_and_validation_one(dataset, make_settings):
    settings = make_settings(training={"augmentation": "rotations"})
    description = preparation.describe(dataset, settings)
    training, _ = preparation.cases(dataset, description, settings)
    first = [training[number * len(training)] for number in range(60)]
    assert {turn for case, turn, *_ in training._kept if case == 0} == set(range(8))
    assert all(case.residuals.isfinite().all() for case in first)
    (plain, _), (flips, _) = (
        preparation.cases(dataset, description, make_settings(training={"augmentation": name}))
        for name in ("none", "flips")
    )
    assert (len(plain.orientations), len(flips.orientations)) == (1, 4)


def test_a_training_with_rotations_runs(make_dataset, make_settings, tmp_path):
    """Test with reflectivity alone, which has a reference forecast without preferred direction."""
    settings = make_settings(model={"inputs": []}, training={"augmentation": "rotations", "steps": 4})
    reports = list(train(make_dataset(("refc",)), tmp_path / "model", settings))
    assert reports[-1].finished
    assert all(np.isfinite(report.loss) for report in reports)


def test_oblong_patches_cannot_be_turned(dataset, make_settings, monkeypatch):
    settings = make_settings(training={"augmentation": "rotations"})
    description = preparation.describe(dataset, settings)
    windows = preparation._windows

    def oblong(*args, **how):
        made = windows(*args, **how)
        made.shape = (16, 12)
        return made

    monkeypatch.setattr(preparation, "_windows", oblong)
    with pytest.raises(SettingsError, match="16 x 12 cells cannot be turned") as caught:
        preparation.cases(dataset, description, settings)
    assert "augmentation=flips" in caught.value.advice
