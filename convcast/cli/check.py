"""`convcast check`: check that this machine is ready."""

from __future__ import annotations

from dataclasses import asdict

import typer

from convcast.cli.common.console import described
from convcast.cli.common.session import Command, verb
from convcast.errors import SettingsError

SIGNS = {"ok": "✓", "note": "!", "fail": "✗"}


@verb()
def check(
    command: Command,
) -> None:
    """Check settings, packages, GPU, disk, memory, sources and clock, and show a fix for each problem.

    It needs no workspace. Exit code 2 means that something must be fixed first.
    """
    from convcast.operations.readiness.checks import CheckResult, run_checks
    from convcast.workspace import SETTINGS_FILE, Workspace

    terminal = command.terminal
    workspace = Workspace(command.root)
    file = workspace.settings_file if workspace.settings_file.is_file() else None
    settings = command.settings(file)
    where = f"{file}" if file else f"no {SETTINGS_FILE} in {workspace.root} yet: the defaults"
    results = [CheckResult("settings", "ok", f"{where}, preset {settings.preset}"), *run_checks(workspace, settings)]
    failed = [result for result in results if result.state == "fail"]
    lines = []
    for result in results:
        lines.append(f"{SIGNS[result.state]} {result.subject}: {result.detail}")
        if result.fix is not None:
            lines.append(f"    → {result.fix}")
    value = {"ready": not failed, "findings": [asdict(result) for result in results]}
    if failed:
        first = failed[0]
        value |= described(SettingsError(f"{first.subject}: {first.detail}", advice=first.fix))
    terminal.result(value, *lines)
    if failed:
        raise typer.Exit(SettingsError.exit_code)
