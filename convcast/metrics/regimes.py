"""Convective regimes: classes of points by the analysis at the forecast's initial hour.

Classes by the outcome would reward forecasts that always predict storms (Lerch et al. 2017, doi:10.1214/16-STS588), and
no ensemble is calibrated at the points where storms happened. With classes by the initial analysis, every system is
judged at the same points, and a calibrated ensemble is calibrated in each regime.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from convcast.variables import CAPE, REFC

REGIMES = ("quiet", "unstable", "echo")
"""The regimes: `echo`, an echo of 20 dBZ or more within 39 km; `unstable`, else CAPE of 1000 J/kg or more; `quiet`."""
ECHO = REFC.thresholds[0]
"""Reflectivity, dBZ, from which an echo counts as convection."""
UNKNOWN = -1
"""Code of a point whose regime is not known."""
UNSTABLE = CAPE.thresholds[1]
"""CAPE, J/kg, from which air counts as unstable."""


def sort_points(refc: NDArray[np.floating] | None, cape: NDArray[np.floating] | None) -> NDArray[np.int8] | None:
    """Sort points into REGIMES by the analyses of reflectivity and CAPE.

    Args:
        refc: Composite reflectivity, (y, x), dBZ; None if not known.
        cape: CAPE, (y, x), J/kg; None if not known.

    Returns:
        Index into REGIMES, (y, x), UNKNOWN where missing values do not decide it; None if neither field is known.
    """
    known = [field for field in (refc, cape) if field is not None]
    if not known:
        return None
    regimes = np.zeros(known[0].shape, np.int8)
    if cape is not None:
        regimes[cape >= UNSTABLE] = REGIMES.index("unstable")
        regimes[~np.isfinite(cape)] = UNKNOWN
    if refc is not None:
        # Imported here since it imports numba, which sampling does not need.
        from convcast.metrics.neighbourhood import RADIUS, happens_near

        missing = ~np.isfinite(refc)
        if missing.any():
            regimes[happens_near(missing, RADIUS)] = UNKNOWN
        regimes[happens_near(refc >= ECHO, RADIUS)] = REGIMES.index("echo")
    return regimes
