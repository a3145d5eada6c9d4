"""Shared parts of the verbs: the common options, the workspace and settings, and exit codes for errors."""

from __future__ import annotations

import inspect
import os
import re
import shlex
import sys
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import wraps
from inspect import Parameter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from convcast.cli.common.console import Terminal
from convcast.cli.common.process import INTERRUPTED, escaped
from convcast.errors import ConvcastError, from_os_error

if TYPE_CHECKING:
    from convcast.settings import Settings
    from convcast.workspace import Workspace

DEFAULT_WORKSPACE = Path("convcast-workspace")
COMMON = "Common options"


def _common(name: str, default: Any, kind: Any, *flags: str, **words: Any) -> Parameter:
    option = typer.Option(*flags, rich_help_panel=COMMON, **words)
    return Parameter(name, Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[kind, option])


COMMON_OPTIONS = (
    _common(
        "settings",
        None,
        list[str] | None,
        "--set",
        "-s",
        metavar="GROUP.NAME=VALUE",
        help="Set any setting of convcast.toml; may be repeated.",
    ),
    _common(
        "workspace",
        None,
        Path | None,
        "--workspace",
        "-w",
        help="Folder of settings, data, models and results (else $CONVCAST_WORKSPACE, else ./convcast-workspace).",
    ),
    _common("as_json", False, bool, "--json", help="Print one JSON object."),
    _common("verbose", False, bool, "--verbose", "-v", help="Print tracebacks of errors."),
    _common("quiet", False, bool, "--quiet", "-q", help="Print no progress."),
)
"""Options that `verb` adds to each verb, after the verb's own."""
InitOption = Annotated[str, typer.Option("--init", help="latest, a time (2024-05-06T21) or a range (start/end/6h).")]
ModelOption = Annotated[str | None, typer.Option("--model", help="Name of the model (default: the preset's name).")]
WorkersOption = Annotated[
    int, typer.Option("--workers", min=1, help="Number of processes; more than 1 use dask.distributed.")
]
DaskAddressOption = Annotated[
    str | None,
    typer.Option("--dask-address", help="Address of a dask scheduler (tcp://…) whose workers see the same files."),
]


@dataclass(frozen=True)
class Command:
    """The common options of one command, as typed."""

    terminal: Terminal
    assignments: Sequence[str] = ()
    """Values of --set, as `group.name=value`."""
    workspace_option: Path | None = None
    """Value of --workspace."""

    @property
    def root(self) -> Path:
        """Folder of the workspace: --workspace, else CONVCAST_WORKSPACE, else the default."""
        return self.workspace_option or Path(os.environ.get("CONVCAST_WORKSPACE") or DEFAULT_WORKSPACE)

    def settings(
        self, file: Path | None, flags: dict[str, dict[str, Any]] | None = None, *, preset: str | None = None
    ) -> Settings:
        """Resolve the settings in force.

        Args:
            file: The workspace's settings file, if there is one.
            flags: Values of the verb's own options, by settings group and name; None stands for one not given.
            preset: Name of the preset, in place of the file's.

        Raises:
            SettingsError: A setting is unknown or has no valid value.
        """
        from convcast.settings.load import load_settings, nested

        table = nested(list(self.assignments))
        for group, values in given(flags or {}).items():
            table[group] = {**table.get(group, {}), **values}
        return load_settings(file, table, preset=preset)

    def open(
        self, flags: dict[str, dict[str, Any]] | None = None, *, preset: str | None = None
    ) -> tuple[Workspace, Settings]:
        """Open the workspace, which must exist, and resolve its settings as `settings` does."""
        from convcast.workspace import open_workspace

        workspace = open_workspace(self.root)
        return workspace, self.settings(workspace.settings_file, flags, preset=preset)


def given(flags: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return the settings by group and name, without options that were not given and groups that are then empty."""
    typed = {group: {name: v for name, v in values.items() if v is not None} for group, values in flags.items()}
    return {group: values for group, values in typed.items() if values}


class InterruptedRunError(ConvcastError):
    """The run was interrupted by Ctrl-C or a signal."""

    exit_code = INTERRUPTED


def verb(*, without: Sequence[str] = ()) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Register a function as a verb of the program.

    The function's first parameter is the Command; the others are the verb's own options. Those of COMMON_OPTIONS are
    added, except the parameters named in `without`. An expected error becomes one sentence and its documented exit
    code, and with --json one object.
    """
    common = [option for option in COMMON_OPTIONS if option.name not in without]

    def decorate(function: Callable[..., None]) -> Callable[..., None]:
        signature = inspect.signature(function, eval_str=True)
        _, *own = signature.parameters.values()

        @wraps(function)
        def run(**options: Any) -> None:
            typed = {option.name: options.pop(option.name, option.default) for option in common}
            _run_reporting_errors(function, typed, options)

        run.__signature__ = signature.replace(parameters=[*own, *common])  # type: ignore[attr-defined]
        run.__annotations__ = {option.name: option.annotation for option in (*own, *common)}
        return run

    return decorate


def _run_reporting_errors(function: Callable[..., None], common: dict[str, Any], options: dict[str, Any]) -> None:
    terminal = Terminal(as_json=common["as_json"], verbose=common["verbose"], quiet=common["quiet"])
    try:
        try:
            function(Command(terminal, common.get("settings") or (), common.get("workspace")), **options)
        except typer.Exit:
            terminal.end()
            raise
        terminal.end()
    except typer.Exit:
        raise
    except (Exception, KeyboardInterrupt) as error:
        failure = _expected(error)
        if failure is None:  # programs get an object, people the traceback
            bug = f"a bug: {type(error).__name__}: {error}"
            terminal.end(ConvcastError(bug, advice="report it, with what stands on stderr"))
            raise
        if terminal.verbose and not isinstance(error, KeyboardInterrupt):
            sys.stderr.write(escaped(traceback.format_exc()))
        if failure.advice and common.get("workspace"):
            failure.advice = in_workspace(failure.advice, common["workspace"])
        terminal.fail(failure)


def in_workspace(advice: str, root: Path) -> str:
    """Add --workspace to the commands in an advice that work in a workspace and do not name one."""

    def complete(command: re.Match[str]) -> str:
        words = command[0].removesuffix("`")
        named = re.search(r" (-w|--workspace)[ =]", words)
        return command[0] if named else f"{words} -w {shlex.quote(str(root))}`"

    return re.sub(r"`convcast (?!check|demo|init)[a-z]+[^`]*`", complete, advice)


def _expected(error: BaseException) -> ConvcastError | None:
    """Return the failure to report in one sentence, or None for a bug."""
    if isinstance(error, KeyboardInterrupt):
        return InterruptedRunError(
            "interrupted; what was complete is kept", advice="run the same command again to continue"
        )
    if isinstance(error, OSError):
        return from_os_error(error)
    return error if isinstance(error, ConvcastError) else None
