"""Write latest/index.html: pictures of the newest forecast, and scores of the forecasts of the last day.

The page is static and loads nothing from other hosts. Each forecast's pictures have their own names and are written
before the page; those of the previous forecast stay until the next one, for pages that are still loading.
"""

from __future__ import annotations

import hashlib
import json
import re
import struct
from base64 import b64encode
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr
from markupsafe import Markup

from convcast import __version__
from convcast.files import write_bytes
from convcast.forecasts.open import StoredForecast, open_forecast
from convcast.notation import HOUR, Hour, compact, parse_numbers
from convcast.operations.history import LeadScores, ScoreHistory
from convcast.text import page_templates
from convcast.variables import FIELDS, REFC, Variable
from convcast.workspace import Workspace

if TYPE_CHECKING:
    from convcast.pictures.forecast import ForecastField

VERIFIED_HOURS = 24
"""Hours before the initial time whose verified forecasts are in the table of scores."""
ALWAYS = np.datetime64(0, "h")
STAMPS = 6
"""Maximum number of members shown as stamps."""
WIDTH, DOTS = 4.6, 240
"""Width (inches) and resolution (dots per inch) of the pictures, readable on a phone and on a large screen."""
PICTURE = re.compile(r"(\d{8}T\d{2})_[0-9a-f]{8}_\w+_f\d+_\w+\.png")

AGE = """(() => {
  const age = document.getElementById("age");
  const say = () => {
    const minutes = Math.floor((Date.now() - Date.parse(age.dataset.init)) / 60000);
    const old = minutes > 60 * Number(age.dataset.limit);
    const hours = Math.floor(minutes / 60);
    const long = hours < 48 ? hours + " h " + (minutes % 60) + " min" : Math.floor(hours / 24) + " days";
    age.textContent = old ? "OLD: started " + long + " ago. Newer ones should be here." : "Started " + long + " ago.";
    age.classList.toggle("old", old);
  };
  say();
  setInterval(say, 30000);
})();"""
"""The page's only script, which shows the forecast's age; the content security policy allows it by its hash."""


@dataclass(frozen=True)
class Picture:
    """A picture of the page; width and height are in pixels."""

    name: str
    caption: str
    alt: str
    width: int
    height: int


@dataclass(frozen=True)
class ScoreRow:
    """A row of the table of scores, as text."""

    field: str
    long_name: str
    units: str
    cases: int
    crps: str
    persistence: str
    skill: str
    spread_error: str


def write_page(
    workspace: Workspace, init: Hour, leads: Sequence[int], history: ScoreHistory, *, max_age: float
) -> bool:
    """Write the page of a forecast, draw its missing pictures, and return whether the page changed.

    Args:
        workspace: Holds the forecast and the page.
        init: Initial time of the forecast.
        leads: Lead times to show, hours.
        history: Scores of earlier forecasts.
        max_age: Hours after `init` from which the page says that the forecast is old.

    Raises:
        DamagedFileError: The forecast cannot be read.
    """
    source = StoredForecast.find(workspace, init)
    about = _about(source)
    pictures = {lead: list(_pictures(workspace, source, about, lead)) for lead in leads}
    text = _render(init, pictures, about, history, max_age)
    path = workspace.page / "index.html"
    new = not path.is_file() or path.read_bytes() != text.encode()
    if new:
        write_bytes(path, text.encode())
    _tidy(workspace.page, init, {picture.name for found in pictures.values() for picture in found})
    return new


@dataclass(frozen=True)
class _About:
    """The properties of a forecast that the page needs."""

    variable: Variable
    simulated: bool
    model: str
    members: int
    near: float | None
    """Radius of the neighbourhood probability, km; None where products do not have it."""
    mapped: bool
    """Whether the maps are drawn from products."""
    digest: str
    """Hash of everything that the pictures depend on; part of their names."""


def _about(source: StoredForecast) -> _About | None:
    """Read the properties of a forecast, or None where no file of it is left."""
    said: list[dict[str, Any]] = []
    names: list[str] = []
    count, near, mapped, variable = 0, None, False, REFC
    for path in filter(None, (source.members, source.products)):
        with open_forecast(path) as data:
            said.append(dict(data.attrs))
            names = sorted({str(name).split("_")[0] for name in data.data_vars} & set(FIELDS), key=list(FIELDS).index)
            variable = REFC if REFC.name in names else FIELDS[names[0]]
            if path == source.members:
                count = data.sizes["number"]
            else:
                mapped = variable.middle_threshold in data[f"{variable.name}_threshold"].values
                near = float(data.attrs["neighbourhood_km"]) if mapped else None
                count = count or _count(data)
    if not said:
        return None
    identity = json.dumps([__version__, said, count], sort_keys=True, default=str)
    return _About(
        variable=variable,
        simulated=bool(said[0].get("simulated", 0)),
        model=str(said[0].get("model", "unknown")),
        members=count,
        near=near,
        mapped=mapped,
        digest=hashlib.sha256(identity.encode()).hexdigest()[:8],
    )


def _count(products: xr.Dataset) -> int:
    return len(parse_numbers(str(products.attrs["members"]), "members"))


