"""Compute the seven published fields from the simulated world's state, and the state from the fields.

Every part of the state is read from a field that shows it alone: temperature from T2M, moisture from D2M,
the mean wind and the stream function from U10 and V10, the storms from REFC. CAPE and CIN follow from these.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from convcast.archive.simulated.spectra import Array, Spectra
from convcast.grid import SPACING
from convcast.variables import NO_ECHO

FIELDS = ("refc", "t2m", "d2m", "u10", "v10", "cape", "cin")

CELLS_PER_HOUR = 3600.0 / SPACING  # of a wind of 1 m/s

RAIN_FLOOR = 0.05  # mm/h; lighter rain evaporates in the dynamics, so that what is not seen is not there
REFLECTIVITY_AT_1_MM = 10 * np.log10(200.0)  # dBZ: Z = 200 R^1.6 (Marshall and Palmer, 1948)
REFLECTIVITY_PER_DECADE = 16.0

WARMEST_HOUR = 21.0  # UTC: mid-afternoon over the central United States
MEAN_TEMPERATURE = 297.0  # K at the mean terrain height
MEAN_DEPRESSION = 8.5  # K between temperature and dewpoint
MIN_DEPRESSION = 0.25  # K; the dynamics rain out moisture beyond it, so D2M < T2M survives rounding
TEMPERATURE_CYCLE = 4.0  # K, half the daily range over land
LAKE_TEMPERATURE_CYCLE = 1.0  # K
DEWPOINT_CYCLE = 0.7  # K
TEMPERATURE_LAPSE = 0.0065  # K/m
DEWPOINT_LAPSE = 0.0035  # K/m

CAPE_SCALE = 620.0  # J/kg per unit of instability
CIN_SCALE = 45.0  # J/kg per unit of stability


@dataclass(frozen=True)
class State:
    """All that the future of the simulated world depends on, for one or more members.

    Attributes
    ----------
    temperature, moisture : (member, ny, nx), K
        Anomalies of 2 m temperature and dewpoint from the climate of the place and hour.
    stream_function : (member, ny, nx), m2/s
        Of the wind anomaly, with zero mean.
    storm : (member, ny, nx), mm/h
        Rain rate: zero, or at least ``RAIN_FLOOR``.
    mean_wind : (member, 2), m/s
        Wind along x and y, averaged over the domain.
    """

    temperature: Array
    moisture: Array
    stream_function: Array
    storm: Array
    mean_wind: Array

    @property
    def members(self) -> int:
        return len(self.mean_wind)

    def member(self, which: slice | list[int]) -> State:
        """The members selected, or repeated, by an index."""
        return State(*(getattr(self, field.name)[which] for field in dataclasses.fields(self)))

    @classmethod
    def join(cls, states: Sequence[State]) -> State:
        """The members of several states, in order."""
        return cls(*(np.concatenate([getattr(s, field.name) for s in states]) for field in dataclasses.fields(cls)))


class Ground:
    """The ground under the world, its climate by the hour, and the published view of a state."""

    def __init__(self, ny: int, nx: int, seed: int) -> None:
        self.spectra = Spectra(ny, nx, SPACING)
        white = np.random.default_rng([seed, 0x7E88A1]).standard_normal((ny, nx))
        red = self.spectra.red(slope=4.0, outer=40.0, inner=3.0)
        relief = self.spectra.inverse(red * self.spectra.forward(white))
        relief -= relief.mean()
        lake_level = np.quantile(relief, 0.06)
        self.terrain: Array = 450.0 + 160.0 * (np.maximum(relief, lake_level) / relief.std())
        self.terrain = np.maximum(self.terrain, 0.0)
        self.land: Array = (relief > lake_level).astype(np.float64)
        self._height: Array = self.terrain - self.terrain.mean()
        # Air over a shore is neither: the daily cycle crosses it within a few cells.
        self._inland: Array = ndimage.gaussian_filter(self.land, 1.0, mode="wrap")

    def temperature(self, hour: float) -> Array:
        """Climate of T2M (ny, nx) in K at an ``hour`` UTC, which may have a fraction."""
        cycle = LAKE_TEMPERATURE_CYCLE + (TEMPERATURE_CYCLE - LAKE_TEMPERATURE_CYCLE) * self._inland
        return MEAN_TEMPERATURE + cycle * daily_cycle(hour) - TEMPERATURE_LAPSE * self._height

    def dewpoint(self, hour: float) -> Array:
        """Climate of D2M (ny, nx) in K."""
        mean = MEAN_TEMPERATURE - MEAN_DEPRESSION
        return mean + DEWPOINT_CYCLE * daily_cycle(hour) - DEWPOINT_LAPSE * self._height

    def saturation(self, temperature: Array, hour: float) -> Array:
        """Largest moisture anomaly (K) that air with a temperature anomaly holds."""
        return temperature + (self.temperature(hour) - self.dewpoint(hour) - MIN_DEPRESSION)

    def cape(self, temperature: Array, moisture: Array, hour: float) -> Array:
        """CAPE (member, ny, nx) in J/kg: high in warm, moist air, by day, over low ground."""
        place = 0.7 + 0.8 * daily_cycle(hour) - 0.001 * self._height
        return CAPE_SCALE * _softplus(place + 0.85 * moisture + 0.35 * temperature)

    def cin(self, temperature: Array, moisture: Array, hour: float) -> Array:
        """CIN (member, ny, nx) in J/kg, at most 0: strong in cool, dry air, by night, over low ground."""
        place = -0.6 - 0.9 * daily_cycle(hour) - 0.003 * self._height
        return -CIN_SCALE * _softplus(place - 0.7 * temperature - 0.35 * moisture)

    def wind(self, stream_function: Array, storm: Array, mean_wind: Array) -> tuple[Array, Array]:
        """Wind (u, v) in m/s: the mean, the rotational anomaly, and the outflow of storms."""
        u, v = self.spectra.winds(self.spectra.forward(stream_function), self.spectra.forward(outflow(storm)))
        return u + mean_wind[:, 0, None, None], v + mean_wind[:, 1, None, None]

    def observe(self, state: State, hour: float) -> dict[str, Array]:
        """The published fields, each (member, ny, nx), of a state at an ``hour`` UTC."""
        u10, v10 = self.wind(state.stream_function, state.storm, state.mean_wind)
        return {
            "refc": reflectivity(state.storm),
            "t2m": self.temperature(hour) + state.temperature,
            "d2m": self.dewpoint(hour) + state.moisture,
            "u10": u10,
            "v10": v10,
            "cape": self.cape(state.temperature, state.moisture, hour),
            "cin": self.cin(state.temperature, state.moisture, hour),
        }

    def recover(self, fields: Mapping[str, Array], hour: float) -> State:
        """The state that published fields, (ny, nx) or (member, ny, nx), show; inverse of ``observe``."""
        shape = (-1, *self.terrain.shape)
        refc, t2m, d2m, u10, v10 = (np.asarray(fields[name], dtype=np.float64).reshape(shape) for name in FIELDS[:5])
        return State(
            temperature=t2m - self.temperature(hour),
            moisture=d2m - self.dewpoint(hour),
            # An outflow has no vorticity and no mean, so that neither of these sees it.
            stream_function=self.spectra.stream_function(u10, v10),
            storm=rain(refc),
            mean_wind=np.stack([u10.mean(axis=(1, 2)), v10.mean(axis=(1, 2))], axis=1),
        )


def daily_cycle(hour: float) -> float:
    """1 at the warmest hour of the day, -1 half a day from it."""
    return float(np.cos(2 * np.pi * (hour - WARMEST_HOUR) / 24))


def reflectivity(storm: Array) -> Array:
    """Composite reflectivity (dBZ) of a rain rate (mm/h)."""
    echo = REFLECTIVITY_AT_1_MM + REFLECTIVITY_PER_DECADE * np.log10(np.maximum(storm, RAIN_FLOOR))
    return np.where(storm > 0, echo, NO_ECHO)


def rain(refc: Array) -> Array:
    """Rain rate (mm/h) of a composite reflectivity (dBZ); inverse of ``reflectivity``."""
    rate = 10 ** ((refc - REFLECTIVITY_AT_1_MM) / REFLECTIVITY_PER_DECADE)
    return np.where(refc > NO_ECHO / 2, np.maximum(rate, RAIN_FLOOR), 0.0)


def outflow(storm: Array) -> Array:
    """Divergence (1/s) of the surface wind under storms: gusts of a few m/s around the strongest."""
    return 5e-4 * storm / (storm + 15.0)


def _softplus(x: Array) -> Array:
    return np.log1p(np.exp(x))
