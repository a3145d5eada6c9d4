"""The program, with its verbs in the order of the data flow. No heavy library is imported before a verb runs."""

from __future__ import annotations

import sys
from contextlib import suppress
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from convcast import __version__
from convcast.cli import check, cycle, demo, hindcast, status
from convcast.cli.common.console import Terminal
from convcast.cli.common.process import INTERRUPTED, end_on_sigterm, prepare
from convcast.cli.steps import calibrate, export, fetch, init, plot, preprocess, sample, train, verify
from convcast.errors import SettingsError

EPILOGUE = (
    "Exit codes: 0 done, or nothing to do · 1 a bug · 2 usage or settings · 3 too much input missing or rejected, or "
    "the disk is full · 4 not published yet · 5 another run holds the lock · 6 a file is damaged or not ours."
)


class Program(TyperGroup):
    """The group of verbs; it reports usage errors as the verbs report other failures."""

    def main(self, args: Any = None, **options: Any) -> Any:  # type: ignore[override]
        try:
            code = super().main(args, **options | {"standalone_mode": False})
        except typer.Abort:
            code = INTERRUPTED
        except Exception as error:
            explain = getattr(error, "format_message", None)  # typer may bundle its own click
            if explain is None:
                raise
            code = SettingsError.exit_code
            if type(error).__name__ != "NoArgsIsHelpError":  # typer has printed the help
                path = getattr(getattr(error, "ctx", None), "command_path", "convcast")
                terminal = Terminal(as_json="--json" in (sys.argv[1:] if args is None else args))
                with suppress(typer.Exit):
                    terminal.fail(SettingsError(explain(), advice=f"see `{path} --help`"))
        sys.exit(code if isinstance(code, int) else 0)


app = typer.Typer(
    name="convcast",
    cls=Program,
    help="Learn to sample the next hours of convection from HRRR analyses.\n\nStart with: convcast demo",
    epilog=EPILOGUE,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["--help", "-h"]},
)


def _version(requested: bool) -> None:
    if requested:
        typer.echo(f"convcast {__version__}")
        raise typer.Exit


@app.callback()
def main(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


for module in (
    init,
    fetch,
    preprocess,
    train,
    sample,
    plot,
    export,
    verify,
    calibrate,
    hindcast,
    cycle,
    status,
    check,
    demo,
):
    app.command()(getattr(module, module.__name__.rpartition(".")[2]))


def run() -> None:
    prepare()
    end_on_sigterm()
    app()
