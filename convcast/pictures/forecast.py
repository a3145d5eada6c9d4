"""Maps of one field of an ensemble at one lead: members, mean, spread and probability."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import ceil
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Colormap, Normalize
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from convcast.notation import HOUR, Hour
from convcast.pictures.base_map import BaseMap
from convcast.pictures.colours import field_colours, member_colours, probability_colours
from convcast.pictures.style import finish, styled
from convcast.variables import Variable

Floats = NDArray[np.floating]
Colours = tuple[Colormap | str, Normalize]
COLUMNS = 8
"""Maximum number of columns of member maps."""
PIXELS = 1.7
"""Minimum number of pixels a cell; smaller cells are aggregated, since drawing would drop some of them."""
DOTS = 110
"""Resolution, dots per inch."""
SMOOTHING = 1.5
"""Standard deviation, cells, of the smoothing before contours are drawn."""


@dataclass(frozen=True, eq=False)
class ForecastField:
    """One field of an ensemble forecast at one lead, with its members or products alone."""

    variable: Variable
    threshold: float
    """Threshold of the event whose probability is drawn, in the field's units."""
    init: Hour
    lead: int
    """Lead time, hours."""
    base_map: BaseMap
    numbers: tuple[int, ...]
    """Numbers of the members."""
    simulated: bool
    source: str
    """Model and its input, for the note."""
    members: Floats | None
    """Members, (member, y, x), where the forecast holds them."""
    mean: Floats
    """Ensemble mean, (y, x)."""
    spread: Floats
    """Ensemble standard deviation, (y, x)."""
    probability: Floats
    """Probability of the event, 0 to 1, (y, x)."""
    near: float | None = None
    """Radius, km, of the neighbourhood of `probability`; None for the probability at each point."""
    width: float | None = None
    """Width of the figure, inches; None for the standard width. Letters keep their size."""
    dots: int = DOTS
    """Resolution, dots per inch."""

    @property
    def event(self) -> str:
        """Name of the event: `REFC ≥ 40 dBZ`, or `REFC ≥ 40 dBZ within 40 km`."""
        return self.variable.event(self.threshold) + ("" if self.near is None else f" within {self.near:g} km")

    @property
    def title(self) -> str:
        name = self.variable.long_name
        return f"{name[0].upper()}{name[1:]}, {self.init + self.lead * HOUR} UTC"

    @property
    def basis(self) -> str:
        count = len(self.numbers)
        return f"{self.lead} h forecast from {self.init} UTC; {count} member{'s' * (count != 1)}; {self.source}"

    def happens(self, values: Floats) -> NDArray[np.bool_]:
        return self.variable.happens(values, self.threshold)


def from_members(
    shown: Callable[..., ForecastField], variable: Variable, threshold: float, members: Floats
) -> ForecastField:
    """Complete a forecast field with mean, spread and probability of its members.

    Args:
        shown: ForecastField with the other arguments bound.
        variable: Field.
        threshold: Threshold of the event, in the field's units.
        members: Members, (member, y, x).
    """
    event = variable.happens(members, threshold)
    spread = members.std(axis=0, ddof=1) if len(members) > 1 else np.zeros_like(members[0])
    return shown(members=members, mean=members.mean(axis=0), spread=spread, probability=event.mean(axis=0))


def draw_stamps(shown: ForecastField) -> bytes:
    """Draw a small map of every member."""
    members = _members(shown)
    columns = min(COLUMNS, ceil(np.sqrt(len(members) * 1.3)))
    rows = ceil(len(members) / columns)
    width = shown.width or 10.5
    figure = Figure(figsize=(width, 1.4 + rows * (width / columns * _shape(shown) + 0.2)), dpi=shown.dots)
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    colours = field_colours(shown.variable)
    factor = _joined(shown, width / columns)
    image = None
    for number, panel in enumerate(panels):
        if number >= len(members):
            panel.set_axis_off()
            continue
        image = _map(panel, shown, coarsen(shown.variable, members[number], factor), colours, small=True)
        panel.set_title(f"{shown.numbers[number]}", fontsize=7, pad=2)
    _bar(figure, image, list(panels), f"{shown.variable.long_name} ({shown.variable.units})")
    note = shown.basis + (f"; each pixel {_how(shown.variable)} {factor} x {factor} cells" if factor > 1 else "")
    return finish(figure, title=f"{shown.title}: members", note=note, simulated=shown.simulated)


