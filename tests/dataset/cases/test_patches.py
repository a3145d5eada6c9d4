from __future__ import annotations

import itertools

import numpy as np
import pytest

from convcast.dataset.cases.patches import BLOCK, Patches, count_echoes

DOMAIN, SIDE = (70, 100), (32, 40)
STARTS = list(itertools.product(range(70 - 32 + 1), range(100 - 40 + 1)))


@pytest.fixture
def reflectivity():
    """A storm near a corner, a cell in the middle, and a hole in the data."""
    field = np.full(DOMAIN, -10.0)
    field[60:70, 88:100] = 45
    field[30, 50] = 20
    field[:20, :20] = np.nan
    return field


@pytest.fixture
def echoes(reflectivity):
    return count_echoes(reflectivity)


def odds(patches, echoes, share) -> np.ndarray:
    """Enumerate the probabilities: each block by its number of echoes, then every patch with its centre alike."""
    table = np.zeros(tuple(n - s + 1 for n, s in zip(DOMAIN, SIDE, strict=True)))
    for (i, j), count in np.ndenumerate(echoes):
        y, x = min(i * BLOCK + BLOCK // 2, 69), min(j * BLOCK + BLOCK // 2, 99)
        holds = np.zeros_like(table)
        for row, column in STARTS:
            holds[row, column] = row <= y < row + SIDE[0] and column <= x < column + SIDE[1]
        table += count / echoes.sum() * holds / holds.sum()
    return (1 - share) / table.size + share * table


def test_echoes_are_counted_by_block(reflectivity, echoes):
    assert echoes.shape == (5, 7)
    assert (echoes.sum(), echoes[1, 3]) == (10 * 12 + 1, 1)
    assert echoes[0, 0] == 0


@pytest.mark.parametrize("share", [0.3, 0.9])
def test_a_weight_is_the_inverse_of_the_odds(echoes, share):
    patches = Patches(DOMAIN, SIDE)
    expected = odds(patches, echoes, share)
    weights = np.array([patches._weight(*start, echoes, share) for start in STARTS]).reshape(expected.shape)
    np.testing.assert_allclose(1 / weights / weights.size, expected, rtol=1e-12)
    np.testing.assert_allclose((expected).sum(), 1)


def test_draws_have_the_odds_that_their_weights_say(echoes):
    """Weighted means over 20,000 draws are those over every place, within four standard errors; plain ones are not."""
    patches, generator = Patches(DOMAIN, SIDE), np.random.default_rng(0)
    drawn = [patches.draw_convective(generator, echoes, 0.5) for _ in range(20_000)]
    rows = np.array([patch.rows.start for patch in drawn])
    weights = np.array([patch.weight for patch in drawn])
    error = (weights * (rows - 19)).std() / np.sqrt(len(drawn))
    assert abs((weights * (rows - 19)).mean()) < 4 * error < 1
    assert abs(weights.mean() - 1) < 4 * weights.std() / np.sqrt(len(drawn))
    assert abs((rows - 19).mean()) > 20 * error


def test_echoes_are_seen_more_often(reflectivity, echoes):
    patches, generator = Patches(DOMAIN, SIDE), np.random.default_rng(1)

    def mean_area(draw):
        return np.mean([(reflectivity[p.rows, p.columns] >= 20).sum() for p in (draw() for _ in range(2000))])

    over = mean_area(lambda: patches.draw_convective(generator, echoes, 0.9))
    assert over > 2 * mean_area(lambda: patches.draw_uniform(generator))


def test_no_place_is_out_of_reach(echoes):
    patches = Patches(DOMAIN, SIDE)
    assert max(patches._weight(*start, echoes, 0.75) for start in STARTS) == pytest.approx(4)


def test_without_echoes_every_place_is_alike():
    patches = Patches(DOMAIN, SIDE)
    drawn = [patches.draw_convective(np.random.default_rng(i), np.zeros((5, 7), np.int64), 0.9) for i in range(50)]
    assert {patch.weight for patch in drawn} == {1.0}
    assert len({patch.rows.start for patch in drawn}) > 15


def test_a_patch_as_large_as_the_domain_has_one_place(echoes):
    patches = Patches(DOMAIN, DOMAIN)
    patch = patches.draw_convective(np.random.default_rng(0), echoes, 0.5)
    assert (patch.rows, patch.columns, patch.weight) == (slice(0, 70), slice(0, 100), 1.0)


@pytest.mark.parametrize(("domain", "side"), [((70, 100), 32), ((64, 96), 32), ((70, 100), 69), ((33, 32), 32)])
def test_the_fixed_grid_covers_the_domain_with_as_few_as_it_takes(domain, side):
    patches = Patches(domain, (side, side)).grid()
    covered = np.zeros(domain, int)
    for patch in patches:
        covered[patch.rows, patch.columns] += 1
        assert (patch.rows.stop - patch.rows.start, patch.columns.stop - patch.columns.start) == (side, side)
    assert covered.min() == 1
    assert len(patches) == np.prod([-(-n // side) for n in domain])
