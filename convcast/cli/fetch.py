"""`convcast fetch`: hourly analyses from a publisher into the archive."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from convcast.cli.session import (
    JsonOption,
    QuietOption,
    SetOption,
    VerboseOption,
    WorkspaceOption,
    given,
    verb,
    workspace_root,
)

if TYPE_CHECKING:
    from convcast.archive import Outcome
    from convcast.cli.console import Terminal


@verb
def fetch(
    days: Annotated[int | None, typer.Option("--days", min=1, help="The last N days [default: 14].")] = None,
    start: Annotated[str | None, typer.Option("--start", help="First hour, as 2024-05-06T21 (UTC).")] = None,
    end: Annotated[str | None, typer.Option("--end", help="Last hour.")] = None,
    source: Annotated[
        list[str] | None,
        typer.Option(
            "--source",
            help="aws, google, azure, nomads, simulated, a directory, or an http address laid out like NOAA's bucket; "
            "repeated: tried in this order.",
        ),
    ] = None,
    fields: Annotated[str | None, typer.Option("--fields", help="Fields, as refc,t2m,cape [default: all].")] = None,
    analysis_lead: Annotated[
        int | None, typer.Option("--analysis-lead", help="1 where only f01 files exist [default: 0].")
    ] = None,
    max_missing: Annotated[
        float | None, typer.Option("--max-missing", help="Share of hours that may be missing before exit code 3.")
    ] = None,
    preset: Annotated[str | None, typer.Option("--preset", help="For a new workspace: phase1, phase2 or demo.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be fetched, and how much.")] = False,
    verify: Annotated[bool, typer.Option("--verify", help="Hash again what the archive holds.")] = False,
    settings: SetOption = None,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
    verbose: VerboseOption = False,
    quiet: QuietOption = False,
) -> None:
    """Fetch hourly HRRR analyses: only the needed messages, by byte range.

    A new workspace is made where there is none, and keeps the --fields and --analysis-lead it was made with. About
    10 MB an hour, 3.3 GB for 14 days of all seven fields. Run again, it fetches what is still missing.
    """
    import numpy as np

    from convcast.archive import Archive, estimate, fetch as fetch_hours, latest, open_sources, verify_archive
    from convcast.cli.console import Terminal
    from convcast.errors import SettingsError
    from convcast.files import lock
    from convcast.notation import HOUR, describe, parse_hours
    from convcast.settings import load_settings
    from convcast.variables import select
    from convcast.workspace import SETTINGS_FILE, create_workspace, open_workspace

    terminal = Terminal(as_json=as_json, verbose=verbose, quiet=quiet)
    if (days is not None and start) or (end and not start):
        raise SettingsError("--days goes alone, --end goes with --start", advice="use --days 14, or --start and --end")
    chosen: dict[str, dict[str, Any]] = {
        "dataset": {"fields": fields.split(",") if fields else None, "analysis_lead": analysis_lead},
        "archive": {"sources": source or None, "max_missing": max_missing},
    }
    root = workspace_root(workspace)
    file = root / SETTINGS_FILE
    resolved = load_settings(file if file.is_file() else None, given(settings, chosen), preset=preset)
    place = (
        open_workspace(root)
        if verify
        else create_workspace(root, preset=resolved.preset, tables=given(None, {"dataset": chosen["dataset"]}))
    )
    archive = Archive(place.archive / "hrrr")
    if verify:
        outcomes = list(terminal.track(verify_archive(archive), total=None, title="verify", line=_describe))
        _finish(terminal, outcomes, f"{root}", allowed=0.0)
        return

    variables = select(resolved.dataset.fields)
    lead = resolved.dataset.analysis_lead
    with open_sources(resolved.archive.sources, workspace=place, settings=resolved) as sources:
        if start:
            hours = parse_hours(f"{start}/{end}") if end else parse_hours(f"{start}/{latest(sources, lead=lead)}")
        else:
            last = latest(sources, lead=lead)
            hours = parse_hours(f"{last - ((days or 14) * 24 - 1) * HOUR}/{last}")
        terminal.say(f"{describe(hours)} of {' '.join(v.name for v in variables)} into {root}")
        request: dict[str, Any] = {
            "variables": variables,
            "lead": lead,
            "settings": resolved.archive,
            "now": np.datetime64("now"),
        }
        if dry_run:
            _finish_dry_run(terminal, list(estimate(archive, sources, hours, **request)))
            return
        with lock(place.lock("fetch"), "fetching into this workspace"):
            units = fetch_hours(archive, sources, hours, **request)
            outcomes = []
            for outcome in terminal.track(
                units,
                total=len(hours),
                title="fetch",
                line=_describe,
            ):
                outcomes.append(outcome)
                if outcome.status != "cached":
                    place.record("fetch", valid=str(outcome.valid), status=outcome.status, reason=outcome.reason)
    _finish(terminal, outcomes, str(root), allowed=resolved.archive.max_missing)


def _describe(outcome: Outcome) -> str:
    from convcast.cli.console import size

    valid = "static fields" if outcome.valid != outcome.valid else str(outcome.valid)  # NaT is not itself
    if outcome.reason:
        return f"{valid} {outcome.status}: {outcome.reason}"
    return f"{valid} {outcome.status}" + (f" {size(outcome.bytes)} from {outcome.source}" if outcome.bytes else "")


def _finish_dry_run(terminal: Terminal, outcomes: list[Outcome]) -> None:
    from convcast.cli.console import size

    wanted = [outcome for outcome in outcomes if outcome.status == "ok"]
    value = {
        "hours": len(outcomes),
        "cached": sum(outcome.status == "cached" for outcome in outcomes),
        "to_fetch": len(wanted),
        "messages": sum(outcome.messages for outcome in wanted),
        "bytes": sum(outcome.bytes for outcome in wanted),
    }
    absent = len(outcomes) - value["cached"] - len(wanted)
    terminal.result(
        value,
        f"{value['hours']} hours: {value['cached']} already here, {absent} not to be had; "
        f"to fetch: {len(wanted)} hours, {value['messages']} messages, {size(value['bytes'])}",
    )


def _finish(terminal: Terminal, outcomes: list[Outcome], where: str, *, allowed: float) -> None:
    """Count the outcomes, print them, and leave with the exit code that they deserve."""
    from collections import Counter

    from convcast.cli.console import size, table
    from convcast.errors import MissingInputError, NotPublishedError

    counts = Counter(outcome.status for outcome in outcomes)
    fetched = sum(outcome.bytes for outcome in outcomes if outcome.status == "ok")
    troubles = [outcome for outcome in outcomes if outcome.status not in ("ok", "cached")]
    value = {
        "workspace": where,
        "hours": len(outcomes),
        "bytes": fetched,
        "counts": dict(counts),
        "troubles": [{"valid": str(o.valid), "status": o.status, "reason": o.reason} for o in troubles],
    }
    terminal.result(
        value,
        table("hours", *counts, rows=[[str(len(outcomes)), *(str(n) for n in counts.values())]]),
        f"{size(fetched)} fetched into {where}",
    )
    if not troubles:
        return
    first = troubles[0]
    summary = f"{len(troubles)} of {len(outcomes)} hours are not here; the first is {first.valid}, {first.status}"
    if first.reason:
        summary += f" ({first.reason})"
    if {o.status for o in troubles} == {"late"}:
        if not counts["ok"] and not counts["cached"]:
            raise NotPublishedError(summary, advice="try again in some minutes")
        terminal.say(f"{summary}: not published yet")
    elif len(troubles) > allowed * len(outcomes):
        raise MissingInputError(summary, advice="run the same command again, or allow more with --max-missing")
    else:
        terminal.warn(summary)
