"""Pictures of the page: maps of each field and lead, drawn once for each forecast."""

from __future__ import annotations

import hashlib
import json
import re
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import xarray as xr

from convcast import __version__
from convcast.files import write_bytes
from convcast.forecasts.open import StoredForecast, made_by, model_identity, open_forecast
from convcast.notation import compact, parse_numbers
from convcast.variables import FIELDS, REFC, Variable
from convcast.verification.results.warnings import warnings_of_model
from convcast.workspace import Workspace

if TYPE_CHECKING:
    from convcast.pictures.forecast_field import ForecastField

STAMPS = 6
"""Maximum number of members shown as stamps."""
WIDTH, DOTS = 4.6, 170
"""Width (inches) and resolution (dots per inch) of the pictures, readable on a phone and on a large screen."""
PICTURE = re.compile(r"(\d{8}T\d{2})_[0-9a-f]{8}_\w+_f\d+_[\w-]+\.png")
ANY_TIME = "any-time-neighbourhood"
"""Kind of map that only reflectivity has, from the second lead on."""
MAPS = ("neighbourhood", "probability", "mean", "spread", ANY_TIME)
"""Kinds of maps that can be drawn from products, in the order of the page."""
DRAWING = 5
"""Version of the drawing; after a change the pictures of the newest forecast are drawn again."""


@dataclass(frozen=True)
class About:
    """The properties of a forecast that the page needs."""

    variables: tuple[Variable, ...]
    """Fields that are shown, in their order."""
    simulated: bool
    made_by: str
    """Words that name the model or method that made the members."""
    identity: str
    """Name of what made the members in verifications; empty if it is unknown."""
    members: int
    near: float
    """Radius of the neighbourhood probability, km."""
    digest: str
    """Hash of everything that the pictures depend on; part of their names."""


@dataclass(frozen=True)
class PagePicture:
    """A picture of the page; width and height are in pixels."""

    name: str
    field: str
    lead: int
    kind: str
    alt: str
    width: int
    height: int


def describe(source: StoredForecast, fields: Sequence[str], near: float) -> About | None:
    """Read the properties of a forecast; None if none of its files is left.

    Args:
        source: The forecast.
        fields: Names of the fields to show, in order; all fields if it is empty or the forecast has none of them.
        near: Radius of neighbourhood probabilities, km, where there are no products.

    Raises:
        DamagedFileError: A file cannot be read.
    """
    attributes: list[dict[str, Any]] = []
    names: set[str] = set()
    count = 0
    for path in filter(None, (source.members, source.products)):
        with open_forecast(path) as data:
            attributes.append(dict(data.attrs))
            names |= {str(name).split("_")[0] for name in data.data_vars} & set(FIELDS)
            if path == source.members:
                count = data.sizes["number"]
            else:
                near = float(data.attrs["neighbourhood_km"])
                count = count or _count(data)
    if not attributes:
        return None
    order = [name for name in fields if name in names] or sorted(
        names, key=lambda name: (name != REFC.name, list(FIELDS).index(name))
    )
    return About(
        variables=tuple(FIELDS[name] for name in order),
        simulated=bool(attributes[0].get("simulated", 0)),
        made_by=made_by(attributes[0]),
        identity=model_identity(attributes[0]),
        members=count,
        near=near,
        digest=_hash([__version__, DRAWING, attributes, count, near]),
    )


def _count(products: xr.Dataset) -> int:
    return len(parse_numbers(str(products.attrs["members"]), "members"))


def kinds_of(about: About, source: StoredForecast, leads: Sequence[int]) -> dict[str, str]:
    """Return the kinds of maps of a forecast, in the order of the page, and their names.

    Args:
        about: Properties of the forecast.
        source: Files of the forecast.
        leads: Lead times that are shown, hours.
    """
    kinds = {
        "neighbourhood": f"Probability within {about.near:g} km",
        "probability": "Probability at the point",
        "mean": "Mean",
        "spread": "Spread",
    }
    if len(leads) > 1:
        kinds[ANY_TIME] = f"At any hour so far, within {about.near:g} km"
    if source.members is not None:
        kinds["stamps"] = f"{min(STAMPS, about.members)} of {about.members} members"
    return kinds


def draw_pictures(
    workspace: Workspace, source: StoredForecast, about: About, leads: Sequence[int]
) -> Iterator[PagePicture]:
    """Draw the pictures that are missing, and yield all, by field and lead.

    Each picture carries the warnings of the newest verification of the model. Pictures are drawn again when a warning
    appears or disappears, but not when only its numbers change.

    Args:
        workspace: The workspace, in whose page folder the pictures are.
        source: Files of the forecast.
        about: Properties of the forecast.
        leads: Lead times that are shown, hours.
    """
    from convcast.pictures.forecast import draw

    kinds = kinds_of(about, source, leads)
    for variable in about.variables:
        for lead in leads:
            warnings = warnings_of_model(workspace.root / "verification", about.identity, variable, lead)
            digest = about.digest if not warnings else _hash([about.digest, [text.split()[0] for text in warnings]])
            stem = f"{compact(source.init)}_{digest}_{variable.name}_f{lead:02d}"
            whole = variable is REFC and lead > min(leads)
            paths = {kind: workspace.page / f"{stem}_{kind}.png" for kind in kinds if kind != ANY_TIME or whole}
            missing = [kind for kind, path in paths.items() if not path.is_file()]
            for kind, shown in _select(workspace, source, about, variable, lead, missing) if missing else ():
                dressed = replace(shown, width=WIDTH, dots=DOTS, warnings=tuple(warnings))
                write_bytes(paths[kind], draw(kind, dressed))
            for kind, path in paths.items():
                if path.is_file():
                    with open(path, "rb") as file:
                        width, height = struct.unpack(">II", file.read(24)[16:])
                    alt = f"{kinds[kind]}: {variable.long_name}, {lead} h ahead"
                    yield PagePicture(path.name, variable.name, lead, kind, alt, width, height)


def _select(
    workspace: Workspace, source: StoredForecast, about: About, variable: Variable, lead: int, kinds: Sequence[str]
) -> Iterator[tuple[str, ForecastField]]:
    """Yield kinds with the fields that they show, from products where possible, which take less memory than members."""
    from convcast.forecasts.plot import select_maps

    maps = StoredForecast(source.init, None if source.products else source.members, source.products)
    of_maps = [kind for kind in kinds if kind in MAPS]
    if of_maps:
        for shown, possible in select_maps(
            workspace, maps, [variable], [lead], threshold=None, kinds=of_maps, chosen=False, radius=about.near
        ):
            for kind in possible:
                yield kind, shown
    if "stamps" in kinds:
        few = StoredForecast(source.init, source.members, None)
        for shown, _ in select_maps(
            workspace, few, [variable], [lead], threshold=None, kinds=["stamps"], chosen=False, most=STAMPS
        ):
            yield "stamps", replace(shown, source=f"the first of {about.members}; {shown.source}")


def _hash(parts: Sequence[Any]) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()[:8]


def tidy(folder: Path, init: Any, names: set[str]) -> None:
    """Delete the pictures of forecasts before the previous one.

    Args:
        folder: The folder of the page.
        init: Initial time of the newest forecast.
        names: Names of pictures that are kept.
    """
    of = {path: match[1] for path in folder.glob("*.png") if (match := PICTURE.fullmatch(path.name))}
    now = compact(init)
    before = max((start for start in of.values() if start < now), default=now)
    for path, start in of.items():
        if path.name not in names and start not in (now, before):
            path.unlink(missing_ok=True)
