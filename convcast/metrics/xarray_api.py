"""Scores of ensembles as plain functions on xarray objects, in xskillscore's order of arguments.

Observations are (...), forecasts (member_dim, ...) over the same dimensions. `dim` names the dimensions that are
averaged over, all of them by default and none for `()`. Every score averages quantities of single points, and computes
its formula from the averages. A point at which the observation or any member is missing is
left out. Values of any real type are scored as floating-point numbers. Dask arrays are worked on chunk by chunk, with
all members of a point in one chunk.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from convcast.errors import SettingsError
from convcast.metrics import formulas
from convcast.metrics.kernels import (
    Estimator,
    as_floats,
    crps_points,
    exceedances,
    float_type,
    happens,
    present_points,
    rank_counts,
    score_points,
)
from convcast.metrics.scores.energy import energy
from convcast.metrics.scores.fractions import fraction_sums
from convcast.metrics.spatial import Scales

Dimensions = str | Iterable[Hashable] | None
Values = NDArray[np.floating]


def crps_ensemble(
    observations: xr.DataArray,
    forecasts: xr.DataArray,
    member_dim: str = "number",
    dim: Dimensions = None,
    estimator: Estimator = "fair",
) -> xr.DataArray:
    """Continuous ranked probability score, in the units of the field; 0 is perfect.

    The score is mean|x_i - y| - sum_{i<j}|x_i - x_j| / (M (M - 1)) for `fair` (Ferro 2014), which does not favour
    larger ensembles and may be negative at a point. `ensemble` (Gneiting and Raftery 2007) has M² in place of
    M (M - 1): the score of the members' empirical distribution, as in properscoring and xskillscore.

    Args:
        observations: Observations, of any dimensions.
        forecasts: Members, with the dimensions of the observations and `member_dim`.
        member_dim: Name of the dimension of members.
        dim: Dimensions to average over; all by default, none with [].
        estimator: `fair` or `ensemble`.

    Returns:
        The score, over the remaining dimensions.

    Raises:
        SettingsError: There is no member, one member with `fair`, or no such estimator.
    """
    if estimator not in ("fair", "ensemble"):
        raise SettingsError(f"there is no CRPS estimator {estimator!r}", advice="use fair or ensemble")
    needed = 2 if estimator == "fair" else 1
    observations, forecasts, _ = _converted(observations, forecasts, member_dim, needed, f"the {estimator} CRPS")
    score = _at_points(lambda f, o: crps_points(f, o, estimator), observations, forecasts, member_dim)
    return _describe(_mean(score, dim), f"{estimator} CRPS", observations)


def spread_error_ratio(
    observations: xr.DataArray, forecasts: xr.DataArray, member_dim: str = "number", dim: Dimensions = None
) -> xr.DataArray:
    """Spread over error of the ensemble mean, with the (M + 1) / M factor (Fortin et al. 2014); 1 is reliable.

    Below 1 the ensemble is over-confident.

    Args:
        observations: Observations, of any dimensions.
        forecasts: Members, with the dimensions of the observations and `member_dim`.
        member_dim: Name of the dimension of members.
        dim: Dimensions to average over; all by default, none with [].

    Returns:
        The ratio, over the remaining dimensions.

    Raises:
        SettingsError: There are fewer than two members.
    """
    observations, forecasts, members = _converted(observations, forecasts, member_dim, 2, "spread")
    variance, error = _moments(observations, forecasts, member_dim)
    squared: xr.DataArray = error * error
    ratio = _apply(lambda v, e: formulas.spread_error_ratio(v, e, members), [_mean(variance, dim), _mean(squared, dim)])
    return _describe(ratio, "spread/error ratio")


def spread_error_correlation(
    observations: xr.DataArray, forecasts: xr.DataArray, member_dim: str = "number", dim: Dimensions = None
) -> xr.DataArray:
    """Correlation of the ensemble's spread with the absolute error of its mean.

    A perfect ensemble stays well below 1, and near 0 if uncertainty is the same everywhere (Whitaker and Loughe 1998);
    compare with the exact ensemble if there is one.

    Args:
        observations: Observations, of any dimensions.
        forecasts: Members, with the dimensions of the observations and `member_dim`.
        member_dim: Name of the dimension of members.
        dim: Dimensions over which to correlate; all by default.

    Returns:
        The correlation, over the remaining dimensions.

    Raises:
        SettingsError: There are fewer than two members.
    """
    observations, forecasts, _ = _converted(observations, forecasts, member_dim, 2, "spread")
    variance, error = _moments(observations, forecasts, member_dim)
    spread, distance = np.sqrt(variance), np.abs(error)
    means = [_mean(m, dim) for m in (spread, distance, variance, error * error, spread * distance)]
    result = _apply(lambda *m: formulas.correlation(np.ones_like(m[0]), *m), means)
    return _describe(result, "spread-error correlation")


def brier_score(
    observations: xr.DataArray,
    forecasts: xr.DataArray,
    threshold: float,
    member_dim: str = "number",
    dim: Dimensions = None,
    fair: bool = True,
    events_below: bool = False,
) -> xr.DataArray:
    """Brier score: mean squared error of the share of members with the event; 0 is perfect.

    Args:
        observations: Observations, of any dimensions.
        forecasts: Members, with the dimensions of the observations and `member_dim`.
        threshold: Threshold of the event, in the units of the field.
        member_dim: Name of the dimension of members.
        dim: Dimensions to average over; all by default, none with [].
        fair: Remove what the finite number of members adds (Ferro 2014), so that ensembles of different sizes may be
            compared.
        events_below: Whether the event is a value at or below the threshold, instead of at or above it.

    Returns:
        The score, over the remaining dimensions.

    Raises:
        SettingsError: There is no member, or one member with `fair`.
    """
    needed, what = (2, "the fair Brier score") if fair else (1, "a probability")
    observations, forecasts, members = _converted(observations, forecasts, member_dim, needed, what)

    def score(f: Values, o: Values) -> Values:
        k, event = _events(f, o, threshold, events_below)
        loss = (k / members - event) ** 2
        if fair:
            loss -= k * (members - k) / (members**2 * (members - 1))
        return np.where(present_points(f, o), loss, np.nan)

    return _describe(_mean(_at_points(score, observations, forecasts, member_dim), dim), "Brier score")


def rank_histogram(
    observations: xr.DataArray, forecasts: xr.DataArray, member_dim: str = "number", dim: Dimensions = None
) -> xr.DataArray:
    """Rank histogram of the observation among the members; flat if members and truth are alike.

    Ties are shared in equal parts by the ranks that they could have, which is the expectation of the random choice of
    Hamill (2001).

    Args:
        observations: Observations, of any dimensions.
        forecasts: Members, with the dimensions of the observations and `member_dim`.
        member_dim: Name of the dimension of members.
        dim: Dimensions to count over, at least one; all by default.

    Returns:
        Numbers of points, over the remaining dimensions and `rank`, from 0 to the number of members.

    Raises:
        SettingsError: There is no member, or no dimension to count over.
    """
    observations, forecasts, members = _converted(observations, forecasts, member_dim, 1, "a rank")

    def count(f: Values, o: Values) -> Values:
        scores = score_points(f, o)
        return rank_counts(scores.below, scores.equal, members)

    return _tabulate(count, observations, forecasts, member_dim, dim, {"rank": members + 1}, float)


def reliability(
    observations: xr.DataArray,
    forecasts: xr.DataArray,
    threshold: float,
    member_dim: str = "number",
    dim: Dimensions = None,
    events_below: bool = False,
) -> xr.DataArray:
    """Counts of points by number of members with the event and by outcome: the table of a reliability diagram.

    Row k has forecast probability k / M; no probability is rounded into a bin.

    Args:
        observations: Observations, of any dimensions.
        forecasts: Members, with the dimensions of the observations and `member_dim`.
        threshold: Threshold of the event, in the units of the field.
        member_dim: Name of the dimension of members.
        dim: Dimensions to count over, at least one; all by default.
        events_below: Whether the event is a value at or below the threshold, instead of at or above it.

    Returns:
        Numbers of points, over the remaining dimensions, `forecast_count` (0 to M) and `observed` (0 or 1).

    Raises:
        SettingsError: There is no member, or no dimension to count over.
    """
    observations, forecasts, members = _converted(observations, forecasts, member_dim, 1, "a probability")

    def count(f: Values, o: Values) -> NDArray[np.int64]:
        k, event = _events(f, o, threshold, events_below)
        return np.bincount((2 * k + event)[present_points(f, o)], minlength=2 * (members + 1)).reshape(-1, 2)

    shape = {"forecast_count": members + 1, "observed": 2}
    return _tabulate(count, observations, forecasts, member_dim, dim, shape, np.int64)


def roc_area(
    observations: xr.DataArray,
    forecasts: xr.DataArray,
    threshold: float,
    member_dim: str = "number",
    dim: Dimensions = None,
    events_below: bool = False,
) -> xr.DataArray:
    """Area under the ROC curve of the share of members with the event (Mason and Graham 2002); 0.5 is no skill.

    It is computed from all M + 1 probabilities, and does not see a bias.

    Args:
        observations: Observations, of any dimensions.
        forecasts: Members, with the dimensions of the observations and `member_dim`.
        threshold: Threshold of the event, in the units of the field.
        member_dim: Name of the dimension of members.
        dim: Dimensions to count over, at least one; all by default.
        events_below: Whether the event is a value at or below the threshold, instead of at or above it.

    Returns:
        The area, over the remaining dimensions; NaN where the event happened always or never.

    Raises:
        SettingsError: There is no member, or no dimension to count over.
    """
    table = reliability(observations, forecasts, threshold, member_dim, dim, events_below)
    return _describe(
        _apply(formulas.roc_area, [table], core=[["forecast_count", "observed"]]), "area under the ROC curve"
    )


def fractions_skill_score(
    observations: xr.DataArray,
    forecasts: xr.DataArray,
    threshold: float,
    width: int,
    member_dim: str = "number",
    spatial_dims: tuple[str, str] = ("y", "x"),
    periodic: bool = False,
) -> xr.DataArray:
    """Fractions skill score (Roberts and Lean 2008) of the share of each square with the event; 1 is perfect.

    The forecast share is the mean over members (NEP: Schwartz and Sobash 2017), which is smoother for larger ensembles.
    Squares that hold a missing point are left out.

    Args:
        observations: Observations, of any dimensions.
        forecasts: Members, with the dimensions of the observations and `member_dim`.
        threshold: Threshold of the event, in the units of the field: a value at or above it.
        width: Side of the squares, cells, an odd number.
        member_dim: Name of the dimension of members.
        spatial_dims: Names of the dimensions along the sides of the squares.
        periodic: Whether the domain is a torus; otherwise squares that leave it are left out.

    Returns:
        The score over all points of all other dimensions, without dimensions.

    Raises:
        SettingsError: There is no member, or `width` is even or larger than the domain.
    """
    observations, forecasts, _ = _converted(observations, forecasts, member_dim, 1, "a probability")
    sizes = [observations.sizes[name] for name in spatial_dims]
    if width % 2 == 0 or not 1 <= width <= min(sizes):
        raise SettingsError(f"a square of {width} cells has no centre in a domain of {sizes[0]} x {sizes[1]}")
    scales = Scales((width,), periodic)

    def sum_squares(o: Values, f: Values) -> Values:
        return np.asarray(fraction_sums(f, o, present_points(f, o), (threshold,), scales)[0, 0])

    core = [spatial_dims, [member_dim, *spatial_dims]]
    sums = _apply(sum_squares, [observations, forecasts], core=core, output={"sum": 4}, vectorize=True)
    total = sums.sum([name for name in sums.dims if name != "sum"])
    return _describe(_apply(formulas.fractions_skill_score, [total], core=[["sum"]]), "fractions skill score")


def energy_score(
    observations: xr.DataArray,
    forecasts: xr.DataArray,
    member_dim: str = "number",
    spatial_dims: tuple[str, str] = ("y", "x"),
    estimator: Estimator = "fair",
) -> xr.DataArray:
    """Energy score (Gneiting et al. 2008) of whole fields over the root of their size, in the field's units; 0 is best.

    The score is mean|X_i - y| - sum_{i<j}|X_i - X_j| / (M (M - 1)) for `fair`, with M² in place of M (M - 1) for
    `ensemble`. For one member `ensemble` is the RMSE.

    Args:
        observations: Observations, of any dimensions.
        forecasts: Members, with the dimensions of the observations and `member_dim`.
        member_dim: Name of the dimension of members.
        spatial_dims: Names of the dimensions of a field.
        estimator: `fair` or `ensemble`.

    Returns:
        The score of each field, over the remaining dimensions; NaN for a field without a point.

    Raises:
        SettingsError: There is no member, one member with `fair`, or no such estimator.
    """
    if estimator not in ("fair", "ensemble"):
        raise SettingsError(f"there is no estimator {estimator!r} of the energy score", advice="use fair or ensemble")
    needed = 2 if estimator == "fair" else 1
    what = f"the {estimator} energy score"
    observations, forecasts, _ = _converted(observations, forecasts, member_dim, needed, what)

    def score(o: Values, f: Values) -> float:
        present = present_points(f, o)
        return energy(f, o, present)[estimator == "ensemble"] if present.any() else np.nan

    core = [spatial_dims, [member_dim, *spatial_dims]]
    result = _apply(score, [observations, forecasts], core=core, vectorize=True)
    return _describe(result, f"{estimator} energy score", observations)


def _converted(
    observations: xr.DataArray, forecasts: xr.DataArray, member_dim: str, needed: int, what: str
) -> tuple[xr.DataArray, xr.DataArray, int]:
    """Convert both to floating-point numbers, and count the members; raises SettingsError for unusable arrays."""
    for name, given in (("observations", observations), ("forecasts", forecasts)):
        if not isinstance(given, xr.DataArray):
            raise SettingsError(
                f"the {name} are {type(given).__name__}, not xarray.DataArray", advice="wrap them in one"
            )
    if member_dim not in forecasts.dims:
        raise SettingsError(f"the forecasts have no dimension {member_dim!r}", advice="name it with member_dim")
    members = forecasts.sizes[member_dim]
    if members < needed:
        raise SettingsError(f"{what} needs {needed} members or more, the ensemble has {members}")
    return _as_floats(observations), _as_floats(forecasts), members


def _as_floats(values: xr.DataArray) -> xr.DataArray:
    return _apply(as_floats, [values], dtype=float_type(values.dtype), keep_attrs=True)


def _events(f: Values, o: Values, threshold: float, events_below: bool) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """Return the number of members with the event, (point,), and whether it was observed, (point,)."""
    return exceedances(f, threshold, events_below=events_below), happens(o, threshold, events_below=events_below)


def _apply(
    function: Callable[..., Any],
    arrays: Sequence[xr.DataArray],
    *,
    core: Sequence[Sequence[Hashable]] | None = None,
    output: Mapping[str, int] | None = None,
    dtype: Any = float,
    **options: Any,
) -> xr.DataArray:
    """Apply a function to arrays, chunk by chunk where they are dask arrays.

    Args:
        function: Function of numpy arrays, whose last dimensions are the core dimensions.
        arrays: The function's arguments.
        core: Core dimensions of each array; none by default.
        output: Sizes of the dimensions that the function adds, by name.
        dtype: Type of the results.
        options: Further options of xarray's apply_ufunc.
    """
    result: xr.DataArray = xr.apply_ufunc(
        function,
        *arrays,
        input_core_dims=core or [[]] * len(arrays),
        output_core_dims=[list(output or ())],
        dask="parallelized",
        output_dtypes=[dtype],
        dask_gufunc_kwargs={"output_sizes": output, "allow_rechunk": True},
        **options,
    )
    return result


def _at_points(
    function: Callable[..., Any], observations: xr.DataArray, forecasts: xr.DataArray, member_dim: str
) -> xr.DataArray:
    """Apply a function of (member, point) and (point,) arrays at every point."""

    def work(o: Values, f: Values) -> Values:
        o, _ = np.broadcast_arrays(o, f[..., 0])
        members_first = np.moveaxis(f, -1, 0).reshape(f.shape[-1], -1)
        return np.asarray(function(members_first, o.reshape(-1)), float).reshape(o.shape)

    return _apply(work, [observations, forecasts], core=[[], [member_dim]])


def _moments(observations: xr.DataArray, forecasts: xr.DataArray, member_dim: str) -> tuple[xr.DataArray, xr.DataArray]:
    """Return the unbiased variance of the members, and the error of their mean; NaN where missing."""
    variance = _at_points(lambda f, o: score_points(f, o).variance, observations, forecasts, member_dim)
    return variance, _at_points(lambda f, o: score_points(f, o).error, observations, forecasts, member_dim)


def _names(dim: Dimensions) -> list[Hashable] | None:
    return None if dim is None else [dim] if isinstance(dim, str) else list(dim)


def _mean(score: Any, dim: Dimensions) -> xr.DataArray:
    names = _names(dim)
    mean: xr.DataArray = score if names == [] else score.mean(names, skipna=True)
    return mean


def _tabulate(
    count: Callable[..., Any],
    observations: xr.DataArray,
    forecasts: xr.DataArray,
    member_dim: str,
    dim: Dimensions,
    shape: dict[str, int],
    dtype: Any,
) -> xr.DataArray:
    """Tabulate for each combination of the dimensions that are not in `dim`."""
    names = list(observations.dims) if dim is None else _names(dim)
    if not names:
        raise SettingsError("a histogram counts over at least one dimension", advice="name it with dim")

    def work(o: Values, f: Values) -> NDArray[Any]:
        return np.asarray(count(f.reshape(f.shape[0], -1), o.reshape(-1)), dtype)

    core = [names, [member_dim, *names]]
    return _apply(work, [observations, forecasts], core=core, output=shape, dtype=dtype, vectorize=True)


def _describe(score: xr.DataArray, long_name: str, observations: xr.DataArray | None = None) -> xr.DataArray:
    score.attrs = {"long_name": long_name}
    if observations is not None and "units" in observations.attrs:
        score.attrs["units"] = observations.attrs["units"]
    return score
