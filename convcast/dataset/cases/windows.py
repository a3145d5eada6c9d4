"""Cases for the model: past hours, static fields, sun and motion, and in training the target fields."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convcast.archive.forcing import Forcing, HrrrForecast
from convcast.conventions import unpack
from convcast.dataset.cases.motion import advect
from convcast.dataset.cases.optical_flow import Lattice, at_points, estimate_local_motion
from convcast.dataset.cases.patches import Patch, Patches, count_echoes
from convcast.dataset.cases.sun import Sun
from convcast.dataset.dataset import Dataset
from convcast.errors import SettingsError
from convcast.grid import Grid
from convcast.notation import HOUR, Hour, Hours
from convcast.variables import REFC

Floats = NDArray[np.float32]

IN_MEMORY = 1 << 30
"""Maximum size, bytes, of the decoded fields that Windows holds in memory."""

_MOTION_FOUND = threading.Condition()
"""Notified when a motion has been estimated. As an attribute it would keep Windows from being pickled."""


@dataclass(frozen=True)
class Window:
    """One case: the inputs of a forecast and, in training, its target, in GRIB units."""

    init: Hour
    lead: int
    """Lead time, hours."""
    history: Floats
    """Hourly fields up to `init`, (history, variable, y, x). With `Windows(stored=True)`, it and `target` are the
    dataset's integers, int16."""
    static: Floats
    """Terrain height (m) and land mask, (2, y, x)."""
    sun: Floats
    """Cosine of the solar zenith angle at `init` and at the valid time, (2, y, x)."""
    hour: Floats
    """Sine and cosine of the UTC hour of day of `init`, (2,)."""
    motion: Floats
    """Motion (dy, dx) at each point, cells per hour, (2, y, x), estimated from the history of the whole domain
    (convcast.dataset.cases.optical_flow)."""
    periodic: bool
    """Whether the fields are a whole torus."""
    target: Floats | None
    """The fields at `init + lead`, (variable, y, x); None for a forecast."""
    weight: float = 1.0
    """Importance weight of the case in averages over cases (convcast.dataset.cases.patches.Patch.weight)."""
    forcing: Floats | None = None
    """HRRR's forecast of the fields at `init + lead`, (variable, y, x); None if it is withheld or there is none."""
    age: int | None = None
    """Age of the forecast's cycle relative to that of `init`, hours; None without forcing."""

    @cached_property
    def advected(self) -> Floats:
        """Return the last frame advected by `motion * lead`, (variable, y, x)."""
        return advect(self.history[-1], self.motion * self.lead, periodic=self.periodic)

    def roll(self, rows: int, columns: int) -> Window:
        """Roll all fields by rows and columns, which is a symmetry of the periodic simulated world."""

        def moved(field: Floats) -> Floats:
            return _roll(field, rows, columns)

        return Window(
            self.init,
            self.lead,
            moved(self.history),
            moved(self.static),
            moved(self.sun),
            self.hour,
            moved(self.motion),
            self.periodic,
            None if self.target is None else moved(self.target),
            self.weight,
            None if self.forcing is None else moved(self.forcing),
            self.age,
        )


def window(
    dataset: Dataset,
    init: Hour,
    lead: int,
    *,
    history: int = 4,
    rows: slice = slice(None),
    columns: slice = slice(None),
    with_target: bool = False,
    past: Floats | None = None,
    motion: Lattice | None = None,
    sun: Floats | None = None,
    forcing: tuple[HrrrForecast, int] | None = None,
) -> Window:
    """Read one case on a sub-grid of a dataset.

    Args:
        dataset: The dataset to read.
        init: Initial time.
        lead: Lead time, hours.
        history: Number of hourly frames up to `init`.
        rows: Rows of the dataset's grid.
        columns: Columns of the dataset's grid.
        with_target: Read the fields at the valid time too.
        past: Fields (history, variable, y, x) of the whole domain, used instead of the dataset's hours by a forecast
            that continues from an earlier forecast.
        motion: The result of `domain_motion` for this case, where it is known.
        sun: The result of `sun_of` for this sub-grid, where it is known.
        forcing: HRRR's forecast for the valid time and its age (Window.age), which the dataset holds.

    Raises:
        MissingInputError: Hours are not ok; the message names them, and the advice the command to fetch them.
    """
    if past is None:
        values = dataset.read(_hours_of(init, lead, history, with_target), rows, columns)
    else:
        values = past[:, :, rows, columns]
    if motion is None:
        motion = domain_motion(dataset, init, history=history, past=past)
    box = dataset.grid.crop(rows, columns)
    return _assemble(
        values[:history],
        dataset.static[:, rows, columns],
        sun_of(box, init, lead) if sun is None else sun,
        init=init,
        lead=lead,
        motion=_motion_at(motion, dataset, rows, columns),
        target=values[-1] if with_target else None,
        periodic=box.periodic,
        forcing=None if forcing is None else (dataset.read_forecast(forcing[0], rows, columns), forcing[1]),
    )


