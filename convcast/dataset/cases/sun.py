"""Solar zenith angle, which drives the daily cycle of convection."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from convcast.notation import Hour


class Sun:
    """Computes the cosine of the solar zenith angle at points given by latitude and longitude, degrees, (y, x).

    J. W. Spencer (1971), Fourier series representation of the position of the sun, Search 2(5), 172: declination to
    0.04 degrees, equation of time to 0.6 minutes. Below the horizon the cosine is negative.
    """

    def __init__(self, latitude: NDArray[np.floating], longitude: NDArray[np.floating]) -> None:
        phi, lam = np.radians(latitude), np.radians(longitude)
        # cos(zenith) = sin φ sin δ + cos φ cos δ cos(h + λ), with the cosine of the sum expanded, so that an
        # hour costs three products.
        self._sine = np.sin(phi).astype(np.float32)
        self._east = (np.cos(phi) * np.cos(lam)).astype(np.float32)
        self._north = (np.cos(phi) * np.sin(lam)).astype(np.float32)

    def cosine(self, time: Hour, rows: slice = slice(None), columns: slice = slice(None)) -> NDArray[np.float32]:
        """Return the cosine of the solar zenith angle, (y, x), at `time` (UTC) on these rows and columns."""
        declination, angle = _position(time)
        a, b, c = np.sin(declination), np.cos(declination) * np.cos(angle), -np.cos(declination) * np.sin(angle)
        box = rows, columns
        sine, east, north = self._sine[box], self._east[box], self._north[box]
        return np.asarray(np.float32(a) * sine + np.float32(b) * east + np.float32(c) * north, np.float32)


def _position(time: Hour) -> tuple[float, float]:
    """Return the declination and the Greenwich hour angle of the sun, radians."""
    hour = time.astype("datetime64[h]")
    day = (hour - hour.astype("datetime64[Y]")) / np.timedelta64(24, "h")
    g = 2 * np.pi * float(day) / 365.2422
    declination = (
        0.006918
        - 0.399912 * np.cos(g)
        + 0.070257 * np.sin(g)
        - 0.006758 * np.cos(2 * g)
        + 0.000907 * np.sin(2 * g)
        - 0.002697 * np.cos(3 * g)
        + 0.00148 * np.sin(3 * g)
    )
    equation_of_time = (
        0.000075 + 0.001868 * np.cos(g) - 0.032077 * np.sin(g) - 0.014615 * np.cos(2 * g) - 0.040849 * np.sin(2 * g)
    )
    fraction = (hour - hour.astype("datetime64[D]")) / np.timedelta64(24, "h")
    return float(declination), float(2 * np.pi * fraction - np.pi + equation_of_time)
