"""`convcast check`: check that this machine is ready."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from convcast.cli.common.console import described
from convcast.cli.common.session import Command, verb
from convcast.errors import SettingsError

SIGNS = {"ok": "✓", "note": "!", "fail": "✗"}


@verb()
def check(
    command: Command,
    gpu: Annotated[bool, typer.Option("--gpu", help="Measure the network on the GPU instead, into gpu.json.")] = False,
    minutes: Annotated[float, typer.Option(min=0.1, help="Time for --gpu, in minutes.")] = 8.0,
    output: Annotated[Path, typer.Option(help="Folder of gpu.json and gpu.md.")] = Path(),
    small: Annotated[bool, typer.Option("--small", help="Small sizes for --gpu, which a CPU computes too.")] = False,
) -> None:
    """Check settings, packages, GPU, disk, memory, sources and clock, and show a fix for each problem.

    It needs no workspace. Exit code 2 means that something must be fixed first. With --gpu it measures the GPU instead:
    agreement with the CPU, training steps of the presets, the largest batch, and members over CONUS.
    """
    if gpu:
        _measure(command, output, 60 * minutes, small=small)
        return
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


def _measure(command: Command, folder: Path, seconds: float, *, small: bool) -> None:
    """Measure the GPU, and print each row as it is ready."""
    from convcast.files import read_json
    from convcast.operations.speed.run import run

    rows: list[str] = []
    for row in run(folder, seconds=seconds, small=small):
        rows.append(str(row))
        command.terminal.say(str(row))
    command.terminal.result(read_json(folder / "gpu.json"), *rows)
