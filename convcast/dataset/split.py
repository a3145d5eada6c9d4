"""Split hours by time into training, validation and test, with gaps so that no weather system is in two parts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from convcast.errors import TRAIN_ANOTHER, DamagedFileError, MissingInputError
from convcast.notation import HOUR, Hour, Hours
from convcast.settings import SplitSettings


@dataclass(frozen=True)
class Split:
    """Sorted hours of the training, validation and test parts; validation and test may be empty."""

    training: Hours
    validation: Hours
    test: Hours
    bounds: tuple[Hour, Hour, Hour, Hour, Hour]
    """End of training, start and end of the last validation, start and end of test; ends are exclusive."""
    earlier: tuple[tuple[Hour, Hour, Hour, Hour], ...] = ()
    """Earlier periods of validation, between parts of the training. Each has the end of the training before it, its
    start and end, and the start of the training after it; ends are exclusive."""

    def to_dict(self) -> dict[str, Any]:
        """Return the bounds, and the size and first and last hour of each part, for JSON."""
        parts = {name: getattr(self, name) for name in ("training", "validation", "test")}
        return {
            "bounds": [str(bound) for bound in self.bounds],
            "earlier": [[str(bound) for bound in period] for period in self.earlier],
            **{
                name: {"hours": len(part), "first": str(part[0]), "last": str(part[-1])} if len(part) else {"hours": 0}
                for name, part in parts.items()
            },
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any], hours: Hours) -> Split:
        """Apply a saved split to `hours`; hours after its end are in no part.

        Raises:
            DamagedFileError: The saved bounds are damaged.
        """
        try:
            bounds = tuple(np.datetime64(text, "h") for text in values["bounds"])
            periods = values.get("earlier", [])  # models of earlier versions have one period
            return _cut(hours, bounds, [tuple(np.datetime64(text, "h") for text in period) for period in periods])
        except (KeyError, TypeError, ValueError) as error:
            raise DamagedFileError(f"a split is damaged ({error!r})", advice=TRAIN_ANOTHER) from error


def split_hours(hours: Hours, split: SplitSettings) -> Split:
    """Split the hours of a dataset into three parts, counted back from the last hour.

    Several periods of validation end at equal distances from the first hour to the end of the last period.

    Args:
        hours: Valid times.
        split: Days of validation and test, the number of periods of validation, and the gaps between parts.

    Raises:
        MissingInputError: There are no hours, or none are left for training.
    """
    hours = np.sort(np.asarray(hours, "datetime64[h]"))
    if hours.size == 0:
        raise MissingInputError("the dataset holds no hours", advice="run `convcast preprocess`")
    end = hours[-1] + HOUR
    test = end - _hours(split.test_days)
    validation_end = test - _gap(split.test_days, split)
    periods = split.validation_periods
    length, gap = _hours(split.validation_days / periods), _gap(split.validation_days, split)
    validation = validation_end - length
    earlier = []
    for number in range(1, periods if split.validation_days > 0 else 1):
        period_end = hours[0] + (validation_end - hours[0]) * number // periods
        earlier.append((period_end - length - gap, period_end - length, period_end, period_end + gap))
    divided = _cut(hours, (validation - gap, validation, validation_end, test, end), earlier)
    if divided.training.size == 0:
        raise MissingInputError(
            f"{hours.size} hours leave none to train on after {split.validation_days:g} days of validation and "
            f"{split.test_days:g} of test",
            advice="run `convcast fetch --days 14` and `convcast preprocess`, or `convcast train "
            f"--set split.validation_days={hours.size / 240:.2g} --set split.test_days={hours.size / 120:.2g} "
            "--set split.gap_hours=0`",
        )
    return divided


def _cut(hours: Hours, bounds: tuple[Hour, ...], earlier: Sequence[tuple[Hour, ...]]) -> Split:
    training_end, validation, validation_end, test, end = bounds
    training = hours < training_end
    validated = (hours >= validation) & (hours < validation_end)
    periods = []
    for before, first, last, after in earlier:
        training &= (hours < before) | (hours >= after)
        validated |= (hours >= first) & (hours < last)
        periods.append((before, first, last, after))
    return Split(
        hours[training],
        hours[validated],
        hours[(hours >= test) & (hours < end)],
        (training_end, validation, validation_end, test, end),
        tuple(periods),
    )


def _hours(days: float) -> np.timedelta64:
    return np.timedelta64(round(days * 24), "h")


def _gap(days: float, split: SplitSettings) -> np.timedelta64:
    return np.timedelta64(split.gap_hours if days > 0 else 0, "h")
