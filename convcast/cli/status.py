"""`convcast status`: what a workspace holds, how it stands, and whether that is good enough."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from convcast.cli.session import Command, verb

if TYPE_CHECKING:
    from rich.table import Table

    from convcast.operations.status import WorkspaceStatus
    from convcast.settings import Settings
    from convcast.workspace import Workspace

Rows = list[tuple[str, str]]


@verb()
def status(
    command: Command,
    check: Annotated[
        bool, typer.Option("--check", help="Exit with 4 where the newest forecast is older than --max-age.")
    ] = False,
    max_age: Annotated[
        str, typer.Option("--max-age", help="Since the initial time of the newest forecast, as 2h or 90m.")
    ] = "3h",
    model: Annotated[str | None, typer.Option("--model", help="The model's name (default: its preset).")] = None,
    now: Annotated[str | None, typer.Option("--now", help="As of `convcast cycle`.")] = None,
) -> None:
    """Show what is complete, what is late or missing, the disk, the last cycle, recent skill, and how training went.

    With --check it is for monitoring: silent with -q, and the exit code says it.
    """
    from convcast.cli.console import duration, table
    from convcast.cli.curve import draw_loss, read_log
    from convcast.errors import NotPublishedError
    from convcast.notation import parse_duration
    from convcast.operations.inventory import InventoryReader
    from convcast.operations.status import assess, current_time

    terminal = command.terminal
    limit = parse_duration(max_age, "h")
    session = command.open()
    workspace = session.workspace
    clock = current_time(now, session.settings, session.workspace)
    standing = assess(InventoryReader(workspace, session.settings, model=model), clock)
    age = standing.age
    old = age is None or age > limit
    value: dict[str, Any] = {"workspace": str(workspace.root), "settings": session.settings.digest()}
    value |= {"operations": standing.to_dict() | {"too_old": old}}
    if terminal.as_json or not (check and terminal.quiet):
        rows, held = _held(workspace, session.settings)
        value |= held
        rows += _standing(standing)
        if not standing.last and workspace.last_cycle.exists():
            rows.append(("last cycle", f"{workspace.last_cycle} is damaged; the next `convcast cycle` replaces it"))
        shown: list[Table | str] = [table("", "", title=str(workspace.root), rows=rows, left=2), *_skill(standing)]
        logs = sorted((workspace.root / "models").glob("*/log.jsonl"), key=lambda path: path.stat().st_mtime)
        if logs:
            reports = read_log(logs[-1])
            value["training"] = {"model": logs[-1].parent.name, **(reports[-1] if reports else {})}
            if len(reports) > 1:
                shown += ["", f"loss of {logs[-1].parent.name}", *draw_loss(reports).splitlines()]
        terminal.result(value, *shown)
    if check and old:
        newest = "there is no complete forecast"
        if age is not None:
            newest = f"the newest forecast, of {standing.forecast}, is {duration(age)} old, more than {duration(limit)}"
        raise NotPublishedError(newest, advice="look at `convcast status` and the journal's last lines")


def _held(workspace: Workspace, settings: Settings) -> tuple[Rows, dict[str, Any]]:
    """What lies in the rooms."""
    from convcast.archive import Archive
    from convcast.cli.console import size
    from convcast.dataset import Dataset
    from convcast.errors import ConvcastError
    from convcast.files import folder_bytes
    from convcast.notation import describe

    hours = Archive(workspace.archive / "hrrr").hours(settings.dataset.analysis_lead)
    rows: Rows = [("archive", describe(hours))]
    value: dict[str, Any] = {"archive_hours": len(hours)}
    try:
        dataset = Dataset.open(workspace.dataset)
        rejected = {h: v["reason"] for h, v in dataset.verdicts().items() if v["status"] == "rejected"}
        text = describe(dataset.hours) + (f", {len(rejected)} rejected" if rejected else "")
        rows.append(("dataset", f"{text}{', simulated' if dataset.simulated else ''}"))
        value |= {"dataset_hours": len(dataset.hours), "simulated": dataset.simulated}
        value["rejected"] = [{"valid": str(hour), "reason": reason} for hour, reason in rejected.items()]
        rows.extend(("", f"{hour}: {reason}") for hour, reason in list(rejected.items())[:5])
    except ConvcastError as error:
        rows.append(("dataset", str(error)))
    for title, folder, pattern in (
        ("models", workspace.root / "models", "*/model.safetensors"),
        ("forecasts", workspace.forecasts, "*.zarr"),
        ("products", workspace.products, "*.zarr"),
        ("verifications", workspace.root / "verification", "*/scores.json"),
    ):
        found = sorted(path if pattern == "*.zarr" else path.parent for path in folder.glob(pattern))
        rows.append((title, f"{len(found)}" + (f", newest {found[-1].name}" if found else "")))
        value[title] = [path.name for path in found]
    used = folder_bytes(workspace.root)
    rows.append(("disk", size(used)))
    value["bytes"] = used
    return rows, value


def _standing(standing: WorkspaceStatus) -> Rows:
    """How the workspace stands: the newest forecast, what is late, gaps, the disk, the last cycle."""
    from convcast.cli.console import duration, size
    from convcast.operations.stages import stage_seconds
    from convcast.operations.status import describe_hours

    rows: Rows = [("", f"{size(standing.free)} free")]
    last = standing.last
    if standing.age is not None:
        rows.append(("newest", f"forecast of {standing.forecast}, {duration(standing.age)} old"))
    rows.extend(("", sentence) for sentence in standing.ignored_files)
    if not last:
        return rows
    if standing.late:
        rows.append(("late", f"{describe_hours(standing.late)} should be published and is not here"))
    if standing.gaps:
        rows.append(("gaps", describe_hours(standing.gaps)))
    if standing.due:
        rows.append(("due", f"{standing.due} forecasts could be scored: `convcast cycle` will"))
    stages = ", ".join(f"{stage} {duration(seconds)}" for stage, seconds in stage_seconds(last).items() if seconds >= 1)
    rows.append(
        (
            "last cycle",
            f"{last['started']}, {last['outcome']}, {duration(last['seconds'])}{f': {stages}' * bool(stages)}",
        )
    )
    rows.extend(("", f"{one['stage']}: {one['said']}") for one in last["stages"] if one["code"] not in (0, 4))
    rows.extend(("", note) for note in last["notes"])
    return rows


def _skill(standing: WorkspaceStatus) -> list[Table | str]:
    """Recent skill by field, where forecasts have been scored."""
    from convcast.cli.console import table
    from convcast.variables import FIELDS

    if not standing.skill:
        return []
    others = sorted({name for one in standing.skill for name in one.skill})
    rows = [
        [
            f"{one.field}, {FIELDS[one.field].units}",
            str(one.cases),
            f"{one.crps:.3g}",
            *(f"{one.skill[name]:+.0%}" if name in one.skill else "-" for name in others),
            f"{one.spread_error_ratio:.2f}",
        ]
        for one in standing.skill
    ]
    title = "recent skill: mean fair CRPS, by how much it is better than a baseline's, and spread over error"
    return [
        "",
        table("field", "cases", "CRPS", *(f"than {name}" for name in others), "spread/error", title=title, rows=rows),
    ]
