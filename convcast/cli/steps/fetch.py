"""`convcast fetch`: fetch hourly analyses into the archive."""

from __future__ import annotations

import tempfile
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from convcast.cli.common.choices import refuse_changes, remembered
from convcast.cli.common.console import Terminal, size, table
from convcast.cli.common.session import Command, given, verb
from convcast.errors import MissingInputError, NotPublishedError, SettingsError

if TYPE_CHECKING:
    from convcast.archive import FetchOutcome


@verb()
def fetch(
    command: Command,
    days: Annotated[int | None, typer.Option("--days", min=1, max=5000, help="The last N days (default: 14).")] = None,
    start: Annotated[str | None, typer.Option("--start", help="First valid hour, as 2024-05-06T21 (UTC).")] = None,
    end: Annotated[str | None, typer.Option("--end", help="Last valid hour.")] = None,
    what: Annotated[
        str,
        typer.Option(
            "--what",
            help="hrrr: analyses; mrms: radar scans to verify against; or forecasts to compare with: time-lagged "
            "(older HRRR forecasts), refs, href, hrrrcast.",
        ),
    ] = "hrrr",
    leads: Annotated[
        str | None, typer.Option("--leads", help="Hours ahead, of forecasts to compare with (default: 1-6).")
    ] = None,
    only: Annotated[
        str | None, typer.Option("--only", help="With --what refs or hrrrcast: members, or products (default: both).")
    ] = None,
    source: Annotated[
        list[str] | None,
        typer.Option(
            "--source",
            help="aws, google, azure, nomads, simulated, a directory, or an http address laid out like NOAA's bucket; "
            "repeated: tried in this order.",
        ),
    ] = None,
    fields: Annotated[str | None, typer.Option("--fields", help="Fields, as refc,t2m,cape (default: all).")] = None,
    analysis_lead: Annotated[
        int | None, typer.Option("--analysis-lead", help="1 where only f01 files exist (default: 0).")
    ] = None,
    dewpoint: Annotated[
        str | None,
        typer.Option("--dewpoint", help="analysis, or previous_f01: D2M of the cycle before (default: analysis)."),
    ] = None,
    max_missing: Annotated[
        float | None, typer.Option("--max-missing", help="Fraction of hours that may be missing before exit code 3.")
    ] = None,
    preset: Annotated[str | None, typer.Option("--preset", help="For a new workspace: phase1, phase2 or demo.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be fetched, and its size.")] = False,
    verify: Annotated[bool, typer.Option("--verify", help="Check the hashes of all archived files.")] = False,
    now: Annotated[str | None, typer.Option("--now", hidden=True, help="As for `convcast cycle`.")] = None,
) -> None:
    """Fetch hourly HRRR analyses: only the needed messages, by byte range.

    If there is no workspace, one is made, which keeps these --preset, --source, --fields, --analysis-lead and
    --dewpoint. An hour takes about 10 MB, and 14 days of all seven fields 3.3 GB. The same command fetches later what
    is still missing.

    With model.forcing=hrrr, the HRRR forecasts that force a model started from these hours are fetched too.

    With --what, it fetches other forecasts or radar scans for `convcast verify --against` and `--truth mrms`, for the
    same hours. A scan is the one nearest the hour, within five minutes.
    """
    import numpy as np

    from convcast.archive import (
        Forcing,
        analyses,
        estimate,
        fetch as fetch_hours,
        fetch_files,
        latest,
        open_archives,
        open_sources,
        reference_ensembles,
        scans,
        verify_archive,
    )
    from convcast.files import lock
    from convcast.notation import HOUR, describe, hours_between, parse_hour, parse_hours, parse_leads, parse_time
    from convcast.variables import select
    from convcast.workspace import SETTINGS_FILE, Workspace, create_workspace, open_workspace

    terminal = command.terminal
    if (days is not None and start) or (end and not start):
        raise SettingsError(
            "--days does not go with --start, and --end needs --start",
            advice="use --days 14, or --start and --end",
        )
    _check(what, leads, only)
    ahead = parse_leads(leads) if leads else reference_ensembles.LEADS
    chosen: dict[str, dict[str, Any]] = {
        "dataset": {
            "fields": fields.split(",") if fields else None,
            "analysis_lead": analysis_lead,
            "dewpoint": dewpoint,
        },
        "archive": {"sources": source or None, "max_missing": max_missing},
    }
    root = command.root
    file = root / SETTINGS_FILE
    settings = command.settings(file if file.is_file() else None, chosen, preset=preset)
    if what in ("refs", "href") and "simulated" in settings.archive.sources:
        raise SettingsError(
            f"the simulated world has no {what}; its exact ensemble and its own forecasts are what to compare with",
            advice="use `convcast verify --against exact`, or fetch --what time-lagged or hrrrcast",
        )
    if verify:
        archives = open_archives(open_workspace(root).archive)
        rehashed = (outcome for archive in archives.values() for outcome in verify_archive(archive))
        outcomes = list(terminal.track(rehashed, total=None, title="verify", line=_describe))
        _finish(terminal, outcomes, f"{root}", allowed=0.0, unit="files")
        return

    if file.is_file():
        refuse_changes(file, preset=preset, flags={"dataset": chosen["dataset"]})
    variables = select(settings.dataset.fields)
    lead, dewpoint_source = settings.dataset.analysis_lead, settings.dataset.dewpoint
    asked = parse_hours(f"{start}/{end}") if start and end else None
    first_asked = parse_hour(start) if start else None
    current = parse_time(now) if now else np.datetime64("now")
    tables = given({"dataset": chosen["dataset"], "archive": {"sources": remembered(source) if source else None}})
    with ExitStack() as until_the_end:
        workspace = Workspace(root)
        if "simulated" in settings.archive.sources:  # the simulated archive publishes its files into the workspace
            if dry_run:
                published = until_the_end.enter_context(tempfile.TemporaryDirectory(prefix="convcast-dry-run-"))
                publisher = Workspace(Path(published))
            else:
                publisher = workspace = create_workspace(root, preset=settings.preset, tables=tables)
        else:
            publisher = workspace
        sources = until_the_end.enter_context(
            open_sources(settings.archive.sources, workspace=publisher, settings=settings)
        )
        archives = open_archives(workspace.archive)
        if asked is not None:
            hours = asked
        else:
            last = latest(sources, lead=lead)
            hours = hours_between(last - ((days or 14) * 24 - 1) * HOUR if first_asked is None else first_asked, last)
        if not dry_run:
            workspace = create_workspace(root, preset=settings.preset, tables=tables)
        asked_for = "refc" if what == "mrms" else " ".join(v.name for v in variables)
        terminal.say(f"{what}, {describe(hours)} of {asked_for} into {root}")
        options: dict[str, Any] = {"settings": settings.archive, "now": current}
        if what == "hrrr":
            hrrr = archives["hrrr"]
            forcing = Forcing.of(settings.model, settings.dataset.analysis_lead)
            wanted: dict[str, Any] = {"variables": variables, "lead": lead, "dewpoint": dewpoint_source}
            requests = analyses(hrrr, hours, **wanted, forcing=forcing)
            static = settings.dataset.ground == "archive"
            units = fetch_hours(hrrr, sources, hours, **wanted, forcing=forcing, static=static, **options)
            unit = "hours" if len(settings.dataset.leads) == 1 and forcing is None else "files"
            if forcing is not None:
                ahead_of = ", ".join(map(str, forcing.hrrr_leads))
                terminal.say(f"model.forcing=hrrr: also HRRR's forecasts of {ahead_of} h, which force the model")
        elif what == "mrms":
            requests = scans.requests(archives["mrms"], hours)
            units, unit = fetch_files(requests, sources, **options), "scans"
        else:
            names = [v.name for v in variables]
            parts = {"members": only != "products", "derived": only != "members"}
            requests = reference_ensembles.requests(what, archives, hours, ahead, names, **parts)
            if not requests:
                raise SettingsError(
                    f"no cycle of {what} has forecasts of these hours at leads {', '.join(map(str, ahead))} h",
                    advice="choose other hours or --leads; docs/archive.md has the cycles and their last leads",
                )
            units, unit = fetch_files(requests, sources, **options), "files"
        progress: dict[str, Any] = {
            "total": len(requests),
            "line": lambda outcome: None if outcome.status == "cached" else _describe(outcome),
        }
        if dry_run:
            outcomes = list(terminal.track(estimate(requests, sources, **options), title="dry run", **progress))
            _finish_dry_run(terminal, outcomes, allowed=settings.archive.max_missing, unit=unit)
            return
        with lock(workspace.lock("fetch"), "fetching into this workspace"):
            outcomes = []
            for outcome in terminal.track(units, title="fetch", **progress):
                outcomes.append(outcome)
                if outcome.status != "cached":
                    entry = {"status": outcome.status, "reason": outcome.reason, "file": outcome.file}
                    workspace.record("fetch", valid=str(outcome.valid), **entry)
    _finish(terminal, outcomes, str(root), allowed=settings.archive.max_missing, unit=unit)


