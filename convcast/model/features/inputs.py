"""The inputs of a few cases as standardised tensors, with the frames advected to the valid time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from convcast.dataset import Window
from convcast.grid import SPACING
from convcast.model.devices import send
from convcast.model.features.advection import advect, distance_outside, path, smooth, travelled, upstream
from convcast.model.features.normalisation import Floats, Normalisation
from convcast.settings import ALL_INPUTS, InputName
from convcast.variables import Variable, wind_indices

SECONDS_PER_HOUR = 3600.0
STEERING_WIDTH = 47
"""Cells over which the wind that moves the wind field is averaged: a pattern does not move with its own anomaly."""
INFLOW_WIDTH = 5
"""Cells over which the edge between air from inside and air from outside the domain is smoothed."""
INFLOW_DEPTH = 15.0
"""Distance outside the domain, cells, at which the second channel of `Inputs.inflow` reaches 1."""
Kind = tuple[int, int | None]
"""Lead time and age of the forcing, hours; None without forcing. The reference is fitted for each."""


def kind_order(kind: Kind) -> tuple[int, int]:
    """Return the key by which kinds are sorted: by lead, without forcing first."""
    lead, age = kind
    return lead, -1 if age is None else age


def kind_name(kind: Kind) -> str:
    """Return the name of a kind in model.json: `3`, or `3 forced 1`."""
    lead, age = kind
    return f"{lead}" if age is None else f"{lead} forced {age}"


def parse_kind(name: str) -> Kind:
    """Parse the result of `kind_name`; raises ValueError for another text."""
    lead, _, age = name.partition(" forced ")
    return int(lead), int(age) if age else None


@dataclass(frozen=True)
class Inputs:
    """Inputs of the network; tensors are standardised, (row, channel, y, x), with one row for each case."""

    leads: tuple[int, ...]
    """Lead time, hours, of each row."""
    periodic: bool
    history: Tensor
    """All frames, oldest first; the last `variable` channels are the last frame."""
    history_advected: Tensor
    """All frames advected to the valid time by the motion of the history, newest first."""
    advected_by_wind: Tensor
    """The last frame advected by the local wind, as near-surface air is and storms may be; the winds are advected by
    the wind averaged over STEERING_WIDTH cells."""
    steering: Tensor
    """Displacement over the lead by the wind averaged over STEERING_WIDTH cells, or by the motion of the history where
    the fields include no wind, cells, (row, 2, y, x)."""
    static: Tensor
    """Terrain and land mask."""
    static_advected: Tensor
    """Terrain and land mask where the air came from, since their imprint on a field does not move with the air."""
    inflow: Tensor
    """Share of air from outside the domain, and its distance from the domain at `init` as a share of INFLOW_DEPTH,
    (row, 2, y, x). There the frames moved to the valid time repeat the values of the edge. Zero on a torus."""
    sun: Tensor
    """Sun now and at the valid time."""
    hour: Tensor
    """Sine and cosine of the hour of day, (row, 2)."""
    forcing: Tensor | None = None
    """HRRR's forecast for the valid time, (row, variable, y, x); None without forcing."""
    age: int | None = None
    """Age of the forcing, hours, the same in all rows."""
    folds: tuple[int, ...] | None = None
    """Fold of each training case (convcast.model.features.correction); None for cases that no correction was fitted
    to."""

    @property
    def kinds(self) -> tuple[Kind, ...]:
        """Kind of each row."""
        return tuple((lead, self.age) for lead in self.leads)

    @property
    def last(self) -> Tensor:
        """The last frame, (row, variable, y, x)."""
        return self.history[:, -self.fields :]

    @property
    def fields(self) -> int:
        """Number of fields."""
        return self.advected_by_wind.shape[1]

    @property
    def advected(self) -> Tensor:
        """The last frame advected by the motion of the history, (row, variable, y, x)."""
        return self.history_advected[:, : self.fields]

    def advected_before(self, hours: int) -> Tensor:
        """Return the frame `hours` before the last one, advected to the valid time, (row, variable, y, x)."""
        return self.history_advected[:, hours * self.fields : (hours + 1) * self.fields]

    @property
    def frames(self) -> int:
        """Number of frames of the history."""
        return self.history.shape[1] // self.fields

    def to(self, device: torch.device | str) -> Inputs:
        names = (
            "history",
            "history_advected",
            "advected_by_wind",
            "steering",
            "static",
            "static_advected",
            "inflow",
            "sun",
            "hour",
        )
        forcing = None if self.forcing is None else self.forcing.to(device)
        moved = {name: getattr(self, name).to(device) for name in names}
        return replace(self, **moved, forcing=forcing)

    def forced(self, windows: Sequence[Window], normalisation: Normalisation) -> Inputs:
        """Return these inputs with the forcing of other windows of the same cases, which have the same age."""
        ages = {window.age for window in windows}
        if len(ages) > 1:
            raise ValueError(f"cases with forcing of several ages, {ages}")
        forcing = [w.forcing for w in windows if w.forcing is not None]
        if not forcing:
            return replace(self, forcing=None, age=None)
        fields = on_device(forcing, normalisation, self.history.device)
        standardised = normalisation.standardised(fields, periodic=self.periodic).nan_to_num()
        return replace(self, forcing=standardised, age=windows[0].age)

    @classmethod
    def of(
        cls,
        windows: Sequence[Window],
        normalisation: Normalisation,
        *,
        periodic: bool,
        names: Sequence[InputName] = ALL_INPUTS,
        folds: tuple[int, ...] | None = None,
        device: torch.device | str = "cpu",
    ) -> Inputs:
        """Build the inputs of windows of one shape on the device, where they are standardised and advected.

        Missing values become their field's mean, which is 0. Inputs besides the fields that are not in `names`
        (`model.inputs`) are 0. The fields of a window may be the dataset's integers.

        Args:
            windows: The cases, one for each row, all with forcing of one age, or all without forcing.
            normalisation: Normalisation of the fields.
            periodic: Whether the windows are a whole torus.
            names: Names of the inputs besides the fields.
            folds: Fold of each training case; None for cases that no correction was fitted to.
            device: Where the tensors are made.
        """
        device = torch.device(device)

        def stack(fields: list[Floats]) -> Tensor:
            return send(torch.from_numpy(np.stack(fields).astype(np.float32, copy=False)), device).nan_to_num()

        past = on_device([w.history for w in windows], normalisation, device)
        history = normalisation.standardised(past, periodic=periodic).nan_to_num()
        motion = stack([w.motion for w in windows])
        leads = send(torch.tensor([w.lead for w in windows], dtype=torch.float32), device)[:, None, None, None]
        static = stack([normalisation.standardise_static(w.static) for w in windows]) * ("ground" in names)
        wind = _displacement(past[:, -1], motion, leads, normalisation.variables)
        moving = torch.cat([history[:, -1], static], dim=1)
        along = wind_indices(normalisation.variables)
        steering = smooth(wind, STEERING_WIDTH, periodic=periodic) if along else motion * leads
        moved = upstream(moving, path(wind, steering, periodic=periodic), periodic=periodic)
        if along:
            steered = advect(torch.stack([moving[:, i] for i in along], dim=1), steering, periodic=periodic)
            for number, i in enumerate(along):
                moved[:, i] = steered[:, number]
        fields = history.shape[2]
        unforced = cls(
            leads=tuple(w.lead for w in windows),
            periodic=periodic,
            history=history.flatten(1, 2),
            history_advected=torch.cat(
                [
                    advect(history[:, -1 - age], motion * (leads + age), periodic=periodic)
                    for age in range(history.shape[1])
                ],
                dim=1,
            ),
            advected_by_wind=moved[:, :fields],
            steering=steering,
            static=static,
            static_advected=moved[:, fields:],
            inflow=_inflow(motion * leads, periodic=periodic),
            sun=stack([w.sun for w in windows]) * ("sun" in names),
            hour=stack([w.hour for w in windows]) * ("hour" in names),
            folds=folds,
        )
        return unforced.forced(windows, normalisation)


