"""Convective regimes: points sorted by what was known when the forecast began.

Not by what came: forecasts that are judged only where storms happened are rewarded for always announcing them (Lerch et
al. 2017, doi:10.1214/16-STS588), and no ensemble is calibrated there. By the analysis of the initial hour every system
is judged at the same points, and a calibrated one is calibrated in each regime.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from convcast.variables import CAPE, REFC

REGIMES = ("quiet", "unstable", "echo")
"""Neither of the others; CAPE of 1000 J/kg or more and no echo near; an echo of 20 dBZ or more within 39 km."""
ECHO = REFC.thresholds[0]
"""Reflectivity, dBZ, from which an echo counts as convection."""
UNKNOWN = -1
"""In place of a regime."""
UNSTABLE = CAPE.thresholds[1]
"""CAPE, J/kg, from which air counts as unstable."""


def sort_points(refc: NDArray[np.floating] | None, cape: NDArray[np.floating] | None) -> NDArray[np.int8] | None:
    """The place in REGIMES of every point, (y, x), from analyses in dBZ and J/kg; None where neither is known.

    It is -1 where missing values leave the regime open.
    """
    known = [field for field in (refc, cape) if field is not None]
    if not known:
        return None
    regimes = np.zeros(known[0].shape, np.int8)
    if cape is not None:
        regimes[cape >= UNSTABLE] = REGIMES.index("unstable")
        regimes[~np.isfinite(cape)] = UNKNOWN
    if refc is not None:
        # Imported here since it imports numba, which sampling does without.
        from convcast.metrics.neighbourhood import RADIUS, happens_near

        missing = ~np.isfinite(refc)
        if missing.any():
            regimes[happens_near(missing, RADIUS)] = UNKNOWN
        regimes[happens_near(refc >= ECHO, RADIUS)] = REGIMES.index("echo")
    return regimes
