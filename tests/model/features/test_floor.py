from __future__ import annotations

import numpy as np
import pytest
import torch

from convcast.dataset.normal_scores import LEVELS, NormalScores
from convcast.model.features import floor as module
from convcast.variables import Floor

NONE = -10.0
FLOOR = Floor(none=NONE, slope=0.25, depth=0.9)
SCORES = NormalScores.of(np.linspace(5, 60, len(LEVELS)))


TABLE = module.ScoreTable.of(SCORES)


def to_scores(field, floor, scores, *, periodic):
    return module.to_scores(torch.from_numpy(field), floor, scores, TABLE, periodic=periodic).numpy()


def from_scores(field, floor, scores):
    return module.from_scores(torch.from_numpy(field), floor, scores, TABLE).numpy()


def field_with_echoes(*places, side=24):
    field = np.full((side, side), NONE, np.float32)
    for place in places:
        field[place] = 30
    return field


def below_weakest(distance):
    return SCORES.weakest - np.minimum(FLOOR.slope * np.asarray(distance, float), FLOOR.depth)


@pytest.mark.parametrize("periodic", [True, False])
def test_echoes_and_none_come_back(periodic):
    generator = np.random.default_rng(0)
    values = generator.uniform(SCORES.values[0], 75, (24, 24))
    field = np.where(generator.random((24, 24)) < 0.3, values, NONE).astype(np.float32)
    again = from_scores(to_scores(field, FLOOR, SCORES, periodic=periodic), FLOOR, SCORES)
    assert again.dtype == np.float32
    np.testing.assert_array_equal(again == NONE, field == NONE)
    np.testing.assert_allclose(again, field, atol=1e-3)


def test_scores_fall_by_the_slope_per_cell_until_the_depth():
    field = field_with_echoes((slice(None), 3))
    scores = to_scores(field, FLOOR, SCORES, periodic=False)
    expected = below_weakest(np.abs(np.arange(24) - 3))
    np.testing.assert_allclose(scores[:, 4:], np.broadcast_to(expected[4:], (24, 20)), rtol=1e-6)
    np.testing.assert_allclose(np.diff(scores[0, 4:7]), -FLOOR.slope, rtol=1e-5)
    assert (scores[:, 3] == np.float32(SCORES.forward(np.array([30.0]))[0])).all()
    assert scores.min() == pytest.approx(SCORES.weakest - FLOOR.depth)


def test_the_distance_is_that_of_a_straight_line():
    scores = to_scores(field_with_echoes((10, 10)), FLOOR, SCORES, periodic=False)
    assert scores[12, 11] == pytest.approx(below_weakest(5**0.5))


def test_a_torus_is_continued_across_its_edges():
    field = field_with_echoes((0, 1))
    on_torus = to_scores(field, FLOOR, SCORES, periodic=True)
    assert on_torus[0, -1] == pytest.approx(below_weakest(2))
    assert on_torus[-1, 0] == pytest.approx(below_weakest(2**0.5))
    assert to_scores(field, FLOOR, SCORES, periodic=False)[-1, 0] == pytest.approx(below_weakest(np.inf))
    moved = to_scores(np.roll(field, (7, 5), (0, 1)), FLOOR, SCORES, periodic=True)
    np.testing.assert_allclose(moved, np.roll(on_torus, (7, 5), (0, 1)), rtol=1e-6)


@pytest.mark.parametrize("periodic", [True, False])
def test_a_field_without_an_echo_has_the_lowest_score(periodic):
    scores = to_scores(field_with_echoes(), FLOOR, SCORES, periodic=periodic)
    np.testing.assert_allclose(scores, SCORES.weakest - FLOOR.depth, rtol=1e-6)
    np.testing.assert_array_equal(from_scores(scores, FLOOR, SCORES), NONE)


def test_missing_points_stay_missing_and_are_no_echo_for_others():
    field = field_with_echoes((5, 5))
    field[5, 7] = np.nan
    scores = to_scores(field, FLOOR, SCORES, periodic=False)
    np.testing.assert_array_equal(np.isnan(scores), np.isnan(field))
    assert scores[5, 8] == pytest.approx(below_weakest(3))
    assert np.isnan(to_scores(np.full((4, 4), np.nan, np.float32), FLOOR, SCORES, periodic=True)).all()


def test_the_weakest_value_stays_a_value_after_standardisation():
    weakest = np.full((4, 4), SCORES.values[0], np.float32)
    scores = to_scores(weakest, FLOOR, SCORES, periodic=False)
    generator = np.random.default_rng(0)
    for mean, std in zip(generator.normal(0, 1, 200), generator.uniform(0.3, 2, 200), strict=True):
        mean, std = np.float32(mean), np.float32(std)
        again = from_scores((scores - mean) / std * std + mean, FLOOR, SCORES)
        np.testing.assert_allclose(again, weakest, atol=1e-3)


def test_a_score_below_that_of_the_weakest_value_is_none():
    scores = np.array([[SCORES.weakest - 0.01, SCORES.weakest + 0.01]], np.float32)
    below, above = from_scores(scores, FLOOR, SCORES)[0]
    assert below == NONE
    assert above > SCORES.values[0]


@pytest.mark.parametrize("periodic", [True, False])
def test_distances_are_those_of_scipy_up_to_the_reach(periodic):
    from scipy.ndimage import distance_transform_edt

    points = np.random.default_rng(3).random((2, 20, 31)) < 0.01
    found = module.squared_distance(torch.from_numpy(points), 4, periodic=periodic).numpy()
    for field, squared in zip(points, found, strict=True):
        tiled = np.tile(field, (3, 3)) if periodic else field
        distance = distance_transform_edt(~tiled)
        expected = (distance[20:40, 31:62] if periodic else distance) ** 2
        near = expected <= 16
        assert near.any()
        assert not near.all()
        np.testing.assert_array_equal(squared[near], expected[near].round())
        assert (squared[~near] > 16).all()


def test_without_any_point_all_is_far():
    assert (module.squared_distance(torch.zeros(3, 5, dtype=torch.bool), 4, periodic=False) > 16).all()


def test_scores_are_those_of_numpy():
    values = np.linspace(-20, 90, 500)
    table = torch.from_numpy(values)
    np.testing.assert_allclose(TABLE.forward(table).numpy(), SCORES.forward(values), rtol=1e-12)
    scores = np.linspace(-3, 5, 500)
    np.testing.assert_allclose(TABLE.inverse(torch.from_numpy(scores)).numpy(), SCORES.inverse(scores), rtol=1e-12)