def draw_mean(shown: ForecastField) -> bytes:
    """The ensemble mean, which is smoother than any weather."""
    label = f"ensemble mean ({shown.variable.units})"
    return _single(shown, shown.mean, field_colours(shown.variable), label, "ensemble mean")


def draw_spread(shown: ForecastField) -> bytes:
    """The standard deviation of the members."""
    top = max(float(np.quantile(shown.spread, 0.998)), 1e-6)
    label = f"standard deviation of the members ({shown.variable.units})"
    return _single(shown, shown.spread, ("YlGnBu", Normalize(0, top)), label, "ensemble spread")


def draw_probability(shown: ForecastField) -> bytes:
    """Draw the probability of the event."""
    label = f"probability of {shown.event} (%)"
    return _single(shown, 100 * shown.probability, probability_colours(), label, f"probability of {shown.event}")


def draw_paintball(shown: ForecastField) -> bytes:
    """Draw the area of the event in each member's colour; the mean colour where several have it."""
    members = _members(shown)
    palette = member_colours(len(members))(np.arange(len(members)))[:, :3]
    total, count = np.zeros((*shown.base_map.grid.shape, 3)), np.zeros(shown.base_map.grid.shape)
    for colour, member in zip(palette, members, strict=True):
        event = shown.happens(member)
        total[event] += colour
        count += event
    painted = np.ones((*count.shape, 4))
    any_event = count > 0
    painted[any_event, :3] = total[any_event] / count[any_event, None]
    painted[..., 3] = np.where(any_event, 0.45 + 0.55 * np.minimum(1, count / max(1, 0.3 * len(members))), 0)
    figure, axes = _page(shown)
    axes.imshow(painted, origin="lower", extent=shown.base_map.extent, interpolation="none")
    shown.base_map.draw(axes)
    _members_bar(figure, axes, shown)
    note = f"{shown.basis}; deeper where more members have it"
    return finish(figure, title=f"{shown.title}: members with {shown.event}", note=note, simulated=shown.simulated)


def draw_spaghetti(shown: ForecastField) -> bytes:
    """Draw the outline of the event in each member, and of the ensemble mean in black."""
    members = _members(shown)
    palette = member_colours(len(members))(np.arange(len(members)))
    figure, axes = _page(shown)
    for colour, member in zip(palette, members, strict=True):
        _outline(axes, shown, member, color=[colour], linewidths=0.8, alpha=0.8)
    _outline(axes, shown, shown.mean, color="black", linewidths=1.8)
    axes.plot([], [], color="black", lw=1.8, label="ensemble mean")
    axes.legend(loc="lower right", fontsize=8, frameon=True, framealpha=0.9)
    shown.base_map.draw(axes)
    _members_bar(figure, axes, shown)
    note = f"{shown.basis}; contours of fields smoothed over {SMOOTHING:g} cells"
    return finish(figure, title=f"{shown.title}: outlines of {shown.event}", note=note, simulated=shown.simulated)


KINDS: dict[str, Callable[[ForecastField], bytes]] = {
    "stamps": draw_stamps,
    "mean": draw_mean,
    "spread": draw_spread,
    "probability": draw_probability,
    "paintball": draw_paintball,
    "spaghetti": draw_spaghetti,
}
OF_MEMBERS = frozenset({"stamps", "paintball", "spaghetti"})
"""Kinds that need members."""


def draw(kind: str, shown: ForecastField) -> bytes:
    """Draw a map of this kind as PNG.

    Raises:
        ValueError: The kind needs members, and the field has products alone.
    """
    with styled():
        return KINDS[kind](shown)


