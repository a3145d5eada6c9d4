from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from convcast.ensemble import member_noise
from convcast.notation import HOUR

INIT = np.datetime64("2024-05-06T21", "h")
SHAPE = (3, 64, 64)
PINNED = [0.03072287328541279, 0.4936760365962982, 0.49716299772262573, 0.30686554312705994]


def test_the_same_member_has_the_same_noise_whatever_is_drawn_before_it():
    alone = member_noise(7, INIT, 17, 1, SHAPE)
    [member_noise(7, INIT, member, 1, SHAPE) for member in range(17)]

    np.testing.assert_array_equal(alone, member_noise(7, INIT, 17, 1, SHAPE))


def test_the_noise_of_a_member_never_changes_between_versions():
    actual = member_noise(0, INIT, 0, 1, (1, 1, 4)).ravel()

    np.testing.assert_array_equal(np.array(PINNED, np.float32), actual)


@pytest.mark.parametrize(
    "other",
    [
        member_noise(1, INIT, 0, 1, SHAPE),
        member_noise(0, INIT + HOUR, 0, 1, SHAPE),
        member_noise(0, INIT, 1, 1, SHAPE),
        member_noise(0, INIT, 0, 3, SHAPE),
        member_noise(0, INIT, 0, 1, SHAPE, step=1),
    ],
    ids=["seed", "cycle", "member", "lead", "step"],
)
def test_noise_of_another_seed_cycle_member_lead_or_step_is_independent(other):
    noise = member_noise(0, INIT, 0, 1, SHAPE)

    correlation = np.corrcoef(noise.ravel(), other.ravel())[0, 1]

    assert abs(correlation) < 4 / np.sqrt(noise.size)


def test_noise_is_standard_normal_within_members_and_across_them():
    noise = np.stack([member_noise(0, INIT, member, 1, SHAPE) for member in range(50)])

    assert np.float32 == noise.dtype
    assert abs(noise.mean()) < 4 / np.sqrt(noise.size)
    assert abs(noise.var() - 1) < 4 * np.sqrt(2 / noise.size)
    assert abs(np.mean(noise**4) - 3) < 4 * np.sqrt(96 / noise.size)
    across = noise.var(axis=0, ddof=1).mean()
    assert abs(across - 1) < 4 * np.sqrt(2 / noise.size)


def test_neighbouring_cells_and_members_are_uncorrelated():
    noise = np.stack([member_noise(0, INIT, member, 1, SHAPE) for member in range(20)])
    limit = 4 / np.sqrt(noise[0].size)

    assert all(abs(np.mean(a * b)) < limit for a, b in pairwise(noise))
    assert abs(np.mean(noise[..., 1:] * noise[..., :-1])) < limit
    assert abs(np.mean(noise[..., 1:, :] * noise[..., :-1, :])) < limit
