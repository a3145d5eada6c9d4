"""`convcast status`: show what a workspace holds and whether its newest forecast is recent enough."""

from __future__ import annotations

from shutil import get_terminal_size
from typing import TYPE_CHECKING, Annotated, Any

import typer

from convcast.cli.common.console import duration, size, table
from convcast.cli.common.session import Command, ModelOption, verb
from convcast.errors import ConvcastError, NotPublishedError
from convcast.text import list_some

if TYPE_CHECKING:
    from rich.table import Table

    from convcast.dataset import Dataset
    from convcast.operations.status import WorkspaceStatus
    from convcast.settings import Settings
    from convcast.workspace import Workspace

Rows = list[tuple[str, str]]


@verb()
def status(
    command: Command,
    check: Annotated[
        bool, typer.Option("--check", help="Exit with 4 if the newest forecast is older than --max-age.")
    ] = False,
    max_age: Annotated[
        str, typer.Option("--max-age", help="Maximum time since the initial time of the newest forecast, as 2h or 90m.")
    ] = "3h",
    model: ModelOption = None,
    now: Annotated[str | None, typer.Option("--now", help="As for `convcast cycle`.")] = None,
) -> None:
    """Show what is complete, late or missing, the disk, the last cycle, recent skill and the training loss.

    For monitoring, use --check -q: it prints nothing, and the exit code is the answer.
    """
    from convcast.cli.common.curve import draw_loss, read_log
    from convcast.cli.common.validation import draw_validation, last_validation
    from convcast.notation import parse_duration
    from convcast.operations.inventory import InventoryReader
    from convcast.operations.status import assess, current_time

    terminal = command.terminal
    limit = parse_duration(max_age, "h")
    workspace, settings = command.open()
    clock = current_time(now, settings, workspace)
    status_now = assess(InventoryReader(workspace, settings, model=model), clock)
    age = status_now.age
    old = age is None or age > limit
    value: dict[str, Any] = {"workspace": str(workspace.root), "settings": settings.digest()}
    value |= {"operations": status_now.to_dict() | {"too_old": old}}
    if terminal.as_json or not (check and terminal.quiet):
        rows, held = _contents(workspace, settings)
        value |= held
        rows += _operations(status_now)
        if not status_now.last and workspace.last_cycle.exists():
            rows.append(("last cycle", f"{workspace.last_cycle} is damaged; the next `convcast cycle` replaces it"))
        shown: list[Table | str] = [table("", "", title=str(workspace.root), rows=rows, left=2), *_skill(status_now)]
        logs = sorted((workspace.root / "models").glob("*/log.jsonl"), key=lambda path: path.stat().st_mtime)
        if logs:
            reports = read_log(logs[-1])
            value["training"] = {"model": logs[-1].parent.name, **(reports[-1] if reports else {})}
            validated = last_validation(reports)
            if validated is not None:
                value["training"]["last_validation"] = validated["validation"] | {"step": validated["step"]}
                shown += draw_validation(logs[-1].parent.name, validated)
            if len(reports) > 1:
                shown += [
                    "",
                    f"loss of {logs[-1].parent.name}",
                    *draw_loss(reports, columns=get_terminal_size().columns).splitlines(),
                ]
        terminal.result(value, *shown)
    if check and old:
        newest = "there is no complete forecast"
        if age is not None:
            newest = (
                f"the newest forecast, of {status_now.forecast}, is {duration(age)} old, more than {duration(limit)}"
            )
        raise NotPublishedError(newest, advice="look at `convcast status` and the journal's last lines")


def _contents(workspace: Workspace, settings: Settings) -> tuple[Rows, dict[str, Any]]:
    """Describe what each folder of the workspace holds, as rows and as JSON."""
    from convcast.archive import Archive
    from convcast.dataset import Dataset
    from convcast.files import folder_bytes
    from convcast.notation import describe

    hours = Archive(workspace.archive / "hrrr").hours(*settings.dataset.leads)
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
        forcing_rows, value["forcing"] = _forcing(dataset)
        rows += forcing_rows
    except ConvcastError as error:
        rows.append(("dataset", str(error)))
    for title, folder, pattern in (
        ("models", workspace.root / "models", "*/model.safetensors"),
        ("forecasts", workspace.forecasts, "*.zarr"),
        ("products", workspace.products, "*.zarr"),
        ("verifications", workspace.root / "verification", "*/scores.json"),
    ):
        names = sorted((path if pattern == "*.zarr" else path.parent).name for path in folder.glob(pattern))
        rows.append((title, f"{len(names)}" + (f", newest {names[-1]}" if names else "")))
        value[title] = names
    reports = sorted((workspace.root / "verification").glob("**/report.html"), key=lambda path: path.stat().st_mtime)
    page = workspace.page / "index.html"
    for title, path in (("report", reports[-1] if reports else None), ("page", page if page.is_file() else None)):
        value[title] = None if path is None else str(path)
        if path is not None:
            rows.append((title, str(path)))
    used = folder_bytes(workspace.root)
    rows.append(("disk", size(used)))
    value["bytes"] = used
    return rows, value


