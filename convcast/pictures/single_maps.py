"""Maps of one statistic of an ensemble, or of its difference from HRRR."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from convcast.pictures.canvas import (
    close_page,
    draw_bar,
    draw_image,
    draw_observed,
    in_units,
    new_page,
)
from convcast.pictures.colours import (
    Colours,
    bar_labels,
    difference_colours,
    difference_labels,
    field_colours,
    probability_colours,
    speed_colours,
    spread_colours,
)
from convcast.pictures.forecast_field import Floats, ForecastField
from convcast.pictures.units import display_units
from convcast.variables import U10

BARBS = 18
"""Approximate number of wind barbs across a map."""
KNOTS, METRES = 5.0, 2.0
"""Step of the colours of wind speed, in knots and in m/s."""


def draw_mean(shown: ForecastField) -> bytes:
    """Draw the ensemble mean, which is smoother than any weather."""
    return _in_colours_of_field(shown, shown.mean, "ensemble mean")


def draw_maximum(shown: ForecastField) -> bytes:
    """Draw the highest value of any member at each point, or the lowest of fields whose events are low values."""
    assert shown.members is not None
    if shown.variable.events_below:
        return _in_colours_of_field(shown, shown.members.min(axis=0), "ensemble minimum")
    return _in_colours_of_field(shown, shown.members.max(axis=0), "ensemble maximum")


def draw_matched_mean(shown: ForecastField) -> bytes:
    """Draw the probability-matched mean: the pattern of the mean with the values of the members."""
    assert shown.matched_mean is not None
    return _in_colours_of_field(shown, shown.matched_mean, "probability-matched mean")


def draw_spread(shown: ForecastField) -> bytes:
    """Draw the standard deviation of the members."""
    colours = spread_colours(shown.units.convert_difference(shown.variable.spread_display))
    values = shown.units.convert_difference(shown.spread)
    label = f"standard deviation of the members ({shown.units.sign})"
    return _single(shown, values, colours, label, "ensemble spread", observed=False, extend="max")


def draw_probability(shown: ForecastField) -> bytes:
    """Draw the probability of the event at each point."""
    what = f"probability of {shown.event}"
    return _single(shown, 100 * shown.probability, probability_colours(), "probability (%)", what, extend="neither")


def draw_neighbourhood(shown: ForecastField) -> bytes:
    """Draw the probability of the event anywhere in the neighbourhood of each point."""
    assert shown.neighbourhood is not None
    what = f"probability of {shown.near_event}"
    return _single(shown, 100 * shown.neighbourhood, probability_colours(), "probability (%)", what, extend="neither")


def draw_any_time(shown: ForecastField) -> bytes:
    """Draw the probability of the event at any of the leads up to this one, at each point."""
    assert shown.any_time is not None
    return _any_time(shown, shown.any_time, shown.event)


def draw_any_time_near(shown: ForecastField) -> bytes:
    """Draw the probability of the event in the neighbourhood of each point at any of the leads up to this one."""
    assert shown.any_time_near is not None
    return _any_time(shown, shown.any_time_near, shown.near_event)


def _any_time(shown: ForecastField, probability: Floats, event: str) -> bytes:
    return _single(
        shown,
        100 * probability,
        probability_colours(),
        "probability (%)",
        f"probability of {event} at any of these hours",
        observed=False,
        extend="neither",
        times=shown.times_of_window,
    )


def draw_difference(shown: ForecastField) -> bytes:
    """Draw the ensemble mean minus HRRR's forecast for the same time."""
    assert shown.reference is not None
    top = shown.units.convert_difference(2 * shown.variable.spread_display)
    values = shown.units.convert_difference(shown.mean - shown.reference)
    label = f"difference ({shown.units.sign})"
    return _single(
        shown,
        values,
        difference_colours(top),
        label,
        "ensemble mean minus HRRR's forecast",
        observed=False,
        named=difference_labels(top),
    )


def draw_wind(shown: ForecastField) -> bytes:
    """Draw the mean wind speed, and barbs of the mean wind; grid and map share their axes."""
    wind = shown.wind
    assert wind is not None
    units = display_units(U10, shown.system)
    figure, axes = new_page(shown)
    image = draw_image(axes, shown, wind.speed * units.factor, speed_colours(KNOTS if units.factor != 1 else METRES))
    step = max(1, round(shown.base_map.grid.nx / BARBS))
    rows, columns = slice(step // 2, None, step), slice(step // 2, None, step)
    full = {"half": 5, "full": 10, "flag": 50}
    scale = display_units(U10, "us").factor  # barbs are in knots in all countries
    axes.barbs(
        shown.base_map.x[columns],
        shown.base_map.y[rows],
        scale * wind.x[rows, columns],
        scale * wind.y[rows, columns],
        length=5,
        linewidth=0.6,
        barb_increments=full,
        color="#1a1a1a",
    )
    draw_bar(figure, image, [axes], f"speed ({units.sign})", extend="max")
    speed = "speed of the mean wind" if wind.of_mean else "mean of the members' speeds"
    note = f"colours: {speed}; barbs: mean wind, half 5 kt, full 10 kt, flag 50 kt"
    return close_page(figure, shown, "speed and mean direction", note, name="10 m wind")


def _in_colours_of_field(shown: ForecastField, values: Floats, what: str) -> bytes:
    colours = in_units(shown, field_colours(shown.variable, shown.month))
    label = f"{what} ({shown.units.sign})"
    return _single(shown, shown.units.convert(values), colours, label, what, named=bar_labels(shown.variable))


def _single(
    shown: ForecastField,
    values: Floats,
    colours: Colours,
    label: str,
    what: str,
    *,
    observed: bool = True,
    named: Sequence[float] | None = None,
    extend: str = "both",
    times: str | None = None,
) -> bytes:
    figure, axes = new_page(shown)
    image = draw_image(axes, shown, np.asarray(values), colours)
    draw_bar(figure, image, [axes], label, named=named, extend=extend)
    handles = draw_observed(axes, shown) if observed else []
    return close_page(figure, shown, what, handles=handles, times=times)