def _check(what: str, leads: str | None, only: str | None) -> None:
    """Raise SettingsError for options that do not go together."""
    from convcast.archive.reference_ensembles import SYSTEMS

    if what not in ("hrrr", "mrms", *SYSTEMS):
        raise SettingsError(f"there is no --what {what}", advice=f"use hrrr, mrms, {', '.join(SYSTEMS)}")
    if what in ("hrrr", "mrms") and leads:
        raise SettingsError(
            "--leads needs --what with forecasts to compare with", advice="add --what time-lagged, or leave --leads out"
        )
    if only is not None and (what not in ("refs", "hrrrcast") or only not in ("members", "products")):
        raise SettingsError(
            f"--only {only} does not go with --what {what}",
            advice="use --what refs or hrrrcast, with --only members or products",
        )


def _describe(outcome: FetchOutcome) -> str:
    analysis = not outcome.file or (outcome.file.startswith("hrrr.") and outcome.file.endswith("f00.grib2"))
    what = (
        str(outcome.valid) if analysis and outcome.valid == outcome.valid else outcome.file
    )  # NaT is not equal to itself
    if outcome.reason:
        return f"{what} {outcome.status}: {outcome.reason}"
    return f"{what} {outcome.status}" + (f" {size(outcome.bytes)} from {outcome.source}" if outcome.bytes else "")