def _forcing(dataset: Dataset) -> tuple[Rows, dict[str, Any] | None]:
    """Describe the HRRR forecasts in the dataset, as rows and as JSON; nothing if it has none."""
    from convcast.dataset import HourStatus

    if dataset.forecasts is None:
        return [], None
    counts = {
        status.name.lower(): sum(code == status for code in dataset.forecast_status.values())
        for status in (HourStatus.OK, HourStatus.GAP, HourStatus.REJECTED)
    }
    newest = max((f.cycle for f, code in dataset.forecast_status.items() if code == HourStatus.OK), default=None)
    text = f"{counts['ok']} HRRR forecasts, newest cycle {newest}" if newest is not None else "no HRRR forecasts"
    more = "".join(
        f", {counts[name]} {what}" for name, what in (("gap", "gaps"), ("rejected", "rejected")) if counts[name]
    )
    rows: Rows = [("forcing", text + more)]
    rejected = [
        {"cycle": str(f.cycle), "lead": f.lead, "reason": entry["reason"]}
        for f, entry in dataset.forecasts.verdicts().items()
        if entry.get("status") == "rejected"
    ]
    rows.extend(("", f"{one['cycle']} + {one['lead']} h: {one['reason']}") for one in rejected[:5])
    return rows, {"counts": counts, "newest_cycle": None if newest is None else str(newest), "rejected": rejected}


def _operations(status_now: WorkspaceStatus) -> Rows:
    """Describe the newest forecast, late hours, gaps, the disk and the last cycle."""
    from convcast.operations.stages import stage_seconds

    rows: Rows = [("", f"{size(status_now.free)} free")]
    last = status_now.last
    if status_now.age is not None:
        rows.append(("newest", f"forecast of {status_now.forecast}, {duration(status_now.age)} old"))
    rows.extend(("", sentence) for sentence in status_now.ignored_files)
    if not last:
        return rows
    if status_now.late:
        rows.append(("late", f"{list_some(status_now.late, 4)} should be published and is not here"))
    if status_now.gaps:
        rows.append(("gaps", list_some(status_now.gaps, 4)))
    if status_now.due:
        rows.append(("due", f"{status_now.due} forecasts could be scored: `convcast cycle` will"))
    stages = ", ".join(f"{stage} {duration(seconds)}" for stage, seconds in stage_seconds(last).items() if seconds >= 1)
    rows.append(
        (
            "last cycle",
            f"{last['started']}, {last['outcome']}, {duration(last['seconds'])}{f': {stages}' * bool(stages)}",
        )
    )
    rows.extend(("", f"{one['stage']}: {one['error']}") for one in last["stages"] if one["code"] not in (0, 4))
    rows.extend(("", note) for note in last["notes"])
    return rows


def _skill(status_now: WorkspaceStatus) -> list[Table | str]:
    """Make the table of recent skill by field, if forecasts have been scored."""
    from convcast.variables import FIELDS

    if not status_now.skill:
        return []
    others = sorted({name for one in status_now.skill for name in one.skill})
    rows = [
        [
            f"{one.field}, {FIELDS[one.field].sign}",
            str(one.cases),
            f"{one.crps:.3g}",
            *(f"{one.skill[name]:+.0%}" if name in one.skill else "-" for name in others),
            f"{one.spread_error_ratio:.2f}",
        ]
        for one in status_now.skill
    ]
    title = "recent skill: mean fair CRPS, by how much it is better than a baseline's, and spread over error"
    return [
        "",
        table("field", "cases", "CRPS", *(f"than {name}" for name in others), "spread/error", title=title, rows=rows),
    ]
