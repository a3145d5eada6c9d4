from __future__ import annotations

import numpy as np
import pytest
from neighbourhood_by_hand import near_by_hand, smooth_by_hand
from scipy.ndimage import uniform_filter

from convcast.metrics.neighbourhood import box_means, far_from_missing, happens_near, smoothed


@pytest.mark.parametrize("radius", [1, 8, 13])
def test_neighbourhoods_are_disks(radius):
    event = np.random.default_rng(radius).random((50, 60)) > 0.998
    np.testing.assert_array_equal(happens_near(event, radius), near_by_hand(event, radius))


@pytest.mark.parametrize("step", [1, 4])
def test_each_bit_is_an_event_of_its_own(step):
    events = np.random.default_rng(0).random((32, 41, 38)) > 0.999
    packed = sum(event.astype(np.uint32) << np.uint32(bit) for bit, event in enumerate(events))
    near = happens_near(packed, 6, step=step)
    for bit, event in enumerate(events):
        np.testing.assert_array_equal(near >> np.uint32(bit) & 1, near_by_hand(event, 6)[::step, ::step])


def test_nothing_happens_near_nothing():
    assert not happens_near(np.zeros((9, 9), bool), 4).any()


@pytest.mark.parametrize("window", [5, 8])
def test_smoothing_is_a_gaussian_cut_off_square(window):
    values = np.random.default_rng(0).random((30, 40))
    np.testing.assert_allclose(smoothed(values, window), smooth_by_hand(values, window), rtol=1e-9)


@pytest.mark.parametrize("shape", [(1, 1), (3, 40), (40, 3)])
def test_a_disk_may_be_larger_than_the_field(shape):
    event = np.zeros(shape, bool)
    event[0, -1] = True
    np.testing.assert_array_equal(happens_near(event, 13), near_by_hand(event, 13))


def test_far_from_missing_keeps_off_the_edge_and_off_holes():
    there = np.ones((30, 30), bool)
    there[15, 15] = False
    far = far_from_missing(there, 4)
    assert not far[:4].any()
    assert far[4, 4]
    assert not far[15, 11:20].any()
    assert far[15, 20]
    np.testing.assert_array_equal(far_from_missing(there, 4, step=4), far[::4, ::4])


@pytest.mark.parametrize("width", [1, 3, 27])
@pytest.mark.parametrize("periodic", [False, True])
def test_box_means_are_those_of_scipy_to_the_last_bit(width, periodic):
    field = np.random.default_rng(width).integers(0, 51, (60, 55)) / 50
    expected = uniform_filter(field, width, mode="wrap" if periodic else "constant")
    np.testing.assert_array_equal(box_means(field, width, periodic=periodic), expected)
