"""What every verb shares: the common options, the workspace, the settings, and errors turned into exit codes."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn, ParamSpec

import typer

from convcast.cli.process import INTERRUPTED, escaped
from convcast.errors import ConvcastError, from_os_error

if TYPE_CHECKING:
    from convcast.cli.console import Terminal
    from convcast.settings import Settings
    from convcast.workspace import Workspace

DEFAULT_WORKSPACE = Path("convcast-workspace")
COMMON = "Common options"

WorkspaceOption = Annotated[
    Path | None,
    typer.Option(
        "--workspace",
        "-w",
        help="Folder of settings, data, models and results (else $CONVCAST_WORKSPACE, else ./convcast-workspace).",
        rich_help_panel=COMMON,
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object.", rich_help_panel=COMMON)]
VerboseOption = Annotated[bool, typer.Option("--verbose", "-v", help="Say more.", rich_help_panel=COMMON)]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="No progress.", rich_help_panel=COMMON)]
SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        "-s",
        metavar="GROUP.NAME=VALUE",
        help="Any setting, as convcast.toml has it; may be repeated.",
        rich_help_panel=COMMON,
    ),
]
WorkersOption = Annotated[
    int,
    typer.Option("--workers", min=1, help="Processes that share the work, through dask.distributed if more than 1."),
]
DaskAddressOption = Annotated[
    str | None,
    typer.Option(
        "--dask-address", help="A dask scheduler (tcp://…) whose workers, which see the same files, share the work."
    ),
]


@dataclass(frozen=True)
class Session:
    """One run of one verb."""

    terminal: Terminal
    workspace: Workspace
    settings: Settings


def workspace_root(workspace: Path | None) -> Path:
    return workspace or Path(os.environ.get("CONVCAST_WORKSPACE") or DEFAULT_WORKSPACE)


def begin(
    terminal: Terminal,
    workspace: Path | None,
    *,
    assignments: list[str] | None = None,
    flags: dict[str, dict[str, Any]] | None = None,
    preset: str | None = None,
) -> Session:
    """Open the workspace and resolve the settings; flags of None were not given."""
    from convcast.settings import load_settings
    from convcast.workspace import open_workspace

    place = open_workspace(workspace_root(workspace))
    settings = load_settings(place.settings_file, given(assignments, flags), preset=preset)
    return Session(terminal, place, settings)


def given(assignments: list[str] | None, flags: dict[str, dict[str, Any]] | None) -> dict[str, Any]:
    """The nested table of what was typed; a verb's own flag counts before --set."""
    from convcast.settings import nested

    table = nested(assignments or [])
    for group, values in (flags or {}).items():
        typed = {name: value for name, value in values.items() if value is not None}
        if typed:
            table[group] = {**table.get(group, {}), **typed}
    return table


P = ParamSpec("P")


class InterruptedRunError(ConvcastError):
    """Ctrl-C, or a signal that asks the run to end."""

    exit_code = INTERRUPTED


def verb(function: Callable[P, None]) -> Callable[P, None]:
    """Turn expected errors into one sentence and the documented exit code; with --json into one object too."""

    @wraps(function)
    def reported(*args: P.args, **kwargs: P.kwargs) -> None:
        as_json, verbose = bool(kwargs.get("as_json")), bool(kwargs.get("verbose"))
        try:
            try:
                function(*args, **kwargs)
            except typer.Exit:
                _end(as_json=as_json)
                raise
            _end(as_json=as_json)
        except ConvcastError as error:
            _fail(error, as_json=as_json, verbose=verbose)
        except OSError as error:
            expected = from_os_error(error)
            if expected is None:
                _tell_bug(error, as_json=as_json)
                raise
            _fail(expected, as_json=as_json, verbose=verbose)
        except KeyboardInterrupt:
            stopped = InterruptedRunError(
                "interrupted; what was complete is kept", advice="the same command goes on from there"
            )
            _fail(stopped, as_json=as_json, verbose=False)
        except Exception as error:
            if not isinstance(error, typer.Exit):
                _tell_bug(error, as_json=as_json)
            raise

    return reported


def _end(*, as_json: bool, failure: ConvcastError | None = None) -> None:
    if as_json:
        from convcast.cli.console import Terminal

        Terminal(as_json=True).end(failure)
    sys.stdout.flush()  # a full disk is told of here, and not as the interpreter ends


def _fail(error: ConvcastError, *, as_json: bool, verbose: bool) -> NoReturn:
    from convcast.cli.console import Terminal

    if verbose:
        sys.stderr.write(escaped(traceback.format_exc()))
    Terminal(as_json=as_json).fail(error)


def _tell_bug(error: Exception, *, as_json: bool) -> None:
    """What a program reads of a bug; people have the traceback."""
    bug = ConvcastError(f"a bug: {type(error).__name__}: {error}", advice="report it, with what stands on stderr")
    _end(as_json=as_json, failure=bug)