def _pictures(workspace: Workspace, source: StoredForecast, about: _About | None, lead: int) -> Iterator[Picture]:
    """Yield the pictures of one lead, drawing those that are missing."""
    if about is None:
        return
    captions = _captions(about, source)
    stem = f"{compact(source.init)}_{about.digest}_{about.variable.name}_f{lead:02d}"
    paths = {kind: workspace.page / f"{stem}_{kind}.png" for kind in captions}
    missing = [kind for kind, path in paths.items() if not path.is_file()]
    for kind, png in _draw(workspace, source, about, lead, missing) if missing else ():
        write_bytes(paths[kind], png)
    valid = f"{_clock(source.init + lead * HOUR)} UTC"
    for kind, path in paths.items():
        if path.is_file():
            with open(path, "rb") as file:
                width, height = struct.unpack(">II", file.read(24)[16:])
            yield Picture(path.name, captions[kind], f"Map, {valid}: {captions[kind]}", width, height)


def _captions(about: _About, source: StoredForecast) -> dict[str, str]:
    """Return the captions of the pictures that can be drawn, by kind, in the order of the page."""
    variable = about.variable
    event = variable.event(variable.middle_threshold)
    found = {"probability": f"Probability of {event} at each point: the share of {about.members} members with it."}
    if about.near is not None:
        found["near"] = f"Probability of {event} somewhere within {about.near:g} km."
    found |= {
        "mean": f"Ensemble mean of {variable.long_name}, smoother than any weather.",
        "spread": "Spread: the standard deviation of the members.",
    }
    if source.members is not None:
        shown = min(STAMPS, about.members)
        found["stamps"] = f"{shown} of {about.members} members: each is one way in which it may come."
    return found


def _draw(
    workspace: Workspace, source: StoredForecast, about: _About, lead: int, kinds: Sequence[str]
) -> Iterator[tuple[str, bytes]]:
    """Yield kinds and PNGs. Maps are drawn from products where possible, which takes less memory than members."""
    from convcast.forecasts.plot import select_maps, with_neighbourhood
    from convcast.pictures.forecast import draw

    maps = (
        StoredForecast(source.init, None, source.products)
        if about.mapped
        else StoredForecast(source.init, source.members, None)
    )
    variables, hours = [about.variable], [lead]
    wanted = [kind for kind in kinds if kind not in ("near", "stamps")]
    if wanted or "near" in kinds:
        for shown, _ in select_maps(workspace, maps, variables, hours, threshold=None, kinds=wanted, chosen=False):
            for kind in wanted:
                yield kind, draw(kind, _narrow(shown))
            if "near" in kinds and maps.products is not None:
                yield "near", draw("probability", _narrow(with_neighbourhood(shown, maps.products)))
    if "stamps" in kinds:
        few = StoredForecast(source.init, source.members, None)
        for shown, _ in select_maps(
            workspace, few, variables, hours, threshold=None, kinds=["stamps"], chosen=False, most=STAMPS
        ):
            of = f"the first of {about.members}; {shown.source}"
            yield "stamps", draw("stamps", replace(_narrow(shown), source=of))


def _narrow(shown: ForecastField) -> ForecastField:
    return replace(shown, width=WIDTH, dots=DOTS)


def _render(
    init: Hour, pictures: dict[int, list[Picture]], about: _About | None, history: ScoreHistory, max_age: float
) -> str:
    environment = page_templates("convcast.operations")
    environment.filters["clock"] = _clock
    scored = history.valid_within(VERIFIED_HOURS, init)
    return environment.get_template("page.html.jinja").render(
        init=init,
        leads=[(lead, init + lead * HOUR, found) for lead, found in pictures.items()],
        simulated=about is not None and about.simulated,
        model="unknown" if about is None else about.model,
        members=0 if about is None else about.members,
        max_age=max_age,
        tables=[(lead, *_table(list(lines))) for lead, lines in groupby(scored, key=lambda one: one.lead)],
        last=None if scored else max((start for start, _ in history.scored(ALWAYS)), default=None),
        hours=VERIFIED_HOURS,
        script=Markup(AGE),
        script_hash=b64encode(hashlib.sha256(AGE.encode()).digest()).decode(),
        version=__version__,
    )


def _table(scored: list[LeadScores]) -> tuple[Hour, Hour, list[ScoreRow]]:
    """Return the first and last valid time of some scores, and the rows of their table."""
    lines = []
    for one in scored:
        variable = FIELDS[one.field]
        theirs, skill = one.persistence or (None, None)
        lines.append(
            ScoreRow(
                field=one.field.upper(),
                long_name=variable.long_name,
                units=variable.units,
                cases=one.cases,
                crps=f"{one.crps:.3g}",
                persistence="–" if theirs is None else f"{theirs:.3g}",
                skill="–" if skill is None else f"{100 * skill:+.0f}",
                spread_error=f"{one.spread_error_ratio:.2f}",
            )
        )
    return min(one.first for one in scored), max(one.last for one in scored), lines


def _clock(hour: Hour) -> str:
    """Format an hour as `2024-05-06 21:00`."""
    return f"{hour}:00".replace("T", " ")


def _tidy(folder: Path, init: Hour, names: set[str]) -> None:
    """Delete the pictures of forecasts before the previous one."""
    of = {path: match[1] for path in folder.glob("*.png") if (match := PICTURE.fullmatch(path.name))}
    now = compact(init)
    before = max((start for start in of.values() if start < now), default=now)
    for path, start in of.items():
        if path.name not in names and start not in (now, before):
            path.unlink(missing_ok=True)
