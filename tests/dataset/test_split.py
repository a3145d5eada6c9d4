from __future__ import annotations

import json

import numpy as np
import pytest

from convcast.dataset import Split, split_hours
from convcast.errors import DamagedFileError, MissingInputError
from convcast.notation import HOUR
from convcast.settings import SplitSettings

START = np.datetime64("2024-05-06T00", "h")
HOURS = START + np.arange(240) * HOUR
THREE = SplitSettings(validation_days=1, test_days=2, gap_hours=6)


def offsets(hours):
    return [int((hours[0] - START) / HOUR), int((hours[-1] - START) / HOUR), len(hours)]


def test_parts_follow_one_another_with_gaps():
    split = split_hours(HOURS, THREE)
    assert offsets(split.training) == [0, 155, 156]
    assert offsets(split.validation) == [162, 185, 24]
    assert offsets(split.test) == [192, 239, 48]


def test_without_a_test_part_there_is_no_gap_for_it():
    split = split_hours(HOURS, SplitSettings(validation_days=1, test_days=0, gap_hours=6))
    assert offsets(split.validation) == [216, 239, 24]
    assert split.test.size == 0


SPREAD = SplitSettings(validation_days=2, validation_periods=2, test_days=2, gap_hours=6)


def test_periods_of_validation_lie_apart_with_gaps_on_both_sides():
    split = split_hours(HOURS, SPREAD)
    hours = ((split.validation - START) / HOUR).astype(int)
    np.testing.assert_array_equal(hours, [*range(69, 93), *range(162, 186)])
    np.testing.assert_array_equal((split.training - START) / HOUR, [*range(63), *range(99, 156)])
    assert offsets(split.test) == [192, 239, 48]


def test_one_period_is_the_last_of_several():
    one, several = split_hours(HOURS, THREE), split_hours(HOURS, SPREAD)
    assert one.bounds == several.bounds
    assert one.earlier == ()


def test_no_validation_has_no_periods():
    assert split_hours(HOURS, SplitSettings(validation_days=0, validation_periods=3)).validation.size == 0


def test_missing_hours_do_not_move_the_bounds():
    kept = np.delete(HOURS, [3, 100, 170, 171, 200])
    assert split_hours(kept, THREE).bounds == split_hours(HOURS, THREE).bounds


def test_order_of_the_hours_does_not_matter():
    shuffled = np.random.default_rng(0).permutation(HOURS)
    assert split_hours(shuffled, THREE).to_dict() == split_hours(HOURS, THREE).to_dict()


@pytest.mark.parametrize("settings", [THREE, SPREAD])
def test_a_saved_split_is_the_same_when_hours_were_added(settings):
    split = split_hours(HOURS, settings)
    again = Split.from_dict(json.loads(json.dumps(split.to_dict())), START + np.arange(-24, 400) * HOUR)
    np.testing.assert_array_equal(again.validation, split.validation)
    np.testing.assert_array_equal(again.test, split.test)
    np.testing.assert_array_equal(again.training[24:], split.training)


def test_too_few_hours_say_so():
    with pytest.raises(MissingInputError, match="48 hours leave none to train on"):
        split_hours(HOURS[:48], THREE)


def test_no_hours_say_so():
    with pytest.raises(MissingInputError, match="no hours"):
        split_hours(HOURS[:0], THREE)


def test_damaged_json_is_refused():
    with pytest.raises(DamagedFileError, match="split is damaged"):
        Split.from_dict({"bounds": ["2024-05-06"]}, HOURS)
