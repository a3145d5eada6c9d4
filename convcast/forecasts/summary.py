"""Summarise one field of an ensemble, reading one member at a time.

Memory does not grow with the number of members. Quantiles need all members at once and are computed in bands of rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate

import numpy as np
from numpy.typing import NDArray

from convcast.conventions import on_lattice
from convcast.grid import SPACING
from convcast.metrics.kernels import WORD, Counts, count_members
from convcast.metrics.neighbourhood import count_near
from convcast.variables import Variable

Floats = NDArray[np.float32]
BAND = 1 << 24
"""Maximum number of values, over all members, in a band of rows for quantiles: 64 MB."""


@dataclass(frozen=True)
class FieldSummary:
    """Summary of one field at one lead; maps are (y, x) in the field's units, probabilities are from 0 to 1."""

    mean: Floats
    spread: Floats
    """Standard deviation with n - 1 degrees of freedom; 0 for a single member."""
    probability: Floats
    """Fraction of the members with the event, (threshold, y, x)."""
    neighbourhood: Floats
    """Fraction of the members with the event anywhere in the neighbourhood of a point, (threshold, y, x)."""
    matched_mean: Floats
    """Probability-matched mean."""


def summarise(variable: Variable, members: Iterable[Floats], *, radius: int) -> FieldSummary:
    """Summarise one field of an ensemble in a single pass over its members.

    Mean and variance are computed by Welford (1962), Technometrics 4, 419. The probability-matched mean (Ebert 2001,
    Mon. Wea. Rev. 129, 2461) has the spatial pattern of the mean and the distribution of the members: the k-th smallest
    value of the mean is replaced by the middle one of the k-th group of n in the sorted values of all n members.

    Args:
        variable: The field.
        members: Field of each member, (y, x).
        radius: Radius of the neighbourhood, cells.

    Raises:
        ValueError: There are no members.
    """
    count = 0
    mean = squares = np.zeros(())
    pooled, events = _Pool(variable), _Events(variable, variable.thresholds, radius)
    for field in members:
        values = field.astype(np.float64)
        if count == 0:
            mean, squares = np.zeros(values.shape), np.zeros(values.shape)
        count += 1
        deviation = values - mean
        mean += deviation / count
        squares += deviation * (values - mean)
        events.add(field)
        pooled.add(field)
    if count == 0:
        raise ValueError("the ensemble has no members")
    spread = np.sqrt(squares / max(1, count - 1))
    at_points, nearby = events.counts()
    return FieldSummary(
        mean.astype(np.float32),
        spread.astype(np.float32),
        (at_points / count).astype(np.float32),
        (nearby / count).astype(np.float32),
        pooled.matched(mean, count),
    )


def neighbourhood_probability(
    variable: Variable, members: Sequence[Floats] | Floats, threshold: float, *, radius: int
) -> Floats:
    """Compute the fraction of the members with an event within a radius of each point.

    Args:
        variable: The field, which says whether its events are above or below a threshold.
        members: Fields of the members, (y, x) each, in the field's units.
        threshold: Threshold of the event, in the field's units.
        radius: Radius of the neighbourhood, cells.

    Returns:
        Probabilities from 0 to 1, (y, x), float32.
    """
    events = _Events(variable, (threshold,), radius)
    for field in members:
        events.add(field)
    _, near = events.counts()
    return np.asarray(near[0] / len(members), np.float32)


def any_time(
    variable: Variable, members: Iterable[Iterable[Floats]], thresholds: Sequence[float], leads: int, *, radius: int
) -> tuple[Floats, Floats]:
    """Compute the fraction of the members that have an event at any lead up to each lead.

    Args:
        variable: The field.
        members: Fields of each member, (y, x), lead by lead.
        thresholds: Thresholds of the events.
        leads: Number of leads.
        radius: Radius of the neighbourhood, cells.

    Returns:
        Fractions at each point, and of members with the event anywhere in the neighbourhood, (lead, threshold, y, x).
    """
    most = np.minimum if variable.events_below else np.maximum
    events = [_Events(variable, thresholds, radius) for _ in range(leads)]
    count = 0
    for fields in members:
        count += 1
        for until, extreme in zip(events, accumulate(fields, most), strict=True):
            until.add(extreme)
    counts = [until.counts() for until in events]
    at_points, nearby = (np.stack([one[which] for one in counts]) / count for which in (0, 1))
    return at_points.astype(np.float32), nearby.astype(np.float32)