def sun_of(grid: Grid, init: Hour, lead: int) -> Floats:
    """Return the cosine of the solar zenith angle at `init` and `lead` hours later, (2, y, x).

    Args:
        grid: The grid, (y, x).
        init: Initial time.
        lead: Lead time, hours.
    """
    sun = Sun(*grid.latitude_longitude())
    return np.stack([sun.cosine(init), sun.cosine(init + lead * HOUR)])


def domain_motion(dataset: Dataset, init: Hour, *, history: int = 4, past: Floats | None = None) -> Lattice:
    """Estimate the motion over the whole domain by `estimate_local_motion`.

    Args:
        dataset: Dataset with the hours.
        init: Initial time.
        history: Number of hours that are used, `init` included.
        past: Fields of these hours, (history, variable, y, x), if they are in memory.
    """
    values = dataset.read(_hours_of(init, 0, history, with_target=False)) if past is None else past
    return estimate_local_motion(values, dataset.variables, periodic=dataset.grid.periodic)


def usable_inits(hours: Hours, *, history: int, leads: Sequence[int]) -> Hours:
    """Return the hours whose `history` frames (their own included) and whose valid times at `leads` are in `hours`."""
    known = np.sort(np.asarray(hours, "datetime64[h]"))
    usable = np.ones(known.size, bool)
    for offset in [*range(1 - history, 0), *leads]:
        usable &= np.isin(known + offset * HOUR, known)
    return known[usable]


def shuffled_indices(count: int, *, seed: int, rank: int = 0, world_size: int = 1) -> Iterator[int]:
    """Yield indices of Windows without end; each pass over the cases has a new random order.

    Indices keep growing from pass to pass and may exceed `count`, since Windows draws anew for each index.

    Args:
        count: Number of cases.
        seed: Seed of the orders.
        rank: Rank of this process, which receives every `world_size`-th index.
        world_size: Number of processes.
    """
    turn = 0
    while True:
        order = _generator(seed, turn, stream=1).permutation(count) + turn * count
        # Ranks take turns across passes; otherwise one rank would always get an extra case.
        yield from (int(i) for k, i in enumerate(order) if (turn * count + k) % world_size == rank)
        turn += 1


