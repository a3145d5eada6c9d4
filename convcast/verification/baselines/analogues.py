"""Baselines made of analyses alone: persistence, climatology, and advection with resampled residuals."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convcast.conventions import unpack
from convcast.dataset import Dataset, usable_inits, window
from convcast.notation import HOUR, Hour, Hours
from convcast.variables import Variable
from convcast.verification.baselines.base import Baseline
from convcast.verification.data.truth import Truth
from convcast.verification.digest import digest

Field = NDArray[np.float32]

NEAR_HOUR = 1
"""Maximum difference in time of day, hours, between a case and its analogues."""
HISTORY = 4
"""Number of analyses from which motion is estimated, the last one included, as in the presets' models."""


class ArrayCache:
    """Cache of the most recently used arrays, up to a number of bytes."""

    def __init__(self, limit: float) -> None:
        self._limit = limit
        self._held: OrderedDict[tuple[object, ...], NDArray[Any]] = OrderedDict()

    def __getstate__(self) -> dict[str, Any]:
        """Return the state without the cached arrays, which a worker computes again."""
        return {"_limit": self._limit, "_held": OrderedDict()}

    def get(self, key: tuple[object, ...], make: Callable[[], NDArray[Any]]) -> NDArray[Any]:
        """Return the array of a key; `make` computes it where it is not cached."""
        if key not in self._held:
            self._held[key] = make()
            while len(self._held) > 1 and sum(array.nbytes for array in self._held.values()) > self._limit:
                self._held.popitem(last=False)
        self._held.move_to_end(key)
        return self._held[key]


class TruthBaseline(Baseline):
    """Base class of baselines made of the truth alone: they forecast all its fields and need no other files."""

    def __init__(self, truth: Truth, cache: ArrayCache) -> None:
        self._truth, self._cache = truth, cache

    def _field(self, variable: Variable, hour: Hour) -> Field:
        """Return a field at an hour, (y, x). Whole hours are cached, those of a dataset as integers to save memory."""
        index, dataset = self._index(variable), self._truth.dataset
        if dataset is not None:
            stored: NDArray[np.int16] = self._cache.get(("stored", hour), lambda: dataset.read_stored([hour])[0])
            return unpack(variable, stored[index])
        frame: NDArray[np.float32] = self._cache.get(
            ("frame", hour), lambda: np.stack([self._truth.read(one, hour) for one in self._truth.variables])
        )
        field: Field = frame[index]
        return field

    def _index(self, variable: Variable) -> int:
        return self._truth.variables.index(variable)

    def _fingerprint(self, hours: Iterable[Hour]) -> str:
        return digest(*(f"{hour} {self._truth.fingerprint(hour)}" for hour in hours))


class Persistence(TruthBaseline):
    """The last analysis as a forecast of one member."""

    name = "persistence"

    def missing(self, init: Hour, lead: int) -> str | None:  # noqa: ARG002
        return None if init in self._truth.hours else f"there is no analysis of {init}"

    def fingerprint(self, init: Hour, lead: int) -> str:  # noqa: ARG002
        return self._fingerprint([init])

    def read(self, variable: Variable, init: Hour, lead: int) -> Field:  # noqa: ARG002
        return self._field(variable, init)[None]


class AnalogueHours:
    """Sampler of the training hours that are similar to a case, with the same number of hours for every case.

    Args:
        pool: Function of initial time and lead that returns the similar training hours.
        cases: Initial time and lead, hours, of the cases.
        members: Maximum number of hours drawn for a case.
        key: Key of the random draws.
    """

    def __init__(
        self,
        pool: Callable[[Hour, int], Hours],
        *,
        cases: Sequence[tuple[Hour, int]],
        members: int,
        key: tuple[int, int],
    ) -> None:
        self._pool, self._key = pool, key
        sizes = [size for case in cases if (size := len(pool(*case))) > 1]
        self._count = min([members, *sizes])

    def draw(self, init: Hour, lead: int) -> Hours:
        """Draw hours without replacement, in ascending order; fewer than 2 if training has no similar hours."""
        return self._order(init, lead)[: self._count]

    def spares(self, init: Hour, lead: int) -> Hours:
        """Draw up to as many further hours, to fill missing values of the drawn hours."""
        return self._order(init, lead)[self._count : 2 * self._count]

    def _order(self, init: Hour, lead: int) -> Hours:
        pool = self._pool(init, lead)
        key = np.random.SeedSequence((*self._key, _number(init), lead))
        order = np.random.Generator(np.random.Philox(key)).permutation(len(pool))
        hours: Hours = pool[np.concatenate([np.sort(order[: self._count]), order[self._count :]])]
        return hours

    def members(self, init: Hour, lead: int, field: Callable[[Hour], Field]) -> Field:
        """Return the fields of the hours drawn, (member, y, x).

        Missing values are filled from spare hours, because the gaps of many hours together would leave no point.

        Args:
            init: Initial time of the case.
            lead: Lead time of the case, hours.
            field: Function of a training hour that returns a field, (y, x), NaN where missing.
        """
        members = np.stack([field(hour) for hour in self.draw(init, lead)])
        for hour in self.spares(init, lead):
            absent = ~np.isfinite(members)
            if not absent.any():
                break
            other = field(hour)
            first = absent.argmax(0)
            filled = np.take_along_axis(absent, first[None], 0)[0] & np.isfinite(other)
            rows, columns = np.nonzero(filled)
            members[first[filled], rows, columns] = other[filled]
        return members


