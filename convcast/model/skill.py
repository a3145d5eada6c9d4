"""Validation scores of a model, which are stored with it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from pydantic import TypeAdapter

from convcast.errors import DamagedFileError


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
        """Criterion of the best checkpoint (lowest): mean CRPS over persistence's error, else the loss."""
        ratios = [skill.crps / skill.persistence for skill in self.fields.values() if skill.persistence > 0]
        return sum(ratios) / len(ratios) if ratios else self.loss

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Validation:
        """Inverse of `to_dict`; raises DamagedFileError for damaged values."""
        try:
            return _VALIDATION.validate_python(dict(values))
        except (TypeError, ValueError) as error:
            raise DamagedFileError(f"the validation of a model is damaged ({error!r})", advice="train again") from error


_VALIDATION = TypeAdapter(Validation)