class Windows:
    """Cases by index, for torch's DataLoader or any other loader; random draws depend on (seed, index) alone.

    There is a case for each initial time and lead. An index of `len(windows)` or more is the same case again with new
    draws, so that passes differ. Small datasets are held in memory; others are read patch by patch.

    Processes with different indices have different draws. `shuffled_indices(..., rank, world_size)` distributes the
    indices, and the workers of a DataLoader, which share one sampler, need no seeds of their own.
    """

    def __init__(
        self,
        dataset: Dataset,
        inits: Hours,
        *,
        leads: Sequence[int],
        history: int,
        patch: int | None,
        seed: int,
        augment: bool,
        convective: float = 0.0,
        forcing: Forcing | None = None,
        stored: bool = False,
    ) -> None:
        """Check that all hours are available, and read them if they fit in memory.

        Args:
            dataset: The dataset to read.
            inits: Initial times.
            leads: Lead times, hours.
            history: Number of hourly frames up to each initial time.
            patch: Side of the square patches, cells, clipped to the domain; None for the whole domain.
            seed: Seed of the random draws.
            augment: Draw patches at random positions and roll periodic domains at random; otherwise there is a case
                for each patch of a fixed grid that covers the domain.
            convective: Fraction of the random patches that are drawn over echoes of the initial hour.
            forcing: The HRRR forecasts that force the model; cases have the newest that the dataset holds.
            stored: Leave the analyses that are read from the disk as the dataset's integers (Window.history).

        Raises:
            MissingInputError: An initial time lacks an hour.
            SettingsError: There are no initial times or leads, or patches over echoes are drawn without REFC.
            DiskFullError: The dataset's cache does not fit on the disk.
        """
        if len(inits) == 0 or len(leads) == 0:
            raise SettingsError(
                "there is no initial hour with all its past and future hours",
                advice="fetch more consecutive hours: `convcast fetch --days 14`, then `convcast preprocess`",
            )
        self.dataset = dataset
        self.inits = np.asarray(inits, "datetime64[h]")
        self.leads = tuple(leads)
        self.history = history
        self.seed = seed
        self.augment = augment
        self.forcing = forcing
        self._read: Callable[..., Any] = dataset.read_stored if stored else dataset.read
        ny, nx = dataset.grid.shape
        self.shape = (min(ny, patch), min(nx, patch)) if patch else (ny, nx)
        self.whole = self.shape == dataset.grid.shape
        self.periodic = dataset.grid.periodic and self.whole
        self._sun = Sun(*dataset.latitude_longitude)
        self._patches = Patches((ny, nx), self.shape)
        self._grid = self._patches.grid() if self.whole or not augment else []
        self._convective = 0.0 if self._grid else convective
        if self._convective and REFC not in dataset.variables:
            raise SettingsError(
                "patches over convection need the field refc, which the dataset lacks",
                advice="run `convcast train --set training.convective=0`, or preprocess refc",
            )
        self._echoes: dict[Hour, NDArray[np.int64]] = {}
        offsets = [*range(1 - history, 1), *self.leads]
        hours: Hours = np.unique(np.concatenate([self.inits + offset * HOUR for offset in offsets]))
        dataset.require(hours)
        self._memory: Floats | None = None
        self._memory_index: dict[Hour, int] = {}
        if len(hours) * len(dataset.variables) * dataset.static[0].size * 4 <= IN_MEMORY:
            self._memory = dataset.read(hours)
            self._memory_index = {hour: i for i, hour in enumerate(hours)}
        else:
            dataset.make_room(hours)
        self._motion: dict[Hour, Lattice] = {}
        self._estimated: set[Hour] = set()

    def __len__(self) -> int:
        return len(self.inits) * len(self.leads) * max(1, len(self._grid))

    def __getitem__(self, number: int) -> Window:
        ages = self.ages(number)
        return self.forced(number, ages[0] if ages else None)

    def ages(self, number: int) -> tuple[int, ...]:
        """Return the ages, newest first, at which the dataset holds the forcing of a case; none without forcing."""
        init, lead, _ = self._case(number)
        return () if self.forcing is None else self.dataset.ages(self.forcing, init, lead)

    def forced(self, number: int, age: int | None) -> Window:
        """Return a case with the forcing of this age, one of its `ages`, or without forcing for None."""
        if number < 0:
            raise IndexError(number)
        init, lead, patch_index = self._case(number)
        generator = _generator(self.seed, number, stream=0)
        patch = self._grid[patch_index] if self._grid else self._patch(init, generator)
        made = self._window(init, lead, patch, age)
        if self.augment and self.periodic:
            return made.roll(*(int(generator.integers(side)) for side in self.shape))
        return made

    def init(self, number: int) -> Hour:
        """Return the initial time of a case without reading it."""
        return self._case(number)[0]

    def lead(self, number: int) -> int:
        """Return the lead time of a case, hours, without reading it."""
        return self._case(number)[1]

    def _case(self, number: int) -> tuple[Hour, int, int]:
        """Return the initial time, the lead, and the index in the grid of patches."""
        case, patch_index = divmod(number % len(self), max(1, len(self._grid)))
        return self.inits[case // len(self.leads)], self.leads[case % len(self.leads)], patch_index

    def _patch(self, init: Hour, generator: np.random.Generator) -> Patch:
        if not self._convective:
            return self._patches.draw_uniform(generator)
        if init not in self._echoes:
            refc = self.dataset.variables.index(REFC)
            if self._memory is None:
                field = unpack(REFC, self.dataset.read_stored([init])[0, refc])
            else:
                field = self._memory[self._memory_index[init], refc]
            self._echoes[init] = count_echoes(field)
        return self._patches.draw_convective(generator, self._echoes[init], self._convective)

    def _forcing(self, init: Hour, lead: int, patch: Patch, age: int | None) -> tuple[Floats, int] | None:
        """Return the forcing of this age on a patch, and the age."""
        if self.forcing is None or age is None:
            return None
        forecast = self.forcing.forecast(init, lead, age)
        if forecast is None:
            raise ValueError(f"HRRR has no forecast of age {age} h for {init} + {lead} h")
        return self.dataset.read_forecast(forecast, patch.rows, patch.columns), age

    def _window(self, init: Hour, lead: int, patch: Patch, age: int | None) -> Window:
        rows, columns = patch.rows, patch.columns
        hours = _hours_of(init, lead, self.history, with_target=True)
        if self._memory is None:
            values = self._read(hours, rows, columns)
            past, target = values[:-1], values[-1]
        else:
            first = self._memory_index[hours[0]]
            past = self._memory[first : first + self.history, :, rows, columns]
            target = self._memory[self._memory_index[hours[-1]], :, rows, columns]
        whole = None if self._memory is None else self._memory[first : first + self.history]
        return _assemble(
            past,
            self.dataset.static[:, rows, columns],
            np.stack([self._sun.cosine(time, rows, columns) for time in (init, init + lead * HOUR)]),
            init=init,
            lead=lead,
            motion=_motion_at(self._motion_from(init, whole), self.dataset, rows, columns),
            target=target,
            periodic=self.periodic,
            weight=patch.weight,
            forcing=self._forcing(init, lead, patch, age),
        )

    def _motion_from(self, init: Hour, past: Floats | None) -> Lattice:
        """Return the motion of the domain from `init` on, which one thread estimates once."""
        with _MOTION_FOUND:
            while init in self._estimated:
                _MOTION_FOUND.wait()
            if init in self._motion:
                return self._motion[init]
            self._estimated.add(init)
        try:
            motion = domain_motion(self.dataset, init, history=self.history, past=past)
            self._motion[init] = motion
        finally:
            with _MOTION_FOUND:
                self._estimated.discard(init)
                _MOTION_FOUND.notify_all()
        return motion


def _assemble(
    past: Floats,
    static: Floats,
    sun: Floats,
    *,
    init: Hour,
    lead: int,
    motion: Floats,
    target: Floats | None,
    periodic: bool,
    weight: float = 1.0,
    forcing: tuple[Floats, int] | None = None,
) -> Window:
    angle = 2 * np.pi * (init.astype("datetime64[h]").astype(np.int64) % 24) / 24
    hour = np.array([np.sin(angle), np.cos(angle)], np.float32)
    forecast, age = (None, None) if forcing is None else forcing
    return Window(init, lead, past, static, sun, hour, motion, periodic, target, weight, forecast, age)


def _motion_at(motion: Lattice, dataset: Dataset, rows: slice, columns: slice) -> Floats:
    ny, nx = dataset.grid.shape
    return at_points(motion, np.arange(ny)[rows], np.arange(nx)[columns])


def _hours_of(init: Hour, lead: int, history: int, with_target: bool) -> Hours:
    init = init.astype("datetime64[h]")
    past = init + np.arange(1 - history, 1) * HOUR
    return np.append(past, init + lead * HOUR) if with_target else past


def _generator(seed: int, number: int, *, stream: int) -> np.random.Generator:
    """Return the counter-based random generator of a case, which is independent of all other draws."""
    return np.random.Generator(np.random.Philox(key=[seed, 2 * number + stream]))


def _roll(field: Floats, rows: int, columns: int) -> Floats:
    """np.roll over the last two axes, in one copy."""
    ny, nx = field.shape[-2:]
    rows, columns = rows % ny, columns % nx
    rolled = np.empty_like(field)
    rolled[..., rows:, columns:] = field[..., : ny - rows, : nx - columns]
    rolled[..., rows:, :columns] = field[..., : ny - rows, nx - columns :]
    rolled[..., :rows, columns:] = field[..., ny - rows :, : nx - columns]
    rolled[..., :rows, :columns] = field[..., ny - rows :, nx - columns :]
    return rolled
