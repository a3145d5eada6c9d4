"""Validation scores of a model, which are stored with it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from pydantic import TypeAdapter

from convcast.errors import TRAIN_ANOTHER, DamagedFileError

LEAST_OBSERVED = 1e-3
"""Minimum share of observed points with an event for its frequency bias to count; below it would be noise."""
MOST_BIAS = 10.0
"""Limit of the frequency bias in the criterion: biases are clipped to between its inverse and it."""
PRICE_OF_BIAS = 0.05
"""Relative increase of the criterion for a frequency bias of e or 1/e."""
PRICE_OF_SPECTRUM = 0.01
"""Relative increase of the criterion for each decibel of log-spectral distance."""


@dataclass(frozen=True)
class EventFrequency:
    """Forecast and observed frequency of an event at one lead time."""

    lead: int
    """Hours."""
    threshold: float | None
    """Threshold of the event, in the field's units; None for any value above the floor (any echo)."""
    forecast: float
    """Share of the members' points with the event."""
    observed: float
    """Share of the observed points with the event."""

    @property
    def bias(self) -> float | None:
        """Frequency bias: forecast over observed; None where nothing was observed."""
        return self.forecast / self.observed if self.observed > 0 else None


@dataclass(frozen=True)
class FieldSkill:
    """Validation scores of one field's ensembles, in the field's units."""

    crps: float
    """Fair CRPS (Ferro 2014, doi:10.1002/qj.2270)."""
    low: float
    """Lower end of the CRPS's 95 % bootstrap interval over the cases."""
    high: float
    """Upper end of that interval."""
    persistence: float
    """Mean absolute error of the last analysis on the same cases."""
    spread_error: float
    """√(mean variance · (M+1)/M) over the root mean square error of the ensemble mean: 1 if calibrated."""
    correlation: dict[str, float | None]
    """Correlation of spread with absolute error of the mean in each regime (convcast.metrics.regimes)."""
    rmse: float | None = None
    """Root mean square error of the ensemble mean, without the part that is due to the small number of members. It and
    the scores below are None in models of earlier versions."""
    reference_rmse: float | None = None
    """Root mean square error of the reference forecast, around which members are drawn."""
    log_spectral_distance: float | None = None
    """Distance of the members' spectra from the observed ones, dB; None if no case is complete."""
    events: tuple[EventFrequency, ...] = ()
    """Frequencies of events by lead and threshold."""

    @property
    def rmse_ratio(self) -> float | None:
        """Error of the ensemble mean over that of the reference; above 1, the network makes the mean worse."""
        return self.rmse / self.reference_rmse if self.rmse is not None and self.reference_rmse else None

    @property
    def penalty(self) -> float:
        """Factor, at least 1, for faults that the CRPS of a few members hardly shows.

        `rmse_ratio` counts in full if it is above 1; frequency bias and log-spectral distance count by PRICE_OF_BIAS
        and PRICE_OF_SPECTRUM.
        """
        biases = [
            min(abs(math.log(max(event.bias, 1e-9))), math.log(MOST_BIAS))
            for event in self.events
            if event.bias is not None and event.observed >= LEAST_OBSERVED
        ]
        bias = sum(biases) / len(biases) if biases else 0.0
        worse = max(0.0, (self.rmse_ratio or 1.0) - 1)
        return 1 + worse + PRICE_OF_BIAS * bias + PRICE_OF_SPECTRUM * (self.log_spectral_distance or 0.0)


@dataclass(frozen=True)
class Validation:
    """Scores of the averaged weights on hours that training does not see, with the same cases and noise each time."""

    loss: float
    """Loss of the noise prediction."""
    cases: int
    """Cases for which ensembles were drawn."""
    members: int
    first: str | None
    last: str | None
    """Initial times of the first and the last of these cases."""
    fields: dict[str, FieldSkill]
    """Scores by field name; empty where no ensembles were drawn."""

    @property
    def score(self) -> float:
        """Criterion by which the best checkpoint is chosen; the lowest is best.

        It is the mean over fields of CRPS over persistence's error, times the field's `penalty`; the loss where no
        ensembles were drawn.
        """
        ratios = [
            skill.penalty * skill.crps / skill.persistence for skill in self.fields.values() if skill.persistence > 0
        ]
        return sum(ratios) / len(ratios) if ratios else self.loss

    @property
    def crps_ratio(self) -> float | None:
        """Mean over fields of CRPS over persistence's error; None where no ensembles were drawn."""
        ratios = [skill.crps / skill.persistence for skill in self.fields.values() if skill.persistence > 0]
        return sum(ratios) / len(ratios) if ratios else None

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Validation:
        """Restore from the result of `to_dict`; raises DamagedFileError for damaged values."""
        try:
            return _VALIDATION.validate_python(dict(values))
        except (TypeError, ValueError) as error:
            raise DamagedFileError(f"the validation of a model is damaged ({error!r})", advice=TRAIN_ANOTHER) from error


_VALIDATION = TypeAdapter(Validation)
