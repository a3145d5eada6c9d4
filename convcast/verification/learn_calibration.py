"""Learn the maps that calibrate an ensemble from past forecasts and their truth.

A few points of each forecast are drawn, by regime and from everywhere, so that a refit of several days reads little.
The maps of `convcast.forecasts.calibration` are fitted to the points of the last days.
"""

from __future__ import annotations

import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize, minimize_scalar

from convcast.dataset import Dataset
from convcast.errors import MissingInputError
from convcast.files import sweep, whole_file
from convcast.forecasts.calibrated import is_calibrated
from convcast.forecasts.calibration import EVERYWHERE, MAX_FACTOR, Calibration, MemberMap
from convcast.forecasts.open import model_identity
from convcast.metrics.kernels import crps_points
from convcast.metrics.regimes import REGIMES
from convcast.notation import HOUR, Hour, compact, from_compact
from convcast.settings import VerificationSettings
from convcast.variables import Variable
from convcast.verification.data.ensembles import Ensemble, open_ensembles
from convcast.verification.data.truth import Analyses, Truth, find_regimes
from convcast.verification.digest import digest
from convcast.verification.strong_echoes import Echoes, find_echoes, fit_certain_line, with_line
from convcast.workspace import Workspace

Floats = NDArray[np.floating]

MIN_POINTS = 500
"""Minimum number of points from which a map is fitted."""
MIN_DAYS = 3
"""Minimum number of days for the error of a parameter to be estimated over days; otherwise it is over forecasts."""
MAX_BLOCKS = 10
"""Maximum number of blocks of days that are left out in turn."""
MAX_POINTS = 6_000
"""Maximum number of points to which factor and shift are fitted; more would not change them."""
TAIL_EVENTS = 20
"""Number of points of the truth beyond the last quantile; the map does not distinguish rarer values."""
LEVELS = 80
"""Number of probabilities at which quantiles are compared."""
SMALLEST_FACTOR = 0.2


@dataclass(frozen=True)
class DrawnPoints:
    """Points of a field: the members there, (member, point), and the truth, (point)."""

    members: NDArray[np.float32]
    observed: NDArray[np.float32]


def draw_points(
    members: NDArray[np.float32],
    observed: NDArray[np.float32],
    regimes: NDArray[np.int8] | None,
    *,
    count: int,
    seed: tuple[int, ...],
) -> dict[str, DrawnPoints]:
    """Draw points of one forecast, from everywhere and from each regime.

    Args:
        members: Members of a field, (member, y, x).
        observed: Truth, (y, x), NaN where missing.
        regimes: Index into REGIMES at the initial time, (y, x); None if not known.
        count: Number of points of each regime.
        seed: Key of the random draw.
    """
    generator = np.random.default_rng(seed)
    present = (np.isfinite(observed) & np.isfinite(members).all(0)).ravel()
    places = {EVERYWHERE: present}
    if regimes is not None:
        places |= {name: present & (regimes.ravel() == number) for number, name in enumerate(REGIMES)}
    flat, truth = members.reshape(len(members), -1), observed.ravel()
    drawn = {}
    for name, inside in places.items():
        found = np.flatnonzero(inside)
        if found.size:
            chosen = generator.choice(found, min(count, found.size), replace=False)
            drawn[name] = DrawnPoints(flat[:, chosen].copy(), truth[chosen].copy())
    return drawn


