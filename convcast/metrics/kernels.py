"""Compiled kernels of the scores at points: one pass over an ensemble.

A block of points is copied, examined and sorted in the processor's cache, by a network of comparisons that is the same
for every point, so that one instruction compares many points; ties and the order of the data change nothing. The
memory beyond arguments and results is one block for each thread.

Missing values: a point at which the observation or any member is not finite is missing. It has NaN scores and
counts of -1, and enters no sum; an ensemble is not silently made smaller.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from functools import cached_property, lru_cache
from typing import Any, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from convcast.errors import SettingsError
from convcast.metrics.compiled import compiled

Item = TypeVar("Item")
Result = TypeVar("Result")
Estimator = Literal["fair", "ensemble"]
Floats = NDArray[np.float64]
Counts = NDArray[np.int32]

BLOCK = 128
"""Number of points sorted together; fifty members of them fit the first-level cache."""
PACKED = 1024
"""Number of points whose exceedances are packed together; their words stay in the cache from member to member."""
WORD = 32
"""Number of members whose exceedances are packed into one word."""


@dataclass(frozen=True)
class PointScores:
    """Results of one pass, (point,) each. Missing points are NaN, or -1 in counts."""

    members: int
    absolute: Floats
    """Mean absolute difference between members and observation."""
    pairs: Floats
    """Sum of |x_i - x_j| over the pairs i < j."""
    error: Floats
    """Ensemble mean minus observation."""
    variance: Floats
    """Unbiased variance of the members (divisor M - 1); 0 for one member."""
    below: Counts
    """Number of members below the observation."""
    equal: Counts
    """Number of members equal to the observation."""

    @property
    def present(self) -> NDArray[np.bool_]:
        """Points where neither the observation nor a member is missing, (point,)."""
        return self.below >= 0

    @cached_property
    def spread(self) -> Floats:
        """Standard deviation of the members, (point,)."""
        return np.asarray(np.sqrt(self.variance))

    def without_missing(self) -> PointScores:
        """Return the results at the present points alone."""
        if self.present.all():
            return self
        names = [field.name for field in fields(self) if field.name != "members"]
        return PointScores(self.members, **{name: getattr(self, name)[self.present] for name in names})

    def crps(self, estimator: Estimator) -> Floats:
        """CRPS at each point, in the units of the field.

        `ensemble` scores the empirical distribution of the members (Gneiting and Raftery 2007, eq. 21). `fair` is an
        unbiased estimate of the score of the distribution that they were drawn from (Ferro 2014); use it to compare
        ensembles of different sizes. For one member both are the absolute error.
        """
        if self.members == 1:
            return self.absolute
        return self.absolute - self.pairs / (self.members * (self.members - (estimator == "fair")))


def crps_points(forecasts: NDArray[Any], observations: NDArray[Any], estimator: Estimator) -> Floats:
    """Compute the CRPS, (point,), of (member, point) forecasts against (point,) observations, on `threads()` threads.

    Args:
        forecasts: Members, (member, point).
        observations: Observations, (point,), in the same units.
        estimator: `fair` or `ensemble`; one member always has its absolute error.

    Returns:
        The CRPS in the units of the field, float64; NaN at missing points.

    Raises:
        SettingsError: The ensemble has no member.
    """
    forecasts, observations = _alike(forecasts, observations)
    members, points = forecasts.shape
    divisor = float(members * (members - (estimator == "fair" and members > 1)))
    crps = np.empty(points)

    def work(part: slice) -> None:
        _crps(forecasts[:, part], observations[part], sorting_network(members), divisor, crps[part])

    in_parallel(work, _parts(points))
    return crps


def float_type(dtype: np.dtype[Any]) -> type[np.float32 | np.float64]:
    """Return the floating-point type in which values of a type are scored: float32 if it holds them exactly, else
    float64.

    Raises:
        SettingsError: Values of this type are not real numbers.
    """
    if dtype.kind not in "buif":
        raise SettingsError(f"values of type {dtype} cannot be scored", advice="convert them to floating-point numbers")
    return np.float32 if dtype.kind == "f" and dtype.itemsize <= 4 else np.float64


def as_floats(values: NDArray[Any]) -> NDArray[np.floating]:
    """Convert values to their `float_type` in native byte order, masked values to NaN.

    Every score converts its arguments first: integers would wrap around, and numba misreads foreign byte orders.
    """
    kind = float_type(values.dtype)
    if isinstance(values, np.ma.MaskedArray):
        return np.asarray(np.ma.filled(values.astype(kind), np.nan), kind)
    return np.asarray(values, kind)


def _read_only(values: NDArray[Any]) -> NDArray[np.floating]:
    """Return a view of `as_floats` that cannot be written to.

    numba compiles a function once more for arguments that can, which takes most of a second.
    """
    view = as_floats(values).view()
    view.flags.writeable = False
    return view


def _alike(forecasts: NDArray[Any], observations: NDArray[Any]) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
    """Return forecasts (member, point) and contiguous observations (point,) in the wider of their floating-point types.

    Both are read-only. Raises SettingsError where there is no member.
    """
    if len(forecasts) == 0:
        raise SettingsError("an ensemble without members cannot be scored")
    members, truth = as_floats(forecasts), as_floats(observations)
    kind = np.result_type(members, truth)
    return _read_only(np.asarray(members, kind)), _read_only(np.ascontiguousarray(truth, kind))


def threads() -> int:
    """Return the number of threads that this process may use: OMP_NUM_THREADS, which dask sets, else one a core."""
    setting = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()  # OpenMP accepts a list
    return (int(setting) if setting.isdecimal() and len(setting) < 5 else 0) or os.cpu_count() or 1


def in_parallel(function: Callable[[Item], Result], items: Iterable[Item]) -> list[Result]:
    """Return `function(item)` of each item, in order, computed on up to `threads()` threads."""
    todo = list(items)
    if (count := min(threads(), len(todo))) <= 1:
        return [function(item) for item in todo]
    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(function, todo))


def _parts(points: int) -> list[slice]:
    """Divide points among `threads()` threads, in whole blocks."""
    share = max(BLOCK, -(-points // (threads() * BLOCK)) * BLOCK)
    return [slice(start, start + share) for start in range(0, points, share)]


@lru_cache(maxsize=128)
def sorting_network(n: int) -> NDArray[np.int32]:
    """Return the comparisons of Batcher's odd-even merge sort (1968) of n values: positions, (comparison, 2)."""
    comparisons: list[tuple[int, int]] = []
    p = 1
    while p < n:
        k = p
        while k >= 1:
            for j in range(k % p, n - k, 2 * k):
                for i in range(j, j + min(k, n - j - k)):
                    if i // (2 * p) == (i + k) // (2 * p):
                        comparisons.append((i, i + k))
            k //= 2
        p *= 2
    return np.array(comparisons, np.int32).reshape(-1, 2)


