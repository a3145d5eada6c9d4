from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from convcast.dataset import Dataset, HourStatus, estimate_local_motion, estimate_motion, window
from convcast.dataset.cases.motion import FASTEST
from convcast.dataset.cases.optical_flow import SPACING, at_points
from convcast.dataset.layout import DatasetDescription
from convcast.dataset.store import Store
from convcast.grid import Grid
from convcast.notation import HOUR
from convcast.variables import REFC, T2M, select

REFLECTIVITY = (REFC,)
BOTH = (REFC, T2M)
DRY = -10.0
HOURS = 4


def storms(place, shape, *, period=None):
    """Return (time, 1, y, x): echoes of 50 dBZ around the points (row, column) that `place(hour)` returns."""
    y, x = np.mgrid[: shape[0], : shape[1]]
    history = []
    for hour in range(HOURS):
        field = np.zeros(shape)
        for row, column in place(hour):
            dy, dx = y - row, x - column
            if period:
                dy, dx = ((d + n / 2) % n - n / 2 for d, n in zip((dy, dx), shape, strict=True))
            field = np.maximum(field, np.exp(-(dy**2 + dx**2) / 50))
        history.append(np.where(field < 0.02, DRY, DRY + 60 * field))
    return np.stack(history)[:, None].astype(np.float32)


def temperature(motion, shape):
    """Return (time, 1, y, x): a pattern without storms that moves by whole cells each hour."""
    pattern = 290 + 40 * ndimage.gaussian_filter(np.random.default_rng(2).normal(size=(400, 400)), 4)
    starts = [[100 - cells * hour for cells in motion] for hour in range(HOURS)]
    cut = [pattern[row : row + shape[0], column : column + shape[1]] for row, column in starts]
    return np.stack(cut)[:, None].astype(np.float32)


def everywhere(history, variables=REFLECTIVITY, *, periodic=False):
    """Motion of every point, (2, y, x)."""
    lattice = estimate_local_motion(history, variables, periodic=periodic)
    ny, nx = history.shape[-2:]
    return at_points(lattice, np.arange(ny), np.arange(nx))


def scattered(shape, count=40):
    return np.random.default_rng(1).uniform(0, shape, (count, 2))


def error(motion, expected, history):
    """Distance (cells per hour) from the expected motion in the storms of the last hour."""
    return np.hypot(*(motion - expected))[history[-1, 0] > 20]


SIDE = 160
FROM_CENTRE = np.mgrid[:SIDE, :SIDE] - (SIDE - 1) / 2


def test_storms_that_turn_around_a_point_are_followed():
    turn, centre, points = 0.04, (SIDE - 1) / 2, scattered((SIDE, SIDE))

    def place(hour):
        c, s = np.cos(turn * hour), np.sin(turn * hour)
        return (points - centre) @ np.array([[c, s], [-s, c]]) + centre

    history = storms(place, (SIDE, SIDE))
    expected = turn * np.stack([-FROM_CENTRE[1], FROM_CENTRE[0]])
    errors = error(everywhere(history), expected, history)
    assert np.median(np.hypot(*expected)) > 2  # one motion for all would be that wrong
    assert np.median(errors) < 0.25
    assert np.quantile(errors, 0.9) < 0.5


def test_storms_in_a_shear_are_followed():
    points = scattered((SIDE, SIDE))
    rate = 0.05

    def place(hour):
        return [(row, column + rate * (row - (SIDE - 1) / 2) * hour) for row, column in points]

    history = storms(place, (SIDE, SIDE))
    expected = np.stack([np.zeros((SIDE, SIDE)), rate * FROM_CENTRE[0]])
    errors = error(everywhere(history), expected, history)
    assert np.median(errors) < 0.25
    assert np.quantile(errors, 0.9) < 0.5


@pytest.mark.parametrize("periodic", [False, True])
def test_storms_that_move_apart_have_motions_of_their_own(periodic):
    history = storms(lambda hour: [(40, 60 - 3 * hour), (40, 100 + 3 * hour)], (80, SIDE))
    motion = everywhere(history, periodic=periodic)
    np.testing.assert_allclose(motion[:, 40, 51], (0, -3), atol=0.5)
    np.testing.assert_allclose(motion[:, 40, 109], (0, 3), atol=0.5)