def match_mean(variable: Variable, members: Sequence[Floats] | Floats) -> Floats:
    """Compute the probability-matched mean, (y, x), of members (member, y, x), as `summarise` does."""
    pooled = _Pool(variable)
    for field in members:
        pooled.add(field)
    return pooled.matched(np.mean(np.asarray(members), axis=0, dtype=np.float64), len(members))


def quantiles(
    read: Callable[[slice], Sequence[Floats]], levels: Sequence[float], shape: tuple[int, int], members: int
) -> Floats:
    """Compute quantiles of the members at each point, linear between order statistics (numpy's and R's default).

    Args:
        read: Reads the given rows of all members, each (row, x).
        levels: Probability levels, 0 to 1.
        shape: Shape (y, x) of the fields.
        members: Number of members.

    Returns:
        Quantiles, (level, y, x).
    """
    ny, nx = shape
    rows = max(1, BAND // (members * nx))
    bands = np.empty((len(levels), ny, nx), np.float32)
    for start in range(0, ny, rows):
        band = slice(start, min(ny, start + rows))
        bands[:, band] = np.quantile(np.stack(read(band)), levels, axis=0)
    return bands


def neighbourhood_cells(kilometres: float) -> int:
    """Return the radius of a neighbourhood, whole cells."""
    return int(1000 * kilometres / SPACING)


class _Events:
    """Counts of the members with an event, at each point and near it; members are packed by WORD into one word."""

    def __init__(self, variable: Variable, thresholds: Sequence[float], radius: float) -> None:
        self._variable, self._thresholds, self._radius = variable, thresholds, radius
        self._packed: list[NDArray[np.uint32]] = []
        self._waiting = 0
        self._at_points = self._nearby = np.zeros((), np.int32)

    def add(self, field: Floats) -> None:
        """Count the events in one member's field (y, x)."""
        if not self._packed:
            self._packed = [np.zeros(field.shape, np.uint32) for _ in self._thresholds]
        bit = np.uint32(1 << self._waiting)
        for words, threshold in zip(self._packed, self._thresholds, strict=True):
            words |= bit * self._variable.happens(field, threshold)
        self._waiting += 1
        if self._waiting == WORD:
            self._count()

    def counts(self) -> tuple[Counts, Counts]:
        """Return the number of members with the event at a point and near it, (threshold, y, x) each."""
        if self._waiting:
            self._count()
        return self._at_points, self._nearby

    def _count(self) -> None:
        packed = np.stack(self._packed)[None]
        self._at_points = self._at_points + count_members(packed)
        self._nearby = self._nearby + np.stack([count_near(words, self._radius) for words in np.moveaxis(packed, 1, 0)])
        self._packed, self._waiting = [], 0


class _Pool:
    """Exact histogram, on the lattice of the field, of the values of all members."""

    def __init__(self, variable: Variable) -> None:
        self._scale = variable.scale
        self._lowest, highest = (round(bound * variable.scale) for bound in variable.bounds)
        self._counts = np.zeros(highest - self._lowest + 1, np.int64)
        self._variable = variable

    def add(self, field: Floats) -> None:
        """Count the values of one member's field (y, x)."""
        bins = np.rint(on_lattice(self._variable, field) * self._scale).astype(np.int64) - self._lowest
        self._counts += np.bincount(bins.ravel().clip(0, self._counts.size - 1), minlength=self._counts.size)

    def matched(self, mean: NDArray[np.float64], members: int) -> Floats:
        """Return the probability-matched mean (y, x) of the members added so far."""
        order = np.argsort(mean, axis=None, kind="stable")
        middles = np.arange(mean.size) * members + members // 2
        values = (np.searchsorted(self._counts.cumsum(), middles, side="right") + self._lowest) / self._scale
        matched = np.empty(mean.size, np.float32)
        matched[order] = values
        return matched.reshape(mean.shape)