def on_device(
    fields: Sequence[Floats | NDArray[np.int16]], normalisation: Normalisation, device: torch.device
) -> Tensor:
    """Return fields of GRIB units or the dataset's integers as a tensor in GRIB units, (row, ..., variable, y, x).

    Args:
        fields: Fields of each row, (..., variable, y, x), float32 in GRIB units or int16 as the dataset stores them.
        normalisation: Normalisation of the fields, which converts integers.
        device: Where the tensor is made.
    """
    values = send(torch.from_numpy(np.stack(fields)), device)
    return normalisation.unpacked(values) if values.dtype == torch.int16 else values


def _inflow(displacement: Tensor, *, periodic: bool) -> Tensor:
    """Return the channels of `Inputs.inflow` for a displacement of the pattern over the lead, cells, (row, 2, y, x)."""
    if periodic:
        return torch.zeros_like(displacement)
    distance = distance_outside(travelled(displacement, periodic=periodic), periodic=periodic)
    arrived = smooth((distance > 0).float(), INFLOW_WIDTH, periodic=periodic)
    return torch.cat([arrived, (distance / INFLOW_DEPTH).clamp(max=1)], dim=1)


def _displacement(last: Tensor, motion: Tensor, leads: Tensor, variables: tuple[Variable, ...]) -> Tensor:
    """Return the displacement in cells along y and x over the lead, (row, 2, y, x).

    It follows the wind of the last frame (row, variable, y, x; GRIB units), or the motion of the history where the
    fields include no wind.
    """
    indices = wind_indices(variables)
    if indices is None:
        return motion * leads
    wind = torch.stack([last[:, i] for i in indices], dim=1)
    return (wind * (leads * (SECONDS_PER_HOUR / SPACING))).nan_to_num()