def score_points(forecasts: NDArray[Any], observations: NDArray[Any]) -> PointScores:
    """Score (member, point) forecasts against (point,) observations, compared in the wider of their types.

    Raises:
        SettingsError: The ensemble has no member.
    """
    forecasts, observations = _alike(forecasts, observations)
    members, points = forecasts.shape
    absolute, pairs, error, variance = np.empty((4, points))
    below, equal = np.empty((2, points), np.int32)
    _pass(forecasts, observations, sorting_network(members), absolute, pairs, error, variance, below, equal)
    return PointScores(members, absolute, pairs, error, variance, below, equal)


def present_points(forecasts: NDArray[Any], observations: NDArray[Any]) -> NDArray[np.bool_]:
    """Return the points (...) where neither the observation (...) nor a member (member, ...) is missing."""
    present = np.ascontiguousarray(np.isfinite(as_floats(observations)))
    members, points = _read_only(forecasts).reshape(len(forecasts), present.size), present.reshape(-1)
    # A sum is finite only if all its values are, and takes a fifth of the time of testing each value.
    with np.errstate(over="ignore", invalid="ignore"):
        sums = members @ np.ones(points.size, members.dtype)
    if np.isfinite(sums).all():
        return present
    in_parallel(lambda part: _keep_finite(members[:, part], points[part]), _parts(present.size))
    return present