def test_far_from_echo_the_motion_is_that_of_the_domain():
    history = storms(lambda hour: [(40, 60 - 3 * hour), (40, 100 + 3 * hour)], (80, 240))
    domain = estimate_motion(history, periodic=False)
    motion = everywhere(history)
    assert np.hypot(*(motion[:, 40, 51] - domain)) > 2
    far = motion[:, :, 170:]
    np.testing.assert_allclose(far, np.broadcast_to(domain[:, None, None], far.shape), atol=0.02)


def test_without_echo_the_motion_is_that_of_the_domain():
    fields = temperature((2, -3), (96, 128))
    history = np.concatenate([np.full_like(fields, DRY), fields], axis=1)
    domain = estimate_motion(history, periodic=False)
    np.testing.assert_allclose(domain, (2, -3), atol=0.2)
    np.testing.assert_allclose(
        everywhere(history, BOTH), np.broadcast_to(domain[:, None, None], (2, 96, 128)), atol=0.01
    )


def test_without_reflectivity_the_motion_is_that_of_the_domain():
    history = storms(lambda hour: [(40, 60 - 3 * hour), (40, 100 + 5 * hour)], (80, SIDE))
    motion = everywhere(history, (T2M,))
    np.testing.assert_allclose(
        motion, np.broadcast_to(estimate_motion(history, periodic=False)[:, None, None], motion.shape), atol=0.01
    )


@pytest.mark.parametrize("dry", range(HOURS))
@pytest.mark.parametrize("others", [False, True])
def test_a_dry_hour_among_others_does_no_harm(dry, others):
    history = storms(lambda hour: [(40 + 2 * hour, 60 - 3 * hour)], (96, 128))
    history[dry] = DRY
    if others:
        history = np.concatenate([history, temperature((2, -3), (96, 128))], axis=1)
    motion = everywhere(history, BOTH if others else REFLECTIVITY)
    # The echoes that appear and vanish have no motion; beside them it is within 2 or 3 cells of that of the others.
    np.testing.assert_allclose(np.median(motion, axis=(1, 2)), (2, -3), atol=0.2)
    assert np.hypot(motion[0] - 2, motion[1] + 3).max() < 3


@pytest.mark.parametrize("wet", [(0,), (3,), (0, 3)])
def test_echoes_of_single_hours_have_no_motion_of_note(wet):
    history = np.full((HOURS, 1, 96, 128), DRY, np.float32)
    moving = storms(lambda hour: [(40 + 2 * hour, 60 - 3 * hour)], (96, 128))
    history[list(wet)] = moving[list(wet)]
    np.testing.assert_array_equal(estimate_motion(history, periodic=False), [0, 0])
    assert np.hypot(*everywhere(history)).max() < 5


@pytest.mark.parametrize("cells", [5, 12, 20, 25])
def test_a_storm_that_leaves_the_domain_keeps_its_motion(cells):
    history = storms(lambda hour: [(40, 80 + cells * hour)], (80, 120))
    motion = everywhere(history)
    np.testing.assert_allclose(motion, np.broadcast_to([[[0]], [[cells]]], motion.shape), atol=0.5)


def test_no_motion_is_faster_than_storms_are():
    def place(hour):
        slow = [(row, 20 + column + 37 * hour) for row in (10, 35) for column in (0, 31, 67)]
        return [*slow, (80, 20 + 45 * hour)]

    history = storms(place, (100, 300))
    speed = np.hypot(*everywhere(history))
    assert speed[80, 155] > 0.98 * FASTEST
    assert speed.max() <= FASTEST * (1 + 2**-10)  # of float16


def test_no_noise_is_faster_than_storms_are():
    noise = np.random.default_rng(0).uniform(DRY, 60, (HOURS, 1, 64, 64)).astype(np.float32)
    assert np.hypot(*everywhere(noise, periodic=True)).max() <= FASTEST * (1 + 2**-10)


def test_storms_are_followed_across_the_edges_of_a_torus():
    def place(hour):
        return [(20, 118 + 4 * hour), (60, 10 - 4 * hour)]

    motion = everywhere(storms(place, (80, 128), period=True), periodic=True)
    for column in (120, 126, 2):
        np.testing.assert_allclose(motion[:, 20, column], (0, 4), atol=0.5)
    for column in (8, 2, 126):
        np.testing.assert_allclose(motion[:, 60, column], (0, -4), atol=0.5)


