from __future__ import annotations

import numpy as np
import pytest

from convcast.errors import MissingInputError
from convcast.grid import Grid
from convcast.notation import HOUR
from convcast.variables import FIELDS

START = np.datetime64("2024-05-06T00", "h")
HOURS = START + np.arange(30) * HOUR


def test_a_dataset_describes_itself(long_dataset):
    assert long_dataset.grid == Grid(24, 32, 300, 800)
    assert long_dataset.variables == tuple(FIELDS.values())
    assert (long_dataset.simulated, long_dataset.analysis_lead) == (False, 0)


def test_hours_are_those_that_are_ok(long_dataset):
    np.testing.assert_array_equal(long_dataset.times, HOURS)
    np.testing.assert_array_equal(long_dataset.hours, np.delete(HOURS, 13))


def test_hours_in_any_order(long_dataset):
    wanted = HOURS[[20, 3, 4, 12, 14]]
    together = long_dataset.read(wanted)
    for hour, values in zip(wanted, together, strict=True):
        np.testing.assert_array_equal(values, long_dataset.read([hour])[0])


def test_a_part(long_dataset):
    whole = long_dataset.read(HOURS[:2])
    part = long_dataset.read(HOURS[:2], slice(3, 9), slice(30, 32))
    np.testing.assert_array_equal(part, whole[:, :, 3:9, 30:32])


def test_values_are_float32(long_dataset):
    assert long_dataset.read(HOURS[:1]).dtype == np.float32


def test_a_gap_is_named_with_the_command_that_may_fill_it(long_dataset):
    with pytest.raises(MissingInputError, match=r"does not hold 2024-05-06T13 \(gap\)$") as caught:
        long_dataset.read(HOURS[12:15])
    assert "convcast fetch --start 2024-05-06T13 --end 2024-05-06T13" in caught.value.advice


def test_many_missing_hours_are_counted(long_dataset):
    with pytest.raises(MissingInputError, match="and 4 more"):
        long_dataset.read(HOURS[-1] + np.arange(1, 11) * HOUR)
