"""CF attributes of quantities that are computed from an ensemble's members, in products and in memory."""

from __future__ import annotations

from typing import Any

from convcast import conventions
from convcast.variables import Variable

THRESHOLD = "the threshold"
"""Name that stands for the threshold where thresholds are a coordinate."""


def statistic(variable: Variable, what: str, cell_methods: str = "") -> dict[str, Any]:
    """Return the attributes of a statistic in the field's units.

    Args:
        variable: The field.
        what: Name of the statistic, as `ensemble mean`.
        cell_methods: CF cell methods, if there are any for the statistic.
    """
    attributes = conventions.field_attributes(variable) | {"long_name": f"{what} of {variable.long_name}"}
    return attributes | ({"cell_methods": cell_methods} if cell_methods else {})


def mean(variable: Variable) -> dict[str, Any]:
    return statistic(variable, "ensemble mean", "realization: mean")


def spread(variable: Variable) -> dict[str, Any]:
    attributes = statistic(variable, "ensemble spread", "realization: standard_deviation")
    if "units_metadata" in attributes:
        attributes["units_metadata"] = conventions.DIFFERENCE
    return attributes


def maximum(variable: Variable) -> dict[str, Any]:
    """Return the attributes of the highest value of any member, or the lowest of fields whose events are low values."""
    extreme = "minimum" if variable.events_below else "maximum"
    return statistic(variable, f"ensemble {extreme}", f"realization: {extreme}")


def matched_mean(variable: Variable) -> dict[str, Any]:
    return statistic(variable, "probability-matched ensemble mean")


def probability(
    variable: Variable, limit: str = THRESHOLD, *, within: float | None = None, any_time: bool = False
) -> dict[str, Any]:
    """Return the attributes of the probability of an event.

    Args:
        variable: The field.
        limit: The threshold with its unit, or a name for one that is a coordinate.
        within: Radius of the neighbourhood, km; None for the event at the point.
        any_time: Whether the event counts at any of the file's leads up to the lead.
    """
    event = f"{variable.long_name} {'at or below' if variable.events_below else 'at or above'} {limit}"
    near = "" if within is None else f" somewhere within {within:g} km"
    when = " at any of the leads up to this one" if any_time else ""
    return {"units": "1", "grid_mapping": "spatial_ref", "long_name": f"probability of {event}{near}{when}"}