def coarsen(variable: Variable, values: Floats, factor: int) -> Floats:
    """Aggregate blocks of `factor` x `factor` cells: the mean or, for intermittent fields, the extreme value.

    The far edges are padded with the last row and column.

    Args:
        variable: Field; it decides the statistic.
        values: Field, (y, x).
        factor: Side of a block, cells.
    """
    if factor == 1:
        return values
    ny, nx = values.shape
    padded = np.pad(values, ((0, -ny % factor), (0, -nx % factor)), mode="edge")
    blocks = padded.reshape(padded.shape[0] // factor, factor, padded.shape[1] // factor, factor)
    if not variable.may_be_constant:
        return np.asarray(blocks.mean(axis=(1, 3)))
    return np.asarray(blocks.min(axis=(1, 3)) if variable.events_below else blocks.max(axis=(1, 3)))


def _how(variable: Variable) -> str:
    if not variable.may_be_constant:
        return "the mean of"
    return "the lowest of" if variable.events_below else "the highest of"


def _members(shown: ForecastField) -> Floats:
    if shown.members is None:
        raise ValueError("the forecast holds no members")
    return shown.members


def _single(shown: ForecastField, values: Floats, colours: Colours, label: str, what: str) -> bytes:
    figure, axes = _page(shown)
    image = _map(axes, shown, values, colours)
    _bar(figure, image, [axes], label)
    return finish(figure, title=f"{shown.title}: {what}", note=shown.basis, simulated=shown.simulated)


def _page(shown: ForecastField) -> tuple[Figure, Axes]:
    width, across = (8.4, 7.6) if shown.width is None else (shown.width, shown.width)
    figure = Figure(figsize=(width, 1.7 + across * _shape(shown)), dpi=shown.dots)
    return figure, figure.subplots()


def _map(axes: Axes, shown: ForecastField, values: Floats, colours: Colours, *, small: bool = False) -> Any:
    image = axes.imshow(
        values,
        origin="lower",
        extent=shown.base_map.extent,
        cmap=colours[0],
        norm=colours[1],
        interpolation="none",
    )
    shown.base_map.draw(axes, small=small)
    return image


def _bar(figure: Figure, image: Any, axes: list[Axes], label: str) -> None:
    bar = figure.colorbar(
        image, ax=axes, location="bottom", shrink=0.7, aspect=45, pad=0.015, extend="both", label=label
    )
    bar.ax.tick_params(labelsize=8)


def _members_bar(figure: Figure, axes: Axes, shown: ForecastField) -> None:
    from matplotlib.cm import ScalarMappable

    count = len(shown.numbers)
    scale = ScalarMappable(Normalize(-0.5, count - 0.5), member_colours(count))
    bar = figure.colorbar(scale, ax=axes, location="bottom", shrink=0.7, aspect=45, pad=0.015, label="member")
    indices = np.unique(np.linspace(0, count - 1, min(count, 11)).round().astype(int))
    bar.set_ticks([float(index) for index in indices], labels=[str(shown.numbers[index]) for index in indices])
    bar.ax.tick_params(labelsize=8)


def _outline(
    axes: Axes, shown: ForecastField, values: Floats, *, color: Any, linewidths: float, alpha: float = 1
) -> None:
    smooth = gaussian_filter(values.astype(float), SMOOTHING, mode="nearest")
    if smooth.min() < shown.threshold < smooth.max():
        axes.contour(
            shown.base_map.x,
            shown.base_map.y,
            smooth,
            [shown.threshold],
            colors=color,
            linewidths=linewidths,
            alpha=alpha,
        )


def _joined(shown: ForecastField, inches: float) -> int:
    """Side, cells, of the blocks that are aggregated."""
    return max(1, int(shown.base_map.grid.nx * PIXELS / (inches * shown.dots)))


def _shape(shown: ForecastField) -> float:
    """Height over width of the domain."""
    ny, nx = shown.base_map.grid.shape
    return float(np.clip(ny / nx, 0.3, 1.6))
