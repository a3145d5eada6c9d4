"""How good a model was at a checkpoint: what validation finds, and what of it is kept with the model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from pydantic import TypeAdapter

from convcast.errors import DamagedFileError


@dataclass(frozen=True)
class FieldSkill:
    """Of one field's ensembles, in the field's units."""

    crps: float
    """Fair CRPS (Ferro 2014, doi:10.1002/qj.2270)."""
    low: float
    high: float
    """A 95 % bootstrap interval of it over the cases."""
    persistence: float
    """Mean absolute error of the last analysis on the same cases."""
    spread_error: float
    """√(mean variance · (M+1)/M) over the root mean square error of the ensemble mean: 1 if calibrated."""
    correlation: dict[str, float | None]
    """Of spread and absolute error of the mean over the points of each regime (convcast.metrics.regimes)."""


@dataclass(frozen=True)
class Validation:
    """Of the averaged weights, on hours that training does not see; the same cases and noise each time."""

    loss: float
    """Of the noise prediction."""
    cases: int
    """That ensembles were drawn for."""
    members: int
    first: str | None
    last: str | None
    """Initial hours of the first and the last of these cases."""
    fields: dict[str, FieldSkill]
    """Empty where no ensembles were drawn."""

    @property
    def score(self) -> float:
        """What the best checkpoint has least of: CRPS over persistence's, in the mean of the fields; else the loss."""
        ratios = [skill.crps / skill.persistence for skill in self.fields.values() if skill.persistence > 0]
        return sum(ratios) / len(ratios) if ratios else self.loss

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Validation:
        """Raises DamagedFileError where the dictionary is not what `to_dict` makes."""
        try:
            return _VALIDATION.validate_python(dict(values))
        except (TypeError, ValueError) as error:
            raise DamagedFileError(f"the validation of a model is damaged ({error!r})", advice="train again") from error


_VALIDATION = TypeAdapter(Validation)