def _finish_dry_run(terminal: Terminal, outcomes: list[FetchOutcome], *, allowed: float, unit: str) -> None:
    wanted = [outcome for outcome in outcomes if outcome.status == "ok"]
    value = {
        unit: len(outcomes),
        "cached": sum(outcome.status == "cached" for outcome in outcomes),
        "to_fetch": len(wanted),
        "messages": sum(outcome.messages for outcome in wanted),
        "bytes": sum(outcome.bytes for outcome in wanted),
    }
    absent = len(outcomes) - value["cached"] - len(wanted)
    terminal.result(
        value,
        f"{len(outcomes)} {unit}: {value['cached']} already here, {absent} not to be had; "
        f"to fetch: {len(wanted)} {unit}, {value['messages']} messages, {size(value['bytes'])}",
    )
    _judge(terminal, outcomes, allowed=allowed, unit=unit)


def _finish(terminal: Terminal, outcomes: list[FetchOutcome], where: str, *, allowed: float, unit: str) -> None:
    """Print the counts of outcomes, and raise if too many hours are missing."""
    counts = Counter(outcome.status for outcome in outcomes)
    fetched = sum(outcome.bytes for outcome in outcomes if outcome.status == "ok")
    value = {
        "workspace": where,
        unit: len(outcomes),
        "bytes": fetched,
        "counts": dict(counts),
        "outcomes": [{"valid": str(o.valid), "status": o.status, "reason": o.reason, "file": o.file} for o in outcomes],
    }
    terminal.result(
        value,
        table(unit, *counts, rows=[[str(len(outcomes)), *(str(n) for n in counts.values())]]),
        f"{size(fetched)} fetched into {where}",
    )
    _judge(terminal, outcomes, allowed=allowed, unit=unit)


def _judge(terminal: Terminal, outcomes: list[FetchOutcome], *, allowed: float, unit: str) -> None:
    """Report what is missing; raise NotPublishedError or MissingInputError if it exceeds the allowed fraction."""
    troubles = [outcome for outcome in outcomes if outcome.status not in ("ok", "cached")]
    if not troubles:
        return
    first = troubles[0]
    summary = f"{len(troubles)} of {len(outcomes)} {unit} are not here; the first is {first.valid}, {first.status}"
    if first.reason:
        summary += f" ({first.reason})"
    if {o.status for o in troubles} == {"late"}:
        if len(troubles) == len(outcomes):
            raise NotPublishedError(summary, advice="try again in some minutes")
        terminal.say(f"{summary}: not published yet")
    elif len(troubles) > allowed * len(outcomes):
        raise MissingInputError(summary, advice="run the same command again, or allow more with --max-missing")
    else:
        terminal.warn(summary)
