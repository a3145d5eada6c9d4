"""`convcast calibrate`: learn from past forecasts how to calibrate the next ones."""

from __future__ import annotations

from typing import Annotated

import typer

from convcast.cli.common.console import table
from convcast.cli.common.session import Command, verb


@verb()
def calibrate(
    command: Command,
    until: Annotated[
        str | None, typer.Option("--until", help="Last valid hour to learn from (default: the newest analysis).")
    ] = None,
    days: Annotated[
        float | None, typer.Option("--days", min=0.1, help="Number of days to learn from (default: 5).")
    ] = None,
) -> None:
    """Learn maps of members by field, lead and regime from the forecasts of the last days and their analyses.

    Writes calibration/<hour>.json, named for the last hour that it was learnt from. With `sampling.calibration=true`,
    `convcast sample` calibrates forecasts that start at or after that hour, and never earlier ones.
    """
    from convcast.dataset import Dataset
    from convcast.files import lock
    from convcast.forecasts.calibration import EVERYWHERE, save_calibration
    from convcast.notation import parse_hour
    from convcast.verification.learn_calibration import learn

    workspace, settings = command.open({"verification": {"calibration_days": days}})
    with lock(workspace.lock("calibrate"), "learning a calibration in this workspace"):
        learnt = learn(
            workspace,
            Dataset.open(workspace.dataset),
            settings.verification,
            until=None if until is None else parse_hour(until),
        )
        path = save_calibration(learnt, workspace.calibrations)
    workspace.record("calibrate", first=learnt.first, last=learnt.last, cases=learnt.cases)
    rows = [
        [field, lead, regime, f"{one.factor:.2f}", f"{one.shift:+.2f}", str(one.points)]
        for field, leads in learnt.maps.items()
        for lead, maps in leads.items()
        for regime, one in maps.items()
        if regime == EVERYWHERE or len(leads) == 1
    ]
    command.terminal.result(
        {"calibration": str(path), **learnt.to_dict()},
        table("field", "lead", "regime", "factor", "shift", "points", rows=rows),
        f"learnt from {learnt.cases} forecasts from {learnt.first} until {learnt.last}: {path}",
    )