@pytest.mark.parametrize("shift", [(40, 64), (0, 80)])
def test_motion_on_a_torus_rolls_with_the_fields(shift):
    history = storms(lambda hour: [(40, 50 - 3 * hour), (40, 80 + 3 * hour)], (80, 128), period=True)
    rolled = np.roll(history, shift, (-2, -1))
    expected = np.roll(everywhere(history, periodic=True), shift, (-2, -1))
    np.testing.assert_allclose(everywhere(rolled, periodic=True), expected, atol=0.2)


def test_missing_values_count_as_no_echo():
    history = storms(lambda hour: [(40 + 2 * hour, 60 - 3 * hour)], (96, 128))
    holes = history.copy()
    holes[1, 0, 70:90, 80:110] = holes[3, 0, :5] = np.nan
    np.testing.assert_allclose(everywhere(holes), everywhere(history), atol=0.02)
    holes[:] = np.nan
    np.testing.assert_array_equal(everywhere(holes), 0)


def test_one_hour_has_no_motion():
    history = storms(lambda hour: [(40, 60)], (80, 120))[:1]
    np.testing.assert_array_equal(everywhere(history), 0)


@pytest.mark.parametrize("shape", [(80, 600), (81, 1027)])
def test_large_domains_are_averaged_for_the_motion_of_the_domain(shape, monkeypatch):
    seen = []

    def recorded(history, *, periodic):
        seen.append(history.shape[-2:])
        return estimate_motion(history, periodic=periodic)

    monkeypatch.setattr("convcast.dataset.cases.optical_flow.estimate_motion", recorded)
    points = scattered(shape)
    history = storms(lambda hour: points + np.array([2, 6]) * hour, shape)
    history[1, 0, 3, 5] = np.nan
    motion = everywhere(history)
    stride = -(-shape[1] // 512)
    assert seen == [(shape[0] // stride, shape[1] // stride)]
    np.testing.assert_allclose(np.median(motion, axis=(1, 2)), (2, 6), atol=0.1)
    assert error(motion, np.array([2, 6])[:, None, None], history).max() < 0.5


@pytest.mark.parametrize(("shape", "periodic"), [((24, 32), True), ((24, 32), False), ((41, 78), False)])
def test_the_lattice_reaches_over_the_last_cell(shape, periodic):
    history = storms(lambda hour: [(12, 10 + hour)], shape)
    lattice = estimate_local_motion(history, REFLECTIVITY, periodic=periodic)
    assert lattice.dtype == np.float16
    assert all((points - 1) * SPACING >= side - 1 for points, side in zip(lattice.shape[1:], shape, strict=True))


def test_linear_motion_is_interpolated_exactly():
    y, x = np.meshgrid(np.arange(6) * SPACING, np.arange(9) * SPACING, indexing="ij")
    lattice = np.stack([y / 4 - x / 8, x / 2 - 3]).astype(np.float16)
    rows, columns = np.arange(3, 29), np.arange(11, 60)
    at_y, at_x = np.meshgrid(rows, columns, indexing="ij")
    np.testing.assert_allclose(
        at_points(lattice, rows, columns), np.stack([at_y / 4 - at_x / 8, at_x / 2 - 3]), atol=1e-5
    )


def test_the_motion_of_a_part_is_that_part_of_the_whole(tmp_path):
    """The motion must not depend on the tile."""
    grid = Grid(80, SIDE, 300, 800)
    history = storms(lambda hour: [(40, 60 - 3 * hour), (40, 100 + 3 * hour)], grid.shape)
    start = np.datetime64("2024-05-06T00", "h")
    times = start + np.arange(HOURS) * HOUR
    ground = np.zeros((2, *grid.shape), np.float32)
    store = Store.create(tmp_path / "d.zarr", DatasetDescription(select(["refc"]), grid, False, 0), ground)
    for valid, fields in zip(times, history, strict=True):
        store.write_hour(valid, fields)
    store.write_status(times, HourStatus.OK, [])
    dataset = Dataset.open(tmp_path / "d.zarr")

    whole = window(dataset, times[-1], 1)
    part = window(dataset, times[-1], 1, rows=slice(21, 60), columns=slice(90, 135))

    assert np.ptp(part.motion[1]) > 1
    np.testing.assert_array_equal(part.motion, whole.motion[:, 21:60, 90:135])
