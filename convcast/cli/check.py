"""`convcast check`: whether this machine is ready."""

from __future__ import annotations

from dataclasses import asdict

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

SIGNS = {"ok": "✓", "note": "!", "fail": "✗"}


@verb
def check(
    settings: SetOption = None,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
    verbose: VerboseOption = False,
    quiet: QuietOption = False,
) -> None:
    """Is this machine ready? Settings, packages, GPU, disk, memory, sources, clock: and the fix where not.

    Needs no workspace. Exit code 2 where something must be mended first.
    """
    from convcast.cli.console import Terminal, described
    from convcast.errors import SettingsError
    from convcast.operations.checks import CheckResult, run_checks
    from convcast.settings import load_settings
    from convcast.workspace import SETTINGS_FILE, Workspace

    terminal = Terminal(as_json=as_json, verbose=verbose, quiet=quiet)
    place = Workspace(workspace_root(workspace))
    file = place.settings_file if place.settings_file.is_file() else None
    resolved = load_settings(file, given(settings, None))
    where = f"{file}" if file else f"no {SETTINGS_FILE} in {place.root} yet: the defaults"
    results = [CheckResult("settings", "ok", f"{where}, preset {resolved.preset}"), *run_checks(place, resolved)]
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