def exceedances(forecasts: NDArray[Any], threshold: float, *, events_below: bool = False) -> Counts:
    """Count the members at or above a threshold (at or below it with `events_below`): (member, ...) to (...).

    The threshold is rounded as in `happens`. A NaN is never an event; leave missing points out by
    `PointScores.present`.

    Args:
        forecasts: Members, (member, ...).
        threshold: The threshold, in the units of the members.
        events_below: Whether the event is at or below the threshold.
    """
    counts: Counts = count_members(pack_exceedances(forecasts, (threshold,), events_below=events_below))[0]
    return counts


def pack_exceedances(
    forecasts: NDArray[Any], thresholds: Sequence[float], *, events_below: bool = False
) -> NDArray[np.uint32]:
    """Mark the members at or above each threshold (at or below it with `events_below`), one bit each.

    Args:
        forecasts: Members, (member, ...).
        thresholds: Thresholds, rounded as in `happens`.
        events_below: Whether the events are at or below the thresholds.

    Returns:
        Words of WORD members each, (word, threshold, ...). A NaN is never an event.
    """
    members = _read_only(forecasts)
    shape, points = members.shape[1:], math.prod(members.shape[1:])
    packed = np.zeros((-(-len(members) // WORD), len(thresholds), points), np.uint32)
    limits = np.array(thresholds, members.dtype)
    _pack(members.reshape(len(members), points), limits, events_below, packed)
    return packed.reshape(*packed.shape[:2], *shape)


def count_members(packed: NDArray[np.uint32]) -> Counts:
    """Count the members with an event, (word, ...) to (...)."""
    return np.asarray(np.bitwise_count(packed).sum(0, dtype=np.int32))


def happens(values: NDArray[Any], threshold: float, *, events_below: bool = False) -> NDArray[np.bool_]:
    """Compare values of any shape with a threshold: at or above it, or at or below it with `events_below`.

    The threshold is rounded to the floating-point type of the values: 273.15 stored as float32 reaches 273.15.
    """
    floats = as_floats(values)
    limit = floats.dtype.type(threshold)
    return np.asarray(floats <= limit if events_below else floats >= limit)


def sums_by_class(classes: NDArray[np.intp], quantities: Sequence[Floats], count: int) -> Floats:
    """Sum quantities, (point,) each, over the points of each of `count` classes (point,): (quantity, class).

    Each sum adds its points in order, as `numpy.bincount` does for one quantity in three times the time.

    Raises:
        ValueError: A class is not among 0 to `count` - 1.
    """
    if classes.size and not 0 <= classes.min() <= classes.max() < count:
        raise ValueError(f"classes from {classes.min()} to {classes.max()} are not {count} classes")
    sums = np.zeros((count, len(quantities)))
    _add_by_class(classes, tuple(quantities), sums)
    return sums.T


def rank_counts(below: Counts, equal: Counts, members: int) -> Floats:
    """Return the rank histogram of the observation among the members, (members + 1,); it sums to the number of present
    points.

    A tie with k members is shared in equal parts by the k + 1 possible ranks. Hamill (2001) breaks ties at random; this
    is the expectation of that, and reproducible.

    Args:
        below: Number of members below the observation, (point,), -1 at missing points.
        equal: Number of members equal to the observation, (point,).
        members: Number of members.
    """
    present = below >= 0
    below, equal = below[present], equal[present]
    share = 1.0 / (equal + 1)
    edges = np.bincount(below, share, members + 2) - np.bincount(below + equal + 1, share, members + 2)
    counts = np.cumsum(edges)[:-1]
    return np.maximum(counts, 0.0)


@compiled
def _pass(forecasts, observations, network, absolute, pairs, error, variance, below, equal):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    members, points = forecasts.shape
    block = np.zeros((members, BLOCK), forecasts.dtype)
    truth = np.zeros(BLOCK, forecasts.dtype)
    for start in range(0, points, BLOCK):
        width = min(BLOCK, points - start)
        truth[:width] = observations[start : start + width]
        far, shift, spread, pair = np.zeros(BLOCK), np.zeros(BLOCK), np.zeros(BLOCK), np.zeros(BLOCK)
        under, tied = np.zeros(BLOCK, np.int32), np.zeros(BLOCK, np.int32)
        for m in range(members):
            row = block[m]
            for i in range(width):
                row[i] = forecasts[m, start + i]
            for i in range(BLOCK):  # counts and errors differ in width, and one loop of both would not vectorise
                under[i] += row[i] < truth[i]
                tied[i] += row[i] == truth[i]
            for i in range(BLOCK):
                departure = np.float64(row[i]) - np.float64(truth[i])
                far[i] += abs(departure)
                shift[i] += departure
        for i in range(BLOCK):
            shift[i] /= members
        for m in range(members):
            row = block[m]
            for i in range(BLOCK):
                departure = np.float64(row[i]) - np.float64(truth[i]) - shift[i]
                spread[i] += departure * departure
        _sort_and_sum(block, network, pair)
        for i in range(width):
            at = start + i
            if np.isfinite(shift[i]):
                absolute[at] = far[i] / members
                pairs[at] = max(pair[i], 0.0)
                error[at] = shift[i]
                variance[at] = spread[i] / (members - 1) if members > 1 else 0.0
                below[at], equal[at] = under[i], tied[i]
            else:
                absolute[at] = pairs[at] = error[at] = variance[at] = np.nan
                below[at], equal[at] = -1, -1


@compiled
def _crps(forecasts, observations, network, divisor, crps):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    members, points = forecasts.shape
    block = np.zeros((members, BLOCK), forecasts.dtype)
    truth, pair = np.zeros(BLOCK, forecasts.dtype), np.zeros(BLOCK)
    for start in range(0, points, BLOCK):
        width = min(BLOCK, points - start)
        truth[:width] = observations[start : start + width]
        far = np.zeros(BLOCK)
        for m in range(members):
            row = block[m]
            for i in range(width):
                row[i] = forecasts[m, start + i]
            for i in range(BLOCK):
                far[i] += abs(np.float64(row[i]) - np.float64(truth[i]))
        _sort_and_sum(block, network, pair)
        for i in range(width):
            crps[start + i] = far[i] / members - max(pair[i], 0.0) / divisor if np.isfinite(far[i]) else np.nan


@compiled
def _sort_and_sum(block, network, pair):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    """Set `pair` (point,) to the sum of |x_i - x_j| over i < j of the columns of `block` (member, point)."""
    zero = block.dtype.type(0)
    for c in range(network.shape[0]):
        low, high = block[network[c, 0]], block[network[c, 1]]
        for i in range(BLOCK):
            # Without this fill LLVM compiles masked stores, which take four times as long on a processor without
            # AVX-512.
            a, b = low[i] + zero, high[i] + zero
            low[i] = a if a < b else b
            high[i] = b if a < b else a
    # In the sorted sum, x_(k) is the larger of k pairs and the smaller of M - 1 - k.
    pair[:] = 0
    for m in range(block.shape[0]):
        row = block[m]
        weight = np.float64(2 * m - block.shape[0] + 1)
        for i in range(BLOCK):
            pair[i] += weight * np.float64(row[i])


@compiled
def _add_by_class(classes, quantities, sums):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    for i in range(classes.size):
        row = sums[classes[i]]
        for k in range(len(quantities)):
            row[k] += quantities[k][i]


@compiled
def _keep_finite(forecasts, present):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    """Mark the points (point,) at which a member (member, point) is missing."""
    members, points = forecasts.shape
    for start in range(0, points, PACKED):
        stop = min(points, start + PACKED)
        for m in range(members):
            row, there = forecasts[m, start:stop], present[start:stop]
            for i in range(stop - start):
                there[i] &= np.isfinite(row[i])


@compiled
def _pack(forecasts, thresholds, events_below, packed):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    members, points = forecasts.shape
    for start in range(0, points, PACKED):
        stop = min(points, start + PACKED)
        for m in range(members):
            bit = np.uint32(1 << (m % WORD))
            for k in range(thresholds.size):
                limit, row, words = thresholds[k], forecasts[m, start:stop], packed[m // WORD, k, start:stop]
                if events_below:
                    for i in range(stop - start):
                        words[i] |= bit if row[i] <= limit else np.uint32(0)
                else:
                    for i in range(stop - start):
                        words[i] |= bit if row[i] >= limit else np.uint32(0)
