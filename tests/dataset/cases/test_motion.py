from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from convcast.archive.simulated.world import CELLS_PER_HOUR, FIELDS, World
from convcast.dataset import advect, estimate_motion


def cloud(seed, shape=(64, 64), smooth=2.0):
    return ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=shape), smooth, mode="wrap")


def moving(motion, *, frames=4, shape=(64, 64), periodic=True):
    """Return (time, 2, y, x): two patterns moved by Fourier shifts; a part of a larger torus if not periodic."""
    large = shape if periodic else (2 * shape[0], 2 * shape[1])
    sequence = [
        np.stack(
            [
                np.fft.ifft2(ndimage.fourier_shift(np.fft.fft2(cloud(seed, large)), np.multiply(motion, t))).real
                for seed in (1, 2)
            ]
        )
        for t in range(frames)
    ]
    return np.stack(sequence)[..., : shape[0], : shape[1]].astype(np.float32)


@pytest.mark.parametrize("motion", [(0, 0), (3, -7), (5.4, 8.3), (-0.5, 12.25)])
def test_a_known_shift_is_found(motion):
    np.testing.assert_allclose(estimate_motion(moving(motion), periodic=True), motion, atol=0.1)


@pytest.mark.parametrize("motion", [(0, 0), (3, -7), (5.4, 8.3)])
def test_a_known_shift_is_found_through_a_window(motion):
    history = moving(motion, shape=(128, 128), periodic=False)
    np.testing.assert_allclose(estimate_motion(history, periodic=False), motion, atol=0.2)


def test_two_frames_suffice():
    np.testing.assert_allclose(estimate_motion(moving((4.3, -6), frames=2), periodic=True), (4.3, -6), atol=0.1)


def test_units_do_not_matter():
    history = moving((3, -7))
    scaled = history * np.array([1e4, 1e-3])[:, None, None] + np.array([300, -5])[:, None, None]
    np.testing.assert_allclose(estimate_motion(scaled, periodic=True), (3, -7), atol=0.1)


def test_a_pattern_that_stands_still_does_not_count():
    history = moving((3, -7))
    history[:, 0] += 5 * cloud(9)
    np.testing.assert_allclose(estimate_motion(history, periodic=True), (3, -7), atol=0.3)


def test_a_field_without_any_weather_does_not_count():
    history = moving((3, -7))
    history[:, 1] = -10
    np.testing.assert_allclose(estimate_motion(history, periodic=True), (3, -7), atol=0.2)


def test_missing_values_do_not_count():
    history = moving((3, -7))
    history[:, 0, 5:7, 5:7] = np.nan
    np.testing.assert_allclose(estimate_motion(history, periodic=True), (3, -7), atol=0.1)


def test_dry_hours_between_storms_lead_nowhere():
    """The time mean of each cell must not bring the storms of other hours into them."""
    history = moving((2, -3))[:, :1]
    storms = np.where(history > 0.1, 60 * history, -10).astype(np.float32)
    storms[1:3] = -10
    np.testing.assert_array_equal(estimate_motion(storms, periodic=True), [0, 0])
    np.testing.assert_array_equal(estimate_motion(storms, periodic=False), [0, 0])


def test_nothing_moves_where_nothing_is():
    np.testing.assert_array_equal(estimate_motion(np.full((4, 2, 32, 32), 7.0), periodic=True), [0, 0])
    np.testing.assert_array_equal(estimate_motion(moving((1, 1), frames=1), periodic=True), [0, 0])


def test_a_motion_that_forecasts_nothing_is_none():
    standing = cloud(9) + 0.05 * np.random.default_rng(0).normal(size=(4, 2, 64, 64))
    np.testing.assert_array_equal(estimate_motion(standing, periodic=True), [0, 0])


def test_motion_is_bounded():
    history = moving((0, 60), shape=(200, 200))
    assert np.hypot(*estimate_motion(history, periodic=True)) < 41


@pytest.mark.usefixtures("short_spin_up")
def test_the_simulated_wind_is_found():
    world = World(64, 64, seed=5)
    run = list(world.nature_run(np.datetime64("2024-05-09T00", "h"), 48))
    fields = np.stack([np.stack([world.observe(state, time)[name][0] for name in FIELDS]) for time, state in run])
    wind = np.stack([state.mean_wind[0, ::-1] * CELLS_PER_HOUR for _, state in run])
    errors = [
        np.hypot(*(estimate_motion(fields[t - 3 : t + 1], periodic=True) - wind[t - 3 : t].mean(axis=0)))
        for t in range(3, 48)
    ]
    assert np.median(errors) < 0.3
    assert np.quantile(errors, 0.9) < 0.6


def test_whole_cells_are_moved_exactly():
    frames = np.random.default_rng(0).normal(size=(3, 16, 20)).astype(np.float32)
    np.testing.assert_array_equal(advect(frames, (2, -3), periodic=True), np.roll(frames, (2, -3), (1, 2)))


def test_air_from_over_an_edge_has_the_values_of_the_edge():
    frame = np.arange(12.0).reshape(3, 4)
    np.testing.assert_array_equal(advect(frame, (0, 2), periodic=False)[0], [0, 0, 0, 1])
    np.testing.assert_array_equal(advect(frame, (-2, 0), periodic=False)[:, 0], [8, 8, 8])


def test_smooth_fields_are_moved_by_parts_of_cells():
    field = cloud(3, smooth=3.0)
    expected = np.fft.ifft2(ndimage.fourier_shift(np.fft.fft2(field), (4.4, -7.7))).real
    error = advect(field, (4.4, -7.7), periodic=True) - expected
    assert error.std() < 0.02 * field.std()


def test_moving_passes_no_bound():
    storms = np.where(cloud(4) > 0.1, 45.0, -10.0)
    moved = advect(storms, (0.37, 5.61), periodic=True)
    assert (moved.min(), moved.max()) == (-10, 45)


def test_a_roll_of_the_moved_frame_is_the_moved_roll():
    frame = cloud(5).astype(np.float32)
    np.testing.assert_allclose(
        np.roll(advect(frame, (3.3, -2.2), periodic=True), (5, 6), (0, 1)),
        advect(np.roll(frame, (5, 6), (0, 1)), (3.3, -2.2), periodic=True),
        atol=1e-6,
    )
