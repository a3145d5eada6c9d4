"""Convective regimes: points sorted by what was known when the forecast began.

Not by what came: forecasts that are judged only where storms happened are rewarded for always announcing them (Lerch et
al. 2017, doi:10.1214/16-STS588), and no ensemble is calibrated there. By the analysis of the initial hour every system
is judged at the same points, and a calibrated one is calibrated in each regime.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from convcast.dataset.patches import ECHO
from convcast.notation import Hour
from convcast.variables import CAPE, REFC
from convcast.verification.layout import UnreadableError
from convcast.verification.neighbourhood import happens_near
from convcast.verification.spatial import RADIUS
from convcast.verification.truth import Truth

REGIMES = ("quiet", "unstable", "echo")
"""Neither of the others; CAPE of 1000 J/kg or more and no echo near; an echo of 20 dBZ or more within 39 km."""
UNSTABLE = CAPE.thresholds[1]
"""J/kg."""


def find_regimes(truth: Truth, init: Hour) -> NDArray[np.int8] | None:
    """The place in REGIMES of every point, (y, x); None where the truth has neither field, or not that hour."""
    known = [variable for variable in (REFC, CAPE) if variable in truth.variables]
    if not known or not np.isin(init, truth.hours):
        return None
    regimes = np.zeros(truth.place.shape, np.int8)
    try:
        if CAPE in known:
            regimes[truth.read(CAPE, init) >= UNSTABLE] = REGIMES.index("unstable")
        if REFC in known:
            regimes[happens_near(truth.read(REFC, init) >= ECHO, RADIUS)] = REGIMES.index("echo")
    except UnreadableError:
        return None
    return regimes
