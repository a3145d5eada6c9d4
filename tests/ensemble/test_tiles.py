from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from convcast.ensemble import cover
from convcast.errors import SettingsError
from convcast.grid import CONUS, Grid

SIZES = [(100, 64), (64, 100), (65, 257), (130, 131), (512, 97), (33, 2000)]


def summed(tiling):
    total = np.zeros(tiling.shape, np.float64)
    for (rows, columns), weight in zip(tiling.tiles, tiling.weights, strict=True):
        total[rows, columns] += weight
    return total


@pytest.mark.parametrize("shape", SIZES)
@pytest.mark.parametrize("overlap", [0, 8, 16, 40, 63])
def test_weights_are_positive_and_sum_to_one_everywhere(shape, overlap):
    tiling = cover(Grid(*shape), tile=64, overlap=overlap)

    np.testing.assert_allclose(summed(tiling), 1, atol=1e-6)
    assert min(weight.min() for weight in tiling.weights) > 0


@pytest.mark.parametrize("shape", SIZES)
def test_tiles_are_of_one_size_and_overlap_by_what_was_asked(shape):
    tiling = cover(Grid(*shape), tile=64, overlap=16)

    assert {tiling.tile_shape} == {(r.stop - r.start, c.stop - c.start) for r, c in tiling.tiles}
    for places in (tiling.rows, tiling.columns):
        assert all(left.stop - right.start >= 16 for left, right in pairwise(places))


def test_the_weights_have_no_step():
    tiling = cover(Grid(64, 160), tile=64, overlap=32)

    for weight in tiling.weights:
        assert np.abs(np.diff(weight, axis=1)).max() < 1.1 * np.pi / 2 / 32


def test_a_tile_hardly_counts_at_its_own_border():
    tiling = cover(Grid(64, 160), tile=64, overlap=32)

    assert tiling.weights[1][:, :4].max() < 0.04


@pytest.mark.parametrize("grid", [Grid(64, 64), Grid(20, 30), Grid(300, 300, periodic=True)])
def test_a_domain_no_larger_than_a_tile_or_periodic_is_one_tile(grid):
    tiling = cover(grid, tile=64, overlap=16)

    assert tiling.whole
    assert [(slice(0, grid.ny), slice(0, grid.nx))] == tiling.tiles


def test_conus_is_covered_by_tiles_of_the_default_size():
    tiling = cover(CONUS, tile=256, overlap=64)

    assert tiling.tile_shape == (256, 256)
    assert str(tiling) == "6 x 10 tiles of 256 x 256 cells"


def test_tiles_that_cannot_overlap_so_much_are_refused():
    with pytest.raises(SettingsError, match="cannot overlap by 64"):
        cover(Grid(100, 100), tile=64, overlap=64)
