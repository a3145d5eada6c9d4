"""Write latest/index.html, a viewer of the newest forecast.

The page is static and loads nothing from other hosts. Each forecast's pictures have their own names and are written
before the page; those of the previous forecast stay until the next one, for pages that are still loading. Without
scripts the page shows the first kind of map of the first field.
"""

from __future__ import annotations

import hashlib
import os
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from itertools import groupby
from typing import Any

import numpy as np
from markupsafe import Markup

from convcast import __version__
from convcast.files import write_bytes
from convcast.forecasts.open import StoredForecast
from convcast.notation import HOUR, Hour
from convcast.operations.history import LeadScores, ScoreHistory
from convcast.operations.inventory import VERIFICATION
from convcast.operations.page.highlights import describe_highest
from convcast.operations.page.pictures import About, PagePicture, describe, draw_pictures, kinds_of, tidy
from convcast.settings import ProductSettings
from convcast.text import page_templates, printable
from convcast.variables import FIELDS
from convcast.verification.results.warnings import warnings_of_model
from convcast.workspace import Workspace

VERIFIED_HOURS = 24
"""Hours before the initial time whose verified forecasts are in the table of scores."""
ALWAYS = np.datetime64(0, "h")


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
    workspace: Workspace,
    init: Hour,
    leads: Sequence[int],
    history: ScoreHistory,
    *,
    max_age: float,
    fields: Sequence[str] = (),
    near: float = ProductSettings().neighbourhood,
) -> bool:
    """Write the page of a forecast, draw its missing pictures, and return whether the page changed.

    Args:
        workspace: Holds the forecast and the page.
        init: Initial time of the forecast.
        leads: Lead times to show, hours.
        history: Scores of earlier forecasts.
        max_age: Hours after `init` from which on the page marks the forecast as old.
        fields: Names of the fields to show; if empty, all.
        near: Radius of neighbourhood probabilities, km, for a forecast without products, which have their own.

    Raises:
        DamagedFileError: The forecast cannot be read.
    """
    source = StoredForecast.find(workspace, init)
    about = describe(source, fields, near)
    pictures = [] if about is None else list(draw_pictures(workspace, source, about, leads))
    text = _render(workspace, source, about, leads, pictures, history, max_age)
    path = workspace.page / "index.html"
    new = not path.is_file() or path.read_bytes() != text.encode()
    if new:
        write_bytes(path, text.encode())
    tidy(workspace.page, init, {picture.name for picture in pictures})
    return new


def _render(
    workspace: Workspace,
    source: StoredForecast,
    about: About | None,
    leads: Sequence[int],
    pictures: Sequence[PagePicture],
    history: ScoreHistory,
    max_age: float,
) -> str:
    environment = page_templates("convcast.operations.page")
    environment.filters["clock"] = _clock
    init = source.init
    scored = history.valid_within(VERIFIED_HOURS, init)
    script = (resources.files("convcast.operations.page") / "page.js").read_text(encoding="utf-8")
    report = workspace.verification(VERIFICATION) / "report.html"
    certificate = report.with_name("certificate.html")
    viewer = None if about is None or not pictures else _viewer(workspace, source, about, leads, pictures)
    return environment.get_template("page.html.jinja").render(
        init=init,
        leads=[(lead, init + lead * HOUR) for lead in leads],
        viewer=viewer,
        first=[
            picture for picture in pictures if (picture.field, picture.kind) == (pictures[0].field, pictures[0].kind)
        ],
        simulated=about is not None and about.simulated,
        made_by="model unknown" if about is None else about.made_by,
        members=0 if about is None else about.members,
        max_age=max_age,
        report=os.path.relpath(report, workspace.page) if report.is_file() else None,
        certificate=os.path.relpath(certificate, workspace.page) if certificate.is_file() else None,
        tables=[(lead, *_table(list(lines))) for lead, lines in groupby(scored, key=lambda one: one.lead)],
        last=None if scored else max((start for start, _ in history.scored(ALWAYS)), default=None),
        hours=VERIFIED_HOURS,
        script=Markup(script),
        script_hash=b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        version=__version__,
    )


def _viewer(
    workspace: Workspace, source: StoredForecast, about: About, leads: Sequence[int], pictures: Sequence[PagePicture]
) -> dict[str, Any]:
    """Return the data of the page's script: fields, kinds and leads, the pictures of each, sentences and warnings."""
    shown = [variable for variable in about.variables if any(p.field == variable.name for p in pictures)]
    path = source.products or source.members
    assert path is not None
    highest = describe_highest(path, source.init, shown, leads, near=about.near, simulated=about.simulated)
    folder = workspace.root / "verification"
    return {
        "fields": [{"name": v.name, "title": v.long_name, "highest": highest.get(v.name, "")} for v in shown],
        "kinds": [{"name": name, "title": title} for name, title in kinds_of(about, source, leads).items()],
        "leads": [{"hours": lead, "valid": _clock(source.init + lead * HOUR)} for lead in leads],
        "pictures": {
            f"{p.field} {p.kind} {p.lead}": {"name": p.name, "alt": p.alt, "width": p.width, "height": p.height}
            for p in pictures
        },
        "warnings": {
            f"{variable.name} {lead}": [
                printable(sentence) for sentence in warnings_of_model(folder, about.identity, variable, lead)
            ]
            for variable in shown
            for lead in leads
        },
    }


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
                units=variable.sign,
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
