"""Compute the seven published fields from the simulated world's state, and the state from the fields.

Each part of the state follows from fields that depend on no other part: temperature from T2M, moisture from D2M, the
mean wind and the stream function from U10 and V10, and the storms from REFC. CAPE and CIN depend on these parts.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from convcast.archive.simulated.spectra import Array, Spectra
from convcast.grid import SPACING
from convcast.variables import NO_ECHO

FIELDS = ("refc", "t2m", "d2m", "u10", "v10", "cape", "cin")

CELLS_PER_HOUR = 3600.0 / SPACING  # displacement by a wind of 1 m/s

RAIN_FLOOR = 0.05  # mm/h; the dynamics remove lighter rain, which the published fields would not show
REFLECTIVITY_AT_1_MM = 10 * np.log10(200.0)  # dBZ: Z = 200 R^1.6 (Marshall and Palmer, 1948)
REFLECTIVITY_PER_DECADE = 16.0

WARMEST_HOUR = 21.0  # UTC: mid-afternoon over the central United States
MEAN_TEMPERATURE = 297.0  # K at the mean terrain height
MEAN_DEPRESSION = 8.5  # K between temperature and dewpoint
MIN_DEPRESSION = 0.25  # K; the dynamics remove moisture beyond it, so that D2M < T2M also after rounding
TEMPERATURE_CYCLE = 4.0  # K, half of the daily range over land
LAKE_TEMPERATURE_CYCLE = 1.0  # K
DEWPOINT_CYCLE = 0.7  # K
TEMPERATURE_LAPSE = 0.0065  # K/m
DEWPOINT_LAPSE = 0.0035  # K/m

CAPE_SCALE = 620.0  # J/kg per unit of instability
CIN_SCALE = 45.0  # J/kg per unit of stability


@dataclass(frozen=True)
class State:
    """State of the simulated world for one or more members, on which alone its future depends."""

    temperature: Array
    """Anomaly of 2 m temperature from the climate of the point and hour, K, (member, ny, nx)."""
    moisture: Array
    """Anomaly of 2 m dewpoint, K, (member, ny, nx)."""
    stream_function: Array
    """Stream function of the wind anomaly, with zero mean, m2/s, (member, ny, nx)."""
    storm: Array
    """Rain rate, zero or at least RAIN_FLOOR, mm/h, (member, ny, nx)."""
    mean_wind: Array
    """Wind along x and y, averaged over the domain, m/s, (member, 2)."""

    @property
    def members(self) -> int:
        return len(self.mean_wind)

    def member(self, which: list[int]) -> State:
        """Return the members that an index selects; it may repeat them."""
        return State(*(getattr(self, field.name)[which] for field in dataclasses.fields(self)))


class Ground:
    """Terrain and land of the simulated world, its climate by hour of the day, and the fields of a state."""

    def __init__(self, ny: int, nx: int, seed: int) -> None:
        """Draw the ground.

        Args:
            ny: Number of rows of cells.
            nx: Number of columns of cells.
            seed: Seed of terrain and land.
        """
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
        # The daily cycle changes gradually across the shore, within a few cells.
        self._inland: Array = ndimage.gaussian_filter(self.land, 1.0, mode="wrap")

    def temperature(self, hour: float) -> Array:
        """Climate of T2M, K, (ny, nx), at an hour UTC, which may have a fraction."""
        cycle = LAKE_TEMPERATURE_CYCLE + (TEMPERATURE_CYCLE - LAKE_TEMPERATURE_CYCLE) * self._inland
        return MEAN_TEMPERATURE + cycle * daily_cycle(hour) - TEMPERATURE_LAPSE * self._height

    def dewpoint(self, hour: float) -> Array:
        """Climate of D2M, K, (ny, nx)."""
        mean = MEAN_TEMPERATURE - MEAN_DEPRESSION
        return mean + DEWPOINT_CYCLE * daily_cycle(hour) - DEWPOINT_LAPSE * self._height

    def saturation(self, temperature: Array, hour: float) -> Array:
        """Maximum moisture anomaly, K, of air with this temperature anomaly.

        Args:
            temperature: Anomaly of 2 m temperature, K, (..., ny, nx).
            hour: Hour of the day, UTC.
        """
        return temperature + (self.temperature(hour) - self.dewpoint(hour) - MIN_DEPRESSION)

    def cape(self, temperature: Array, moisture: Array, hour: float) -> Array:
        """Return CAPE, J/kg, (member, ny, nx): high in warm, moist air, by day, over low ground.

        Args:
            temperature: Anomaly of 2 m temperature, K, (member, ny, nx).
            moisture: Anomaly of 2 m dewpoint, K, (member, ny, nx).
            hour: Hour of the day, UTC.
        """
        instability = 0.7 + 0.8 * daily_cycle(hour) - 0.001 * self._height
        return CAPE_SCALE * _softplus(instability + 0.85 * moisture + 0.35 * temperature)

    def cin(self, temperature: Array, moisture: Array, hour: float) -> Array:
        """Return CIN, J/kg, at most 0, (member, ny, nx): strong in cool, dry air, by night, over low ground.

        The arguments are those of `cape`.
        """
        stability = -0.6 - 0.9 * daily_cycle(hour) - 0.003 * self._height
        return -CIN_SCALE * _softplus(stability - 0.7 * temperature - 0.35 * moisture)

    def wind(self, stream_function: Array, storm: Array, mean_wind: Array) -> tuple[Array, Array]:
        """Wind (u, v), m/s: the sum of the mean, the rotational anomaly and the outflow of storms.

        Args:
            stream_function: Stream function of the anomaly, m2/s, (member, ny, nx).
            storm: Rain rate, mm/h, (member, ny, nx).
            mean_wind: Wind along x and y, averaged over the domain, m/s, (member, 2).

        Returns:
            Wind along x and along y, (member, ny, nx) each.
        """
        u, v = self.spectra.winds(self.spectra.forward(stream_function), self.spectra.forward(outflow(storm)))
        return u + mean_wind[:, 0, None, None], v + mean_wind[:, 1, None, None]

    def observe(self, state: State, hour: float) -> dict[str, Array]:
        """Return the published fields of a state at an hour UTC, by name, (member, ny, nx)."""
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
        """Return the state from published fields, (ny, nx) or (member, ny, nx); the inverse of `observe`.

        Args:
            fields: Published fields by name, in K, m/s and dBZ; CAPE and CIN are not needed.
            hour: Hour of the day, UTC.
        """
        shape = (-1, *self.terrain.shape)
        refc, t2m, d2m, u10, v10 = (np.asarray(fields[name], dtype=np.float64).reshape(shape) for name in FIELDS[:5])
        return State(
            temperature=t2m - self.temperature(hour),
            moisture=d2m - self.dewpoint(hour),
            # The outflow of storms has no vorticity and no mean, and therefore affects neither of these.
            stream_function=self.spectra.stream_function(u10, v10),
            storm=rain(refc),
            mean_wind=np.stack([u10.mean(axis=(1, 2)), v10.mean(axis=(1, 2))], axis=1),
        )


def daily_cycle(hour: float) -> float:
    """Daily cycle: 1 at the warmest hour of the day, -1 twelve hours later."""
    return float(np.cos(2 * np.pi * (hour - WARMEST_HOUR) / 24))


def reflectivity(storm: Array) -> Array:
    """Composite reflectivity, dBZ, of a rain rate, mm/h."""
    echo = REFLECTIVITY_AT_1_MM + REFLECTIVITY_PER_DECADE * np.log10(np.maximum(storm, RAIN_FLOOR))
    return np.where(storm > 0, echo, NO_ECHO)


def rain(refc: Array) -> Array:
    """Rain rate, mm/h, of a composite reflectivity, dBZ; the inverse of `reflectivity`."""
    rate = 10 ** ((refc - REFLECTIVITY_AT_1_MM) / REFLECTIVITY_PER_DECADE)
    return np.where(refc > NO_ECHO / 2, np.maximum(rate, RAIN_FLOOR), 0.0)


def outflow(storm: Array) -> Array:
    """Divergence of the surface wind under storms, 1/s: a few m/s of wind around the strongest."""
    return 5e-4 * storm / (storm + 15.0)


def _softplus(x: Array) -> Array:
    return np.log1p(np.exp(x))
