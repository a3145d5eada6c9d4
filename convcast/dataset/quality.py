"""Is an hour of fields weather, or a mistake? Each check says what it found, its limit, and whether that rejects.

The checks of an hour see the hour and the means of the one before. `mask_collapsed` alone changes values, before them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convcast.variables import D2M, REFC, T2M, Collapse, Variable

MOST_MISSING = 0.001
"""Share of a field's points."""
MOST_COLLAPSED = 0.001
"""Share of a field's points that may be masked as a fault of the model's output ..."""
FEW_COLLAPSED = 10
"""... or so many points, whatever their share of a small domain."""
LATTICE = 1 / 16
"""Bounds are passed by no more than the packing may round."""
SUPERSATURATION = 1.0
"""Kelvin by which D2M may pass T2M ..."""
MOST_SUPERSATURATED = 0.01
"""... and the share of points where it may pass even that: HRRR computes the two by different interpolations."""
LARGEST_JUMP = 0.1
"""Of a field's mean within an hour, as a share of the span of its bounds: 12 K, 18 m/s."""
LARGE_DOMAIN = 500_000
"""Points. Somewhere over so many, there is always an echo."""


@dataclass(frozen=True)
class QualityFinding:
    """Something a check did not like."""

    check: str
    field: str
    figure: float
    limit: float
    rejects: bool
    """False of a warning, which is kept with the hour but does not keep it out."""

    def __str__(self) -> str:
        return _SENTENCES[self.check].format(**asdict(self))

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


_SENTENCES = {
    "missing": "{field} is missing at {figure:.2%} of the points (at most {limit:.1%})",
    "collapsed": "{figure:g} points of {field} collapsed far below their surroundings and count as missing (at most "
    "{limit:g})",
    "low": "{field} falls to {figure:g} (bound {limit:g})",
    "high": "{field} rises to {figure:g} (bound {limit:g})",
    "constant": "{field} is {figure:g} everywhere",
    "jump": "the mean of {field} moved by {figure:.3g} in an hour (at most {limit:.3g})",
    "supersaturated": "d2m is above t2m at {figure:.2%} of the points (at most {limit:.0%})",
    "silent": "{field} is at its floor of {figure:g} at every point",
}


def mask_collapsed(values: NDArray[np.float32], variables: Sequence[Variable]) -> list[QualityFinding]:
    """Make points missing that fell far below all around them (Variable.collapse); a finding with their number a field.

    `values` (variable, y, x), GRIB units, are changed. Too many such points reject the hour.
    """
    findings = []
    for variable, field in zip(variables, values, strict=True):
        if variable.collapse is None:
            continue
        where = find_collapsed(field, variable.collapse)
        if len(where):
            field[tuple(where.T)] = np.nan
            limit = max(FEW_COLLAPSED, int(MOST_COLLAPSED * field.size))
            findings.append(QualityFinding("collapsed", variable.name, len(where), limit, len(where) > limit))
    return findings


def find_collapsed(field: NDArray[np.float32], collapse: Collapse) -> NDArray[np.intp]:
    """Rows and columns (point, 2) of the collapsed points of a field (y, x); missing points are none."""
    from scipy.ndimage import maximum_filter

    if not (field < collapse.below).any():
        return np.empty((0, 2), np.intp)
    found = []
    # The highest around bounds the median, and is quick to find; few points are left where a region is cold.
    highest = maximum_filter(np.where(np.isnan(field), -np.inf, field), 5)
    for y, x in np.argwhere((field < collapse.below) & (field <= highest - collapse.drop)):
        around = field[max(0, y - 2) : y + 3, max(0, x - 2) : x + 3]
        if np.nanmedian(around) - field[y, x] >= collapse.drop:
            found.append((y, x))
    return np.array(found, np.intp).reshape(-1, 2)


def examine(
    values: NDArray[np.float32],
    variables: Sequence[Variable],
    *,
    before: Mapping[str, float] | None = None,
    masked: Sequence[QualityFinding] = (),
) -> list[QualityFinding]:
    """What is wrong with an hour's fields `values` (variable, y, x), in GRIB units; empty where nothing is.

    `before` are the means of the previous hour's fields by name, where it is there. Points that `mask_collapsed` found
    have a limit of their own and do not count as missing.
    """
    findings: list[QualityFinding] = []
    counts = {finding.field: round(finding.figure) for finding in masked}
    for variable, field in zip(variables, values, strict=True):
        findings += _examine_field(variable, field, counts.get(variable.name, 0))
    names = [variable.name for variable in variables]
    if T2M.name in names and D2M.name in names:
        t2m, d2m = values[names.index(T2M.name)], values[names.index(D2M.name)]
        share = float(np.count_nonzero(d2m > t2m + np.float32(SUPERSATURATION))) / t2m.size
        if share >= MOST_SUPERSATURATED:
            findings.append(QualityFinding("supersaturated", D2M.name, share, MOST_SUPERSATURATED, True))
    if before is not None:
        findings += compare_means(field_means(values, variables), before, variables)
    return findings


def field_means(values: NDArray[np.float32], variables: Sequence[Variable]) -> dict[str, float]:
    """The mean of each field over the points that are there; NaN where there are none."""
    means = {}
    for variable, field in zip(variables, values, strict=True):
        mean = float(field.mean())  # float32 sums pairwise: a millionth off, at most
        if np.isnan(mean):
            present = field[~np.isnan(field)]
            mean = float(present.mean()) if present.size else mean
        means[variable.name] = mean
    return means


def compare_means(
    means: Mapping[str, float], before: Mapping[str, float], variables: Sequence[Variable]
) -> list[QualityFinding]:
    """What has moved too far within an hour."""
    findings = []
    for variable in variables:
        jump = abs(means[variable.name] - before.get(variable.name, np.nan))
        limit = LARGEST_JUMP * (variable.bounds[1] - variable.bounds[0])
        if jump > limit:
            # Storms may fill or leave a small domain within the hour; temperature, moisture and wind do not.
            findings.append(QualityFinding("jump", variable.name, jump, limit, not variable.may_be_constant))
    return findings


def _examine_field(variable: Variable, field: NDArray[np.float32], masked: int) -> list[QualityFinding]:
    low, high = float(field.min()), float(field.max())
    findings = []
    if np.isnan(low):  # NaN passes through min, so that a clean field is read once less
        present = field[~np.isnan(field)]
        missing = 1 - (present.size + masked) / field.size
        if missing > MOST_MISSING:
            return [QualityFinding("missing", variable.name, missing, MOST_MISSING, True)]
        low, high = float(present.min()), float(present.max())
    if low < variable.bounds[0] - LATTICE:
        findings.append(QualityFinding("low", variable.name, low, variable.bounds[0], True))
    if high > variable.bounds[1] + LATTICE:
        findings.append(QualityFinding("high", variable.name, high, variable.bounds[1], True))
    if low == high and not variable.may_be_constant:
        findings.append(QualityFinding("constant", variable.name, low, 0, True))
    if variable == REFC and high <= variable.bounds[0] and field.size > LARGE_DOMAIN:
        findings.append(QualityFinding("silent", variable.name, high, 0, False))
    return findings
