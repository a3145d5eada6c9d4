from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional

from convcast.model.features.advection import advect, distance_outside, path, smooth, travelled, upstream


def uniform(dy, dx, side=16):
    return torch.tensor([dy, dx], dtype=torch.float32)[None, :, None, None].expand(1, 2, side, side)


def test_whole_cells_are_advected_towards_higher_rows_and_columns():
    fields = torch.randn(1, 3, 16, 16)
    advected = advect(fields, uniform(2, -3), periodic=True)
    torch.testing.assert_close(advected, fields.roll((2, -3), (2, 3)), atol=1e-4, rtol=0)


def test_a_torus_may_be_crossed_more_than_once():
    fields = torch.randn(1, 3, 16, 16)
    advected = advect(fields, uniform(16 + 5, -33), periodic=True)
    torch.testing.assert_close(advected, fields.roll((5, -1), (2, 3)), atol=1e-3, rtol=0)


def test_air_from_over_an_edge_has_the_values_of_the_edge():
    fields = torch.arange(16.0).expand(1, 1, 16, 16)
    advected = advect(fields, uniform(0, 4), periodic=False)
    expected = (torch.arange(16.0) - 4).clamp(min=0).expand(1, 1, 16, 16)
    torch.testing.assert_close(advected, expected, atol=1e-4, rtol=0)


def test_the_distance_outside_is_the_way_beyond_the_nearer_edge_upstream():
    x, y = torch.arange(16.0).expand(16, 16), torch.arange(16.0).expand(16, 16).T
    distance = distance_outside(uniform(-2, 4), periodic=False)
    expected = torch.maximum((4 - x).clamp(min=0), (y + 2 - 15).clamp(min=0))
    torch.testing.assert_close(distance, expected[None, None])
    assert not distance_outside(uniform(-2, 4), periodic=True).any()


def test_a_wind_that_falls_towards_the_edge_brings_less_air_from_outside():
    """Air moves by less than 8 cells where the wind is 8 cells at the point and 4 half-way."""
    x = torch.arange(32.0).expand(1, 1, 32, 32)
    displacement = torch.cat([torch.zeros_like(x), x.clamp(max=8)], dim=1)
    assert (travelled(displacement, periodic=False)[0, 1, 0, 1:9] < displacement[0, 1, 0, 1:9]).all()
    assert not distance_outside(travelled(displacement, periodic=False), periodic=False)[..., 8:].any()


def test_the_wind_of_the_place_carries():
    """A wind that grows along x: what arrives at x left x / (1 + g), where the wind was lower."""
    side, growth = 64, 0.1
    x = torch.arange(float(side)).expand(1, 1, side, side)
    displacement = torch.cat([torch.zeros_like(x), growth * x], dim=1)
    advected = advect(x, displacement, periodic=False)
    torch.testing.assert_close(advected[..., 5:50], (x / (1 + growth))[..., 5:50], rtol=5e-3, atol=0)


@pytest.mark.parametrize("periodic", [True, False])
def test_a_constant_stays(periodic):
    fields = torch.full((1, 2, 16, 16), 3.0)
    torch.testing.assert_close(advect(fields, torch.randn(1, 2, 16, 16), periodic=periodic), fields)
    torch.testing.assert_close(smooth(fields, 5, periodic=periodic), fields)


def test_smoothing_has_the_spread_it_says():
    point = torch.zeros(1, 1, 33, 33)
    point[..., 16, 16] = 1
    smoothed = smooth(point, 7, periodic=False)[0, 0].sum(dim=0)
    spread = ((torch.arange(33) - 16.0) ** 2 * smoothed).sum().sqrt().item()
    assert smoothed.sum().item() == pytest.approx(1, abs=1e-5)
    assert spread == pytest.approx(((7**2 - 1) / 6) ** 0.5, rel=1e-3)


@pytest.mark.parametrize("periodic", [True, False])
@pytest.mark.parametrize("width", [1, 3, 5, 7, 15])
def test_smoothing_averages_over_squares_twice(width, periodic):
    fields = torch.randn(2, 3, 17, 20)
    margin, expected = width // 2, fields
    for _ in range(2):
        padded = functional.pad(expected, [margin] * 4, mode="circular" if periodic else "replicate")
        expected = functional.avg_pool2d(padded, width, stride=1)
    torch.testing.assert_close(smooth(fields, width, periodic=periodic), expected, atol=1e-6, rtol=0)


def pattern(rows, columns):
    """Wind on a torus of 32 x 32 cells: waves of 32 cells, some 2 cells an hour."""
    y, x = 2 * math.pi * rows / 32, 2 * math.pi * columns / 32
    return torch.stack([2 * torch.sin(x) + torch.sin(y + x), 2 * torch.cos(y) - torch.sin(y + x)])


def test_air_of_a_uniform_wind_goes_straight():
    wind = torch.tensor([1.5, -2.25]).view(1, 2, 1, 1).expand(1, 2, 8, 9)
    for motion in (torch.zeros_like(wind), 3 * torch.ones_like(wind)):
        torch.testing.assert_close(path(wind, motion, periodic=False), wind)


def test_the_path_of_air_follows_a_wind_that_moves_with_its_pattern():
    side, motion = 32, torch.tensor([2.0, 5.0]).view(2, 1, 1)
    rows, columns = torch.meshgrid(torch.arange(side) * 1.0, torch.arange(side) * 1.0, indexing="ij")
    wind = (pattern(rows, columns) + motion)[None]
    came_from, pieces = torch.stack([rows, columns]), 400
    for piece in range(pieces):
        elapsed = 1 - (piece + 0.5) / pieces
        came_from = came_from - (pattern(*(came_from - motion * elapsed)) + motion) / pieces
    exact = (torch.stack([rows, columns]) - came_from)[None]
    moving = motion[None].expand_as(wind)
    error = (path(wind, moving, periodic=True) - exact).norm(dim=1)
    assert error.mean() < 0.1
    assert error.mean() < 0.2 * (path(wind, torch.zeros_like(moving), periodic=True) - exact).norm(dim=1).mean()


def test_upstream_of_whole_cells_is_a_roll_of_a_torus():
    fields = torch.randn(2, 3, 5, 6)
    displacement = torch.tensor([2.0, -1.0]).view(1, 2, 1, 1).expand(2, 2, 5, 6)
    torch.testing.assert_close(upstream(fields, displacement, periodic=True), fields.roll((2, -1), dims=(2, 3)))
