"""Quality control: checks of an hour of fields for errors of the model output or the file.

Each check yields findings with a figure, its limit, and whether it rejects the hour. Checks see the fields of the hour
and the means of the hour before. Only `mask_collapsed`, which runs before the checks, changes values.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from convcast.variables import D2M, REFC, T2M, Collapse, Variable

MAX_MISSING_POINTS = 0.001
"""Maximum fraction of missing points in an accepted field."""
MOST_COLLAPSED = 0.001
"""Maximum fraction of masked collapsed points in an accepted field."""
FEW_COLLAPSED = 10
"""Number of collapsed points that is accepted in any domain, however small."""
LATTICE = 1 / 16
"""Tolerance of the bounds, GRIB units, for rounding by the packing."""
SUPERSATURATION = 1.0
"""Maximum excess of D2M over T2M at a point, K; HRRR computes the two by different interpolations."""
MOST_SUPERSATURATED = 0.01
"""Fraction of points with a larger excess of D2M over T2M at which an hour is rejected."""
LARGEST_JUMP = 0.1
"""Maximum change of a field's mean in an hour, as a fraction of the range of its bounds: 12 K, 18 m/s."""
LARGE_DOMAIN = 500_000
"""Number of points above which a domain always has an echo somewhere."""


@dataclass(frozen=True)
class QualityFinding:
    """Result of a check whose limit is exceeded."""

    check: str
    field: str
    figure: float
    limit: float
    rejects: bool
    """Whether the hour is rejected; a finding that does not reject is stored as a warning."""

    def __str__(self) -> str:
        return _SENTENCES[self.check].format(**asdict(self))


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
    """Set points that fell far below their surroundings (Variable.collapse) to NaN.

    Args:
        values: Fields (variable, y, x), GRIB units, changed in place.
        variables: The variable of each field.

    Returns:
        A finding with the number of masked points for each affected field; too many points reject the hour.
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
    """Find the collapsed points of a field (y, x); return their rows and columns, (point, 2)."""
    from scipy.ndimage import maximum_filter

    if not (field < collapse.below).any():
        return np.empty((0, 2), np.intp)
    collapsed = []
    # The maximum of the surroundings bounds their median and is cheap; it leaves few candidates in cold regions.
    highest = maximum_filter(np.where(np.isnan(field), -np.inf, field), 5)
    for y, x in np.argwhere((field < collapse.below) & (field <= highest - collapse.drop)):
        around = field[max(0, y - 2) : y + 3, max(0, x - 2) : x + 3]
        if np.nanmedian(around) - field[y, x] >= collapse.drop:
            collapsed.append((y, x))
    return np.array(collapsed, np.intp).reshape(-1, 2)


def examine(
    values: NDArray[np.float32],
    variables: Sequence[Variable],
    *,
    masked: Sequence[QualityFinding] = (),
    max_missing_points: float = MAX_MISSING_POINTS,
) -> list[QualityFinding]:
    """Run all checks on the fields of an hour, except the comparison with the hour before (`compare_means`).

    Args:
        values: Fields (variable, y, x), GRIB units.
        variables: The variable of each field.
        masked: Findings of `mask_collapsed`, whose points do not count as missing.
        max_missing_points: Maximum fraction of missing points in an accepted field.

    Returns:
        The findings; empty if every check passes.
    """
    findings: list[QualityFinding] = []
    counts = {finding.field: round(finding.figure) for finding in masked}
    for variable, field in zip(variables, values, strict=True):
        findings += _examine_field(variable, field, counts.get(variable.name, 0), max_missing_points)
    names = [variable.name for variable in variables]
    if T2M.name in names and D2M.name in names:
        t2m, d2m = values[names.index(T2M.name)], values[names.index(D2M.name)]
        share = float(np.count_nonzero(d2m > t2m + np.float32(SUPERSATURATION))) / t2m.size
        if share >= MOST_SUPERSATURATED:
            findings.append(QualityFinding("supersaturated", D2M.name, share, MOST_SUPERSATURATED, True))
    return findings


def field_means(values: NDArray[np.float32], variables: Sequence[Variable]) -> dict[str, float]:
    """Compute the mean of each field over its present points, by name; NaN if there are none.

    Args:
        values: Fields, (variable, y, x), NaN where missing.
        variables: The fields, in this order.
    """
    means = {}
    for variable, field in zip(variables, values, strict=True):
        mean = float(field.mean())  # pairwise float32 sums are accurate to a millionth
        if np.isnan(mean):
            present = field[~np.isnan(field)]
            mean = float(present.mean()) if present.size else mean
        means[variable.name] = mean
    return means


def compare_means(
    means: Mapping[str, float], before: Mapping[str, float], variables: Sequence[Variable]
) -> list[QualityFinding]:
    """Compare the fields' means with those of the hour before; return a finding for each change that is too large.

    Args:
        means: Means of the hour by the fields' names, in GRIB units (`field_means`).
        before: Means of the hour before; a field that is absent or NaN is not compared.
        variables: The fields.
    """
    findings = []
    for variable in variables:
        jump = abs(means[variable.name] - before.get(variable.name, np.nan))
        limit = LARGEST_JUMP * (variable.bounds[1] - variable.bounds[0])
        if jump > limit:
            # Storms may fill or leave a small domain within the hour; temperature, moisture and wind do not.
            findings.append(QualityFinding("jump", variable.name, jump, limit, not variable.may_be_constant))
    return findings


def _examine_field(
    variable: Variable, field: NDArray[np.float32], masked: int, max_missing_points: float
) -> list[QualityFinding]:
    low, high = float(field.min()), float(field.max())
    findings = []
    if np.isnan(low):  # min() propagates NaN, which saves a pass over complete fields
        present = field[~np.isnan(field)]
        missing = 1 - (present.size + masked) / field.size
        if missing > max_missing_points:
            return [QualityFinding("missing", variable.name, missing, max_missing_points, True)]
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