class Climatology(TruthBaseline):
    """Climatology: analyses of training hours within an hour of the same time of day, drawn without replacement."""

    name = "climatology"

    def __init__(
        self,
        truth: Truth,
        cache: ArrayCache,
        *,
        training: Hours,
        cases: Sequence[tuple[Hour, int]],
        members: int,
        seed: int,
    ) -> None:
        """Prepare to draw training hours.

        Args:
            truth: The truth, whose fields are the members.
            cache: Cache of the truth's fields.
            training: Hours that may be drawn.
            cases: Initial time and lead, hours, of the cases.
            members: Maximum number of members.
            seed: Seed of the draws.
        """
        super().__init__(truth, cache)
        self._analogues = AnalogueHours(
            lambda init, lead: near_hour_of_day(training, init + lead * HOUR),
            cases=cases,
            members=members,
            key=(seed, 1),
        )

    def missing(self, init: Hour, lead: int) -> str | None:
        if len(self._analogues.draw(init, lead)) < 2:
            return f"fewer than 2 training hours are near {hour_of_day(init + lead * HOUR):02d} UTC"
        return None

    def read(self, variable: Variable, init: Hour, lead: int) -> Field:
        return self._analogues.members(init, lead, lambda hour: self._field(variable, hour))

    def fingerprint(self, init: Hour, lead: int) -> str:
        drawn, spares = self._analogues.draw(init, lead), self._analogues.spares(init, lead)
        return f"{len(drawn)} {self._fingerprint([*drawn, *spares])}"


class Advection(TruthBaseline):
    """Advection of the last analysis plus resampled residuals: the best baseline made of analyses alone.

    The last analysis is advected by the motion estimated from the history. Each member adds the residual (analysis
    minus advected analysis, all fields of the same hour) of a training case near the same time of day, drawn without
    replacement, and is clipped to the fields' bounds. It has the mean change with the time of day and the correlations
    in space and between fields of the training data, but uses nothing of the current state except its motion.
    """

    name = "advection"

    def __init__(
        self,
        truth: Truth,
        dataset: Dataset,
        cache: ArrayCache,
        *,
        training: Hours,
        cases: Sequence[tuple[Hour, int]],
        members: int,
        seed: int,
    ) -> None:
        """Prepare to draw training cases.

        Args:
            truth: The truth, which is the dataset's analyses.
            dataset: The dataset, whose analyses are advected.
            cache: Cache of advected fields and residuals.
            training: Hours from which residuals may be drawn.
            cases: Initial time and lead, hours, of the cases.
            members: Maximum number of members.
            seed: Seed of the draws.
        """
        super().__init__(truth, cache)
        self._dataset = dataset
        usable = {lead: usable_inits(training, history=HISTORY, leads=(lead,)) for lead in {lead for _, lead in cases}}
        self._analogues = AnalogueHours(
            lambda init, lead: near_hour_of_day(usable[lead], init), cases=cases, members=members, key=(seed, 2)
        )

    def missing(self, init: Hour, lead: int) -> str | None:
        absent = self._dataset.missing(init - np.arange(HISTORY) * HOUR)
        if absent.size:
            return f"advection needs the analyses of {', '.join(map(str, absent))}"
        if len(self._analogues.draw(init, lead)) < 2:
            return f"fewer than 2 training cases start near {hour_of_day(init):02d} UTC"
        return None

    def read(self, variable: Variable, init: Hour, lead: int) -> Field:
        index = self._index(variable)
        advected = self._cache.get(
            ("advected", init, lead), lambda: window(self._dataset, init, lead, history=HISTORY).advected
        )
        residuals = self._analogues.members(init, lead, lambda analogue: self._residual(analogue, lead)[index])
        bounded: Field = np.clip(advected[index] + residuals, *variable.bounds).astype(np.float32)
        return bounded

    def fingerprint(self, init: Hour, lead: int) -> str:
        drawn = self._analogues.draw(init, lead)
        past = np.concatenate([drawn, self._analogues.spares(init, lead)])
        history = np.arange(HISTORY) * HOUR
        hours = np.concatenate([init - history, (past[:, None] - history).ravel(), past + lead * HOUR])
        return f"{len(drawn)} {self._fingerprint(np.concatenate([past, hours]))}"

    def _residual(self, init: Hour, lead: int) -> Field:
        def make() -> Field:
            case = window(self._dataset, init, lead, history=HISTORY, with_target=True)
            assert case.target is not None
            residual: Field = case.target - case.advected
            return residual

        return self._cache.get(("residual", init, lead), make)


def hour_of_day(time: Hour) -> int:
    """Return the hour of the day, UTC, 0 to 23."""
    return _number(time) % 24


def near_hour_of_day(hours: Hours, time: Hour) -> Hours:
    """Return the hours within NEAR_HOUR of the same time of day."""
    apart = (hours.astype("datetime64[h]").astype(np.int64) - _number(time)) % 24
    return hours[np.minimum(apart, 24 - apart) <= NEAR_HOUR]


def _number(time: Hour) -> int:
    return int(time.astype("datetime64[h]").astype(np.int64))