def fit_maps(
    variable: Variable, drawn: Sequence[Mapping[str, DrawnPoints]], inits: Sequence[Hour]
) -> dict[str, MemberMap]:
    """Fit a field's maps at one lead, for each regime that has enough points, to points of several forecasts.

    Parameters are shrunk by their error over days (`shrunk`): those of the map of all points towards no correction, and
    those of a regime towards the map of all points. Strong echoes of all regimes
    share one line (`convcast.verification.strong_echoes`).

    Args:
        variable: The field.
        drawn: Points of each forecast by regime.
        inits: Initial time of each forecast.

    Returns:
        Maps by regime; empty where the points from everywhere are too few.
    """
    groups: dict[str, dict[int, list[DrawnPoints]]] = {}
    for one, block in zip(_of_one_size(drawn), _blocks(inits), strict=True):
        for name, points in one.items():
            groups.setdefault(name, {}).setdefault(block, []).append(points)
    maps: dict[str, MemberMap] = {}
    fit = partial(_fit_floored, floor=variable.floor.none) if variable.floor is not None else _fit_shift_and_factor
    for name in sorted(groups, key=lambda name: name != EVERYWHERE):
        blocks = _Blocks(list(groups[name].values()))
        if blocks.points < MIN_POINTS or (name != EVERYWHERE and EVERYWHERE not in maps):
            continue
        maps[name] = fit(blocks, maps.get(EVERYWHERE))
    if variable.floor is not None and maps:
        line = fit_certain_line(_echoes(maps, groups, variable.floor.none))
        maps = {name: with_line(one, line) for name, one in maps.items()}
    return maps


def _of_one_size(drawn: Sequence[Mapping[str, DrawnPoints]]) -> list[dict[str, DrawnPoints]]:
    """Return the points with the number of members that most forecasts have.

    Members are exchangeable, so a larger ensemble is cut; the points of a smaller one are left out.
    """
    sizes = Counter(len(points.members) for one in drawn for points in one.values())
    size = max(sizes, key=lambda number: (sizes[number], number), default=0)
    return [
        {
            name: replace(points, members=points.members[:size])
            for name, points in one.items()
            if len(points.members) >= size
        }
        for one in drawn
    ]


def _echoes(
    maps: Mapping[str, MemberMap], groups: Mapping[str, Mapping[int, Sequence[DrawnPoints]]], floor: float
) -> list[list[Echoes]]:
    """Find the echoes of each block, with the spread of their regime's map; without regimes, in the points of
    everywhere.

    As many points are drawn from each regime, so most strong echoes are among the points of the few cells near echoes.
    """
    by_block: dict[int, list[Echoes]] = {}
    for name in set(groups) - {EVERYWHERE} or {EVERYWHERE}:
        factor = MemberMap(maps.get(name, maps[EVERYWHERE]).factor)
        for block, drawn in groups[name].items():
            for points in drawn:
                members = points.members.astype(np.float64)
                widened = factor(members, members.mean(0), floor)
                by_block.setdefault(block, []).append(find_echoes(widened, points.observed))
    return [by_block[block] for block in sorted(by_block)]


class _Blocks:
    """Points of a field and regime in blocks of time, so that each block can be left out."""

    def __init__(self, blocks: Sequence[Sequence[DrawnPoints]]) -> None:
        self._members = [np.concatenate([one.members for one in b], axis=1).astype(np.float64) for b in blocks]
        self._observed = [np.concatenate([one.observed for one in b]).astype(np.float64) for b in blocks]
        self.points = sum(observed.size for observed in self._observed)

    def all(self) -> tuple[Floats, Floats]:
        """Return all members, (member, point), and the truth, (point)."""
        return np.concatenate(self._members, axis=1), np.concatenate(self._observed)

    def without_each(self) -> Iterator[tuple[Floats, Floats]]:
        """Yield the points without those of each block in turn; nothing where there is one block."""
        if len(self._members) > 1:
            for left_out in range(len(self._members)):
                kept = [n for n in range(len(self._members)) if n != left_out]
                yield (
                    np.concatenate([self._members[n] for n in kept], axis=1),
                    np.concatenate([self._observed[n] for n in kept]),
                )


