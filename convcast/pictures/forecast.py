"""The kinds of maps of an ensemble forecast."""

from __future__ import annotations

from collections.abc import Callable

from convcast.pictures import member_maps, single_maps
from convcast.pictures.forecast_field import ForecastField
from convcast.pictures.style import styled

KINDS: dict[str, Callable[[ForecastField], bytes]] = {
    "stamps": member_maps.draw_stamps,
    "mean": single_maps.draw_mean,
    "spread": single_maps.draw_spread,
    "probability": single_maps.draw_probability,
    "neighbourhood": single_maps.draw_neighbourhood,
    "any-time": single_maps.draw_any_time,
    "any-time-neighbourhood": single_maps.draw_any_time_near,
    "maximum": single_maps.draw_maximum,
    "matched-mean": single_maps.draw_matched_mean,
    "paintball": member_maps.draw_paintball,
    "spaghetti": member_maps.draw_spaghetti,
    "wind": single_maps.draw_wind,
    "difference": single_maps.draw_difference,
}
OF_SEVERAL_LEADS = ("any-time", "any-time-neighbourhood")
"""Kinds that need two leads or more, and so cannot show the first lead of a forecast."""
OF_MEMBERS = frozenset({"stamps", "maximum", "paintball", "spaghetti"})
"""Kinds that need members."""


def drawable(shown: ForecastField, kind: str) -> bool:
    """Return whether a field has what this kind of map shows."""
    if kind in OF_MEMBERS:
        return shown.members is not None
    needed = {
        "neighbourhood": shown.neighbourhood,
        "any-time": shown.any_time,
        "any-time-neighbourhood": shown.any_time_near,
        "matched-mean": shown.matched_mean,
        "wind": shown.wind,
        "difference": shown.reference,
    }
    return kind not in needed or needed[kind] is not None


def draw(kind: str, shown: ForecastField) -> bytes:
    """Draw a map of this kind as PNG.

    Raises:
        ValueError: The field does not have what the kind shows.
    """
    if not drawable(shown, kind):
        held = "holds no members" if kind in OF_MEMBERS else f"has nothing to draw as {kind}"
        raise ValueError(f"the forecast {held}")
    with styled():
        return KINDS[kind](shown)
