"""The HRRR forecasts that force the members of one initial time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from convcast import stores
from convcast.archive import Forcing, HrrrForecast
from convcast.dataset import Dataset
from convcast.model import Forecaster
from convcast.notation import Hour
from convcast.settings import SamplingSettings

NONE = "none"

Choice = Mapping[int, tuple[HrrrForecast, int] | None]
"""HRRR's forecast and its age (hours) for each lead of the model (hours); None where the forcing is withheld."""


def choose(
    forecaster: Forecaster,
    dataset: Dataset,
    init: Hour,
    settings: SamplingSettings,
    *,
    stored: Sequence[Path] = (),
) -> Choice:
    """Choose the newest forecasts that the dataset holds, or those that a stored forecast of this init time had.

    Members of one file have the same forcing, although newer forecasts may have come since the first was drawn.

    Args:
        forecaster: The trained model.
        dataset: The dataset.
        init: Initial time.
        settings: Settings of sampling; without `forcing`, all forcing is withheld.
        stored: Forecast files of this initial time, in the order in which they are consulted.

    Returns:
        The choice for each lead of the model; empty for a model without forcing.
    """
    forcing = forecaster.forcing
    if forcing is None:
        return {}
    if not settings.forcing:
        return dict.fromkeys(forecaster.leads)
    for path in stored:
        recorded = _recorded(path, forcing, init)
        if recorded is not None:
            return recorded
    return {lead: _at_age(forcing, init, lead, dataset.ages(forcing, init, lead)[:1]) for lead in forecaster.leads}


def described(choice: Choice) -> dict[str, str]:
    """Return the value of the attribute `forcing` of a forecast file: HRRR's forecast by lead, or `none`."""
    return {str(lead): NONE if chosen is None else str(chosen[0]) for lead, chosen in choice.items()}


def notes(forecaster: Forecaster, init: Hour, choice: Choice) -> list[str]:
    """Return sentences about forcing that is withheld or comes from an older cycle than the newest.

    Args:
        forecaster: The model.
        init: Initial time.
        choice: The forcing of each lead.
    """
    forcing = forecaster.forcing
    if forcing is None:
        return []
    withheld = [lead for lead, chosen in choice.items() if chosen is None]
    sentences = []
    if withheld:
        leads = ", ".join(map(str, withheld))
        sentences.append(f"the dataset has no HRRR forecast for {init} + {leads} h: members are drawn without forcing")
    for lead, chosen in choice.items():
        newest = forcing.forecast(init, lead, forcing.ages[0])
        if chosen is not None and newest is not None and chosen[0] != newest:
            sentences.append(f"the dataset lacks HRRR's forecast of {newest}: {chosen[0]} forces {init} + {lead} h")
    return sentences


def _at_age(forcing: Forcing, init: Hour, lead: int, ages: Sequence[int]) -> tuple[HrrrForecast, int] | None:
    for age in ages:
        forecast = forcing.forecast(init, lead, age)
        if forecast is not None:
            return forecast, age
    return None


def _recorded(path: Path, forcing: Forcing, init: Hour) -> Choice | None:
    """Return the choice that a stored forecast records; None if it records none for the leads of the model."""
    recorded = stores.stored_attribute(path, "forcing")
    if not isinstance(recorded, dict) or set(recorded) != set(map(str, forcing.leads)):
        return None
    choice: dict[int, tuple[HrrrForecast, int] | None] = {}
    for lead in forcing.leads:
        possible = {str(f): (f, age) for age in forcing.ages if (f := forcing.forecast(init, lead, age)) is not None}
        text = recorded[str(lead)]
        if text != NONE and text not in possible:
            return None
        choice[lead] = possible.get(text)
    return choice