def _blocks(inits: Sequence[Hour]) -> list[int]:
    """Return the block of each forecast: its day, several where there are many days, itself where there are few."""
    days = [init.astype("datetime64[D]").astype(int) for init in inits]
    known = sorted(set(days))
    if len(known) < MIN_DAYS:
        return list(range(len(inits)))
    size = -(-len(known) // MAX_BLOCKS)
    return [known.index(day) // size for day in days]


def shrunk(value: Floats, without: Sequence[Floats]) -> Floats:
    """Shrink a value towards 0 by its error, as the positive-part estimator of James and Stein does.

    Args:
        value: Estimates from all blocks.
        without: The estimates without each block, from which the jackknife takes their variance.

    Returns:
        The value times 1 - variance / value², or 0 where that is negative or there is no variance.
    """
    if len(without) < 2:
        return np.zeros_like(value)
    parts = np.asarray(without, float)
    variance = (len(parts) - 1) / len(parts) * ((parts - parts.mean(0)) ** 2).sum(0)
    square = np.square(value)
    certain = np.clip(1 - np.divide(variance, square, out=np.ones_like(square), where=square > 0), 0, 1)
    drawn_in: Floats = value * certain
    return drawn_in


def _fit_shift_and_factor(blocks: _Blocks, base: MemberMap | None) -> MemberMap:
    """Fit the certain part of shift and factor, beyond those of `base`."""
    begun = _parameters(base or MemberMap())
    found = _parameters(fit_shift_and_factor(*blocks.all())) - begun
    rest = [_parameters(fit_shift_and_factor(*points)) - begun for points in blocks.without_each()]
    shift, log_factor = begun + shrunk(found, rest)
    return MemberMap(min(float(np.exp(log_factor)), MAX_FACTOR), float(shift), points=blocks.points)


def _parameters(one: MemberMap) -> Floats:
    return np.array([one.shift, np.log(one.factor)])


def _fit_floored(blocks: _Blocks, base: MemberMap | None, floor: float) -> MemberMap:
    """Fit the certain part of the correction of quantiles, beyond `base`, and of the factor, without `base`."""
    if base is None:
        found = np.log(fit_factor(*blocks.all(), floor))
        rest = [np.log(fit_factor(*points, floor)) for points in blocks.without_each()]
        factor = float(np.exp(shrunk(np.array(found), [np.array(one) for one in rest])))
    else:
        factor = base.factor

    def quantiles(members: Floats, observed: Floats) -> MemberMap:
        widened = MemberMap(factor)(members, members.mean(0), floor)
        return MemberMap(factor, 0.0, *match_quantiles(widened, observed), points=blocks.points)

    whole = quantiles(*blocks.all())
    forecast = np.array(whole.forecast)
    begun = forecast if base is None else base.to_observed(forecast)
    rest = [quantiles(*points).to_observed(forecast) - begun for points in blocks.without_each()]
    mapped = begun + shrunk(np.array(whole.observed) - begun, rest)
    return replace(whole, observed=tuple(np.maximum.accumulate(mapped).tolist()))


def crps_of_members(members: Floats, observed: Floats) -> float:
    """Return the mean CRPS of members, (member, point), as an empirical distribution, given the truth, (point).

    The fair estimator is not used for the fit, since it assumes independent members. Members that are spread about
    their own mean are not independent, and its minimum is at too large a spread (by 11 % with 20 members).
    """
    return float(crps_points(members, observed, "ensemble").mean())


def fit_shift_and_factor(members: Floats, observed: Floats) -> MemberMap:
    """Fit the shift of the mean and the factor of the departures that have the least CRPS.

    Args:
        members: Members, (member, point), in the field's units.
        observed: The truth, (point,).
    """
    few, truth = _thinned(members, observed)
    mean = few.mean(0)
    departure = few - mean
    # The CRPS is the mean absolute error minus half the mean difference of two members, which the factor scales.
    half = float(np.abs(departure).mean()) - crps_of_members(departure, np.zeros(truth.shape))

    def crps(parameters: Floats) -> float:
        shift, factor = parameters
        if not SMALLEST_FACTOR <= factor <= MAX_FACTOR:
            return float("inf")
        return float(np.abs(mean + shift + factor * departure - truth).mean() - factor * half)

    bias = float((truth - mean).mean())
    found = minimize(crps, [bias, 1.0], method="Nelder-Mead", options={"xatol": 1e-3, "fatol": 1e-5 * half})
    shift, factor = found.x if np.isfinite(found.fun) else (0.0, 1.0)
    return MemberMap(float(factor), float(shift), points=observed.size)


def fit_factor(members: Floats, observed: Floats, floor: float) -> float:
    """Fit the factor of the departures that has the least CRPS once frequencies are corrected by quantiles.

    Args:
        members: Members, (member, point), in the field's units.
        observed: The truth, (point,).
        floor: The field's value for none, below which no member falls.
    """
    few, truth = _thinned(members, observed)
    mean = few.mean(0)

    def crps(factor: float) -> float:
        widened = MemberMap(factor)(few, mean, floor)
        return crps_of_members(MemberMap(1.0, 0.0, *match_quantiles(widened, truth)).to_observed(widened), truth)

    found = minimize_scalar(
        crps, bounds=(SMALLEST_FACTOR, 3.0), method="bounded", options={"xatol": 0.01, "maxiter": 14}
    )
    return float(found.x)


def match_quantiles(forecast: Floats, observed: Floats) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return quantiles of forecasts, of any shape, strictly increasing, and of the truth at the same probabilities.

    The probabilities are dense in the upper tail, to the one beyond which TAIL_EVENTS points of the truth lie.
    """
    beyond = np.geomspace(1.0, min(1.0, TAIL_EVENTS / observed.size), LEVELS)
    levels = 1 - beyond
    of_forecast = np.quantile(forecast, levels)
    of_truth = np.quantile(observed, levels)
    _, first = np.unique(of_forecast, return_index=True)
    return tuple(of_forecast[first].tolist()), tuple(np.maximum.accumulate(of_truth[first]).tolist())


def _thinned(members: Floats, observed: Floats) -> tuple[Floats, Floats]:
    step = max(1, -(-observed.size // MAX_POINTS))
    return members[:, ::step], observed[::step]


def learn(
    workspace: Workspace, dataset: Dataset, settings: VerificationSettings, *, until: Hour | None = None
) -> Calibration:
    """Learn a calibration from the workspace's forecasts of the last days by the model that drew the newest one.

    Points drawn from a forecast are stored, so that the next fit reads only new forecasts; points of older forecasts
    are deleted.

    Args:
        workspace: Workspace with the forecasts; members in raw/ are used instead of calibrated ones.
        dataset: The analyses that are the truth.
        settings: Days, points and seed.
        until: Last valid hour that may be used; by default the newest analysis.

    Raises:
        MissingInputError: No field has enough points.
    """
    truth = Analyses(dataset)
    if truth.hours.size == 0:
        raise MissingInputError("the dataset holds no analysis", advice="run `convcast preprocess`")
    last = truth.hours[-1] if until is None else min(until, truth.hours[-1])
    first = last - np.timedelta64(round(24 * settings.calibration_days), "h")
    folder = workspace.calibrations / "points"
    sweep(workspace.calibrations)
    drawn: dict[tuple[str, int], list[tuple[Hour, dict[str, DrawnPoints]]]] = {}
    used: list[tuple[Hour, int]] = []
    known = set(truth.hours.tolist())
    cases = [
        (ensemble, lead)
        for path in _uncalibrated(workspace, first)
        for ensemble in open_ensembles(
            path, fields=truth.variables, points=truth.points, simulated=truth.simulated
        ).ensembles
        for lead in ensemble.leads
        if ensemble.init + lead * HOUR <= last and (ensemble.init + lead * HOUR).item() in known
    ]
    model = model_identity(cases[-1][0].attributes) if cases else ""
    for ensemble, lead in cases:
        if model_identity(ensemble.attributes) != model:
            continue
        points = _points_of(folder, ensemble, lead, truth, settings)
        if points is None:
            continue
        used.append((ensemble.init, lead))
        for name, groups in points.items():
            drawn.setdefault((name, lead), []).append((ensemble.init, groups))
    _forget(folder, first)
    maps: dict[str, dict[str, dict[str, MemberMap]]] = {}
    for variable in truth.variables:
        for lead in sorted({lead for name, lead in drawn if name == variable.name}):
            taken = drawn[variable.name, lead]
            found = fit_maps(variable, [points for _, points in taken], [init for init, _ in taken])
            if found:
                maps.setdefault(variable.name, {})[str(lead)] = found
    if not maps:
        raise MissingInputError(
            f"{len(used)} forecasts since {first} have an analysis, too few to learn a calibration from",
            advice="run `convcast sample` for more initial times",
        )
    return Calibration(
        first=str(min(init for init, _ in used)),
        last=str(max(init + lead * HOUR for init, lead in used)),
        cases=len(used),
        maps=maps,
        simulated=truth.simulated,
        model=model,
    )


def _uncalibrated(workspace: Workspace, first: Hour) -> Iterator[Path]:
    """Yield the ensembles as they were drawn, in order of initial time."""
    paths = {path.stem: path for path in sorted(workspace.forecasts.glob("*.zarr"))}
    raw = {path.stem: path for path in sorted(workspace.raw.glob("*.zarr"))}
    for stem, path in sorted((paths | raw).items()):
        init = from_compact(stem)
        if init is None or init < first or path.is_symlink():
            continue
        if stem not in raw and is_calibrated(path):
            continue
        yield path


def _points_of(
    folder: Path, ensemble: Ensemble, lead: int, truth: Truth, settings: VerificationSettings
) -> dict[str, dict[str, DrawnPoints]] | None:
    """Return the points of a case by field and regime, stored or drawn now; None with fewer than two members."""
    members = ensemble.members(lead)
    if len(members) < 2:
        return None
    valid = ensemble.init + lead * HOUR
    key = digest(ensemble.fingerprint, truth.fingerprint(valid), settings.calibration_points, len(members))
    path = folder / f"{compact(ensemble.init)}+{lead:03d}h.npz"
    stored = _load(path, key)
    if stored is not None:
        return stored
    regimes = find_regimes(truth, ensemble.init)
    points = {
        variable.name: draw_points(
            ensemble.read(variable, lead, members),
            truth.read(variable, valid),
            regimes,
            count=settings.calibration_points,
            seed=(settings.seed, int(ensemble.init.astype(np.int64)), lead, number),
        )
        for number, variable in enumerate(truth.variables)
    }
    arrays = {
        f"{name}/{regime}/{part}": getattr(one, part)
        for name, groups in points.items()
        for regime, one in groups.items()
        for part in ("members", "observed")
    }
    with whole_file(path) as temporary, open(temporary, "wb") as file:
        np.savez_compressed(file, key=np.array(key), **arrays)
    return points


def _load(path: Path, key: str) -> dict[str, dict[str, DrawnPoints]] | None:
    """Return the points stored under this key; None if there are none, or the file cannot be read."""
    if not path.is_file():
        return None
    try:
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as stored:
            if str(stored["key"]) != key:
                return None
            points: dict[str, dict[str, DrawnPoints]] = {}
            for entry in stored.files:
                if entry.endswith("/members"):
                    name, regime, _ = entry.split("/")
                    one = DrawnPoints(stored[entry], stored[f"{name}/{regime}/observed"])
                    points.setdefault(name, {})[regime] = one
            return points
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error):
        return None


def _forget(folder: Path, first: Hour) -> None:
    """Delete the points of forecasts that start before `first`."""
    for path in folder.glob("*.npz"):
        init = from_compact(path.name.split("+")[0])
        if init is not None and init < first:
            path.unlink(missing_ok=True)
