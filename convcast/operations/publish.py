"""Write latest.json, which names the newest forecast and its files."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from convcast.errors import DamagedFileError
from convcast.files import read_json, write_json
from convcast.notation import HOUR, Hour
from convcast.operations.inventory import VERIFICATION, ForecastSummary
from convcast.workspace import Workspace


def publish(workspace: Workspace, init: Hour, forecast: ForecastSummary) -> tuple[dict[str, Any], bool]:
    """Point latest.json at a complete forecast; return its content and whether that is new.

    Paths are relative to the workspace, so that they are valid in a copy of it.

    Args:
        workspace: The workspace.
        init: Initial time of the forecast.
        forecast: Summary of the forecast, which has its leads and the number of its members.
    """
    ensemble, products = workspace.forecast(init), workspace.product(init)
    report = workspace.verification(VERIFICATION) / "report.html"
    document = {
        "init": str(init),
        "valid": [str(init + lead * HOUR) for lead in forecast.leads],
        "lead_hours": list(forecast.leads),
        "members": forecast.members or None,
        **{
            name: path.relative_to(workspace.root).as_posix() if path.exists() else None
            for name, path in (("forecast", ensemble), ("products", products), ("report", report))
        },
    }
    with suppress(FileNotFoundError, DamagedFileError):  # a damaged file is replaced
        if read_json(workspace.latest) == document:
            return document, False
    write_json(workspace.latest, document)
    return document, True
