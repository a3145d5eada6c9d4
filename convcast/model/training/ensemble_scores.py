"""Scores of validation ensembles, as sums over the points of each case and as the values that follow from the sums.

Sums are kept for each case, so that processes can share the cases and intervals can be resampled from them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from convcast.dataset import Window
from convcast.metrics import formulas
from convcast.metrics.bootstrap import Bootstrap
from convcast.metrics.regimes import REGIMES, sort_points
from convcast.model.skill import EventFrequency, FieldSkill
from convcast.variables import CAPE, FIELDS, REFC, Variable

CONFIDENCE = 0.95
RESAMPLES = 1000
"""Bootstrap resamples of the cases."""
BANDS = 20
"""Number of bands of a spectrum (convcast.metrics.scores.spectra)."""
MOST_EVENTS = 1 + max(len(variable.thresholds) for variable in FIELDS.values())

Sums = NDArray[np.float64]
Floats = NDArray[np.floating]


PARTS = {
    # Means over points: fair CRPS, error of persistence, ensemble variance, squared errors of the mean and reference.
    "means": (5,),
    # Sums over a regime's points of ensemble spread s and absolute error e: n, s, e, s², e², s e.
    "moments": (len(REGIMES), 6),
    # Shares of points with each event: of the members, of the observation.
    "events": (MOST_EVENTS, 2),
    # Power of the members and of the observation by band, in cases without a missing point.
    "power": (2, BANDS),
}
"""Shapes of the sums of a field, by name."""
WIDTH = sum(math.prod(shape) for shape in PARTS.values())
"""Number of sums of a field."""


def unpack(sums: Sums) -> dict[str, Sums]:
    """Return the PARTS of sums (..., WIDTH) as views, by name."""
    parts, start = {}, 0
    for name, shape in PARTS.items():
        size = math.prod(shape)
        parts[name] = sums[..., start : start + size].reshape(*sums.shape[:-1], *shape)
        start += size
    return parts


def events_of(variable: Variable) -> tuple[float | None, ...]:
    """Return the thresholds of a field's events. With a floor, the first is None, for any value above the floor."""
    return ((None,) if variable.floor is not None else ()) + variable.thresholds


def happens(variable: Variable, values: Floats, threshold: float | None) -> NDArray[np.bool_]:
    """Whether an event of `events_of` happens at each point.

    Args:
        variable: The field.
        values: Values of the field in its units, of any shape.
        threshold: One of the thresholds of `events_of`.
    """
    if threshold is None:
        assert variable.floor is not None
        return np.asarray(values > variable.floor.none)
    return variable.happens(values, threshold)


def case_sums(
    members: Floats, reference: Floats, window: Window, variables: Sequence[Variable], *, periodic: bool = False
) -> Sums:
    """Sum the scores of one case over its points.

    Args:
        members: The ensemble, (member, variable, y, x), GRIB units.
        reference: The reference forecast, (variable, y, x), GRIB units.
        window: The case, with the observed target. Points where the target or the last analysis is missing are left
            out.
        variables: The fields, in the order of the variable axis.
        periodic: Whether the domain is a torus.

    Returns:
        The sums of PARTS, (variable, WIDTH); zeros for a field without observations.
    """
    # Imported here, since sampling imports this package and does not need numba, which takes seconds to import.
    from convcast.metrics.kernels import score_points

    assert window.target is not None
    last = window.history[-1]
    analysed = {variable: last[i] for i, variable in enumerate(variables)}
    regimes = sort_points(analysed.get(REFC), analysed.get(CAPE))
    sums = np.zeros((len(variables), WIDTH))
    for i, variable in enumerate(variables):
        present = np.isfinite(window.target[i]) & np.isfinite(last[i])
        if not present.any():
            continue
        parts = unpack(sums[i])  # views
        observed, drawn = window.target[i][present].astype(float), members[:, i][:, present].astype(float)
        scores = score_points(drawn, observed)
        persistence = np.abs(last[i][present] - observed)
        squares = (reference[i][present] - observed) ** 2
        parts["means"][:] = [
            values.mean() for values in (scores.crps("fair"), persistence, scores.variance, scores.error**2, squares)
        ]
        if regimes is not None:
            spread, error = np.sqrt(scores.variance), np.abs(scores.error)
            terms = np.stack([np.ones_like(error), spread, error, spread**2, error**2, spread * error])
            parts["moments"][:] = [terms[:, regimes[present] == number].sum(axis=1) for number in range(len(REGIMES))]
        for number, threshold in enumerate(events_of(variable)):
            parts["events"][number] = [happens(variable, values, threshold).mean() for values in (drawn, observed)]
        if present.all():
            parts["power"][:] = _power(members[:, i], window.target[i], variable, periodic=periodic)
    return sums


def _power(members: Floats, observed: Floats, variable: Variable, *, periodic: bool) -> Sums:
    """Return the power of the members and of the observation by band, (2, BANDS), as verification has it."""
    from convcast.metrics.scores.spectra import LogSpectralDistance
    from convcast.metrics.spatial import FieldCase, Scales

    present = np.ones(observed.shape, bool)
    case = FieldCase(members, observed, present, variable, Scales((), periodic))
    return LogSpectralDistance().sums(case)["power"]


def field_skill(sums: Sums, leads: Sequence[int], variable: Variable, members: int) -> FieldSkill:
    """Compute the scores of one field.

    Args:
        sums: Sums of its cases, (case, WIDTH).
        leads: Lead time of each case, hours.
        variable: The field.
        members: Number of members of each ensemble.
    """
    parts = unpack(sums)
    crps, persistence, variance, squared_error, reference = parts["means"].T
    bootstrap = Bootstrap(len(crps), resamples=RESAMPLES, seed=0, confidence=CONFIDENCE)
    estimate = bootstrap.estimate(formulas.ratio, crps, np.ones_like(crps))
    single = len(crps) == 1
    moments = parts["moments"].sum(axis=0)
    correlations = np.where(moments[:, 0] >= 3, formulas.correlation(*moments.T), np.nan)
    ratio = formulas.spread_error_ratio(variance.mean(), squared_error.mean(), members)
    power = parts["power"].sum(axis=0)
    return FieldSkill(
        crps=estimate.value,
        low=estimate.value if single else estimate.low,
        high=estimate.value if single else estimate.high,
        persistence=float(persistence.mean()),
        spread_error=float(np.nan_to_num(ratio)),
        correlation={
            name: float(value) if np.isfinite(value) else None
            for name, value in zip(REGIMES, correlations, strict=True)
        },
        rmse=float(np.sqrt(max(0.0, squared_error.mean() - variance.mean() / members))),
        reference_rmse=float(np.sqrt(reference.mean())),
        log_spectral_distance=float(formulas.log_spectral_distance(power)) if power.any() else None,
        events=tuple(_frequencies(parts["events"], np.asarray(leads), variable)),
    )


def _frequencies(events: Sums, leads: NDArray[np.int_], variable: Variable) -> list[EventFrequency]:
    """Return the frequencies of a field's events by lead, from their shares in each case (case, event, 2)."""
    return [
        EventFrequency(int(lead), threshold, *map(float, events[leads == lead, number].mean(axis=0)))
        for lead in np.unique(leads)
        for number, threshold in enumerate(events_of(variable))
    ]
