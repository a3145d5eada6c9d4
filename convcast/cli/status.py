"""`convcast status`: what a workspace holds."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer  # noqa: F401  resolved by the options' annotations

from convcast.cli.session import JsonOption, QuietOption, VerboseOption, WorkspaceOption, begin, verb

if TYPE_CHECKING:
    from rich.table import Table


@verb
def status(
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
    verbose: VerboseOption = False,
    quiet: QuietOption = False,
) -> None:
    """Show what is complete (archive, dataset, models, forecasts, verification), and how the training went."""
    from convcast.archive import Archive
    from convcast.cli.console import Terminal, size, table
    from convcast.cli.curve import draw_loss, read_log
    from convcast.dataset import Dataset
    from convcast.errors import ConvcastError
    from convcast.files import folder_bytes
    from convcast.notation import describe

    terminal = Terminal(as_json=as_json, verbose=verbose, quiet=quiet)
    session = begin(terminal, workspace)
    place = session.workspace
    rows: list[tuple[str, str]] = []
    value: dict[str, object] = {"workspace": str(place.root), "settings": session.settings.digest()}

    hours = Archive(place.archive / "hrrr").hours(session.settings.dataset.analysis_lead)
    rows.append(("archive", describe(hours)))
    value["archive_hours"] = len(hours)
    try:
        dataset = Dataset.open(place.dataset)
        rejected = {h: v["reason"] for h, v in dataset.verdicts().items() if v["status"] == "rejected"}
        text = describe(dataset.hours) + (f", {len(rejected)} rejected" if rejected else "")
        rows.append(("dataset", f"{text}{', simulated' if dataset.simulated else ''}"))
        value |= {"dataset_hours": len(dataset.hours), "simulated": dataset.simulated}
        value["rejected"] = [{"valid": str(hour), "reason": reason} for hour, reason in rejected.items()]
        rows.extend(("", f"{hour}: {reason}") for hour, reason in list(rejected.items())[:5])
    except ConvcastError as error:
        rows.append(("dataset", str(error)))
    for title, folder, pattern in (
        ("models", place.root / "models", "*/model.safetensors"),
        ("forecasts", place.forecasts, "*.zarr"),
        ("verifications", place.root / "verification", "*/scores.json"),
    ):
        found = sorted(path if pattern == "*.zarr" else path.parent for path in folder.glob(pattern))
        rows.append((title, f"{len(found)}" + (f", newest {found[-1].name}" if found else "")))
        value[title] = [path.name for path in found]
    used = folder_bytes(place.root)
    rows.append(("disk", size(used)))
    value["bytes"] = used
    shown: list[Table | str] = [table("", "", title=str(place.root), rows=rows, left=2)]
    logs = sorted((place.root / "models").glob("*/log.jsonl"), key=lambda path: path.stat().st_mtime)
    if logs:
        reports = read_log(logs[-1])
        value["training"] = {"model": logs[-1].parent.name, **(reports[-1] if reports else {})}
        if len(reports) > 1:
            shown += [f"\nloss of {logs[-1].parent.name}", draw_loss(reports)]
    terminal.result(value, *shown)
