"""Fit one straight line to the values of all strong echoes, so that rare ones are corrected together with others.

Few points of a few days exceed 50 dBZ, and they belong to even fewer storms. A correction of their quantiles alone is
uncertain. Since frequencies fall by a factor of e in three or four dBZ, random errors of such corrections make strong
echoes more frequent on average. The line has two parameters, which are fitted to all echoes from START on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from convcast.forecasts.calibration import MemberMap
from convcast.metrics.regimes import ECHO

Floats = NDArray[np.floating]

START = ECHO
"""Reflectivity, dBZ, from which the line holds: that of convection."""
EDGES = np.append(np.arange(START, 61.0, 2.5), np.inf)
"""Edges, dBZ, of the bins in which points of the truth are counted."""
MIDDLE = 40.0
"""Reflectivity, dBZ, for which the offset is given; its error there is nearly independent of the slope's."""
KNOTS = np.arange(START, 86.0, 5.0)
"""Reflectivity of forecasts, dBZ, at which a map has the values of the line."""
MIN_EVENTS = 20
"""Number of points of the truth from START on below which nothing is corrected."""
MAX_OFFSET = 15.0
"""Maximum offset at START and at MIDDLE, dBZ; a larger one would invent or delete echoes."""
SLOPES = -0.5, 0.6
"""Minimum and maximum of the change of the offset with reflectivity."""
TOLERANCE = 0.01, 0.001
"""Errors of offset, dBZ, and slope that do not matter."""
UNSEEN = 0.05
"""Number of members added to each bin, since a bin without members may have a point of the truth."""


@dataclass(frozen=True)
class Echoes:
    """Echoes at the points of some forecasts."""

    observed: Floats
    """Values of the truth, dBZ, (echo)."""
    forecast: Floats
    """Values of all members, dBZ, (echo)."""
    members: int
    """Number of members."""


def find_echoes(members: Floats, observed: Floats) -> Echoes:
    """Find the echoes of members, (member, point), and of the truth, (point), that the line may reach.

    Args:
        members: Members, dBZ.
        observed: Truth, dBZ.

    Returns:
        The values from MAX_OFFSET below START on.
    """
    low = START - MAX_OFFSET
    return Echoes(observed[observed >= low], members[members >= low], len(members))


def fit_line(parts: Sequence[Echoes]) -> Floats:
    """Fit the line that makes the numbers of echoes in each bin most likely.

    The numbers of points of the truth in the bins are treated as Poisson variables, with the mean numbers of the mapped
    members as expectations. A value x from START on is mapped to x + offset + slope (x - MIDDLE).

    Args:
        parts: Echoes of several forecasts, with as many members each.

    Returns:
        Offset at MIDDLE, dBZ, and slope; zeros where there are too few echoes.
    """
    counts = np.histogram(np.concatenate([part.observed for part in parts]), EDGES)[0]
    values = np.sort(np.concatenate([part.forecast for part in parts]))
    members = max(part.members for part in parts)
    none = np.zeros(2)
    if min(counts.sum(), (values >= START).sum() / members) < MIN_EVENTS:
        return none

    def surprise(line: Floats) -> float:
        offset, slope = line
        at_start = offset + slope * (START - MIDDLE)
        if max(abs(offset), abs(at_start)) > MAX_OFFSET or not SLOPES[0] <= slope <= SLOPES[1]:
            return float("inf")
        above = EDGES - START - at_start
        before = START + np.where(above >= 0, above / (1 + slope), above)
        beyond = (values.size - np.searchsorted(values, before)) / members
        expected = -np.diff(beyond) + UNSEEN / members
        return float((expected - counts * np.log(expected)).sum())

    simplex = [none, [-3.0, 0.0], [0.0, -0.1]]
    options = {"xatol": 0.01, "fatol": 0.05, "initial_simplex": simplex}
    found: Floats = minimize(surprise, none, method="Nelder-Mead", options=options).x
    return found


def fit_certain_line(blocks: Sequence[Sequence[Echoes]]) -> Floats:
    """Fit the line to all blocks, and shrink both parameters towards 0 by the same factor.

    The factor is 1 - 1 / q, or 0 if that is negative, where q is the square of the line in units of its covariance. The
    jackknife estimates the covariance from the fits without each block. With a factor for each parameter, a fault that
    is certain as a whole would be corrected only in part, because of the error of the slope.

    Args:
        blocks: Echoes by block of days.

    Returns:
        Offset at MIDDLE, dBZ, and slope; zeros where there is one block.
    """
    count = len(blocks)
    if count < 2:
        return np.zeros(2)
    line = fit_line([part for block in blocks for part in block])
    rest = [fit_line([part for m, block in enumerate(blocks) if m != n for part in block]) for n in range(count)]
    departures = np.asarray(rest) - np.mean(rest, axis=0)
    covariance = (count - 1) / count * departures.T @ departures
    # The fit has finite tolerances, so the variance is at least theirs.
    square = float(line @ np.linalg.solve(covariance + np.diag(np.square(TOLERANCE)), line))
    certain: Floats = line * max(0.0, 1 - 1 / square) if square > 0 else line
    return certain


def with_line(one: MemberMap, line: Floats) -> MemberMap:
    """Return a map whose values from START on lie on a line.

    Args:
        one: Map with quantiles.
        line: Offset at MIDDLE, dBZ, and slope.
    """
    below = np.array(one.forecast) < START
    forecast = np.concatenate([np.array(one.forecast)[below], KNOTS])
    mapped = KNOTS + line[0] + line[1] * (KNOTS - MIDDLE)
    observed = np.maximum.accumulate(np.concatenate([np.array(one.observed)[below], mapped]))
    return replace(one, forecast=tuple(forecast.tolist()), observed=tuple(observed.tolist()))
