"""The program: verbs in the order in which data flow. No heavy library is imported before a verb runs."""

from __future__ import annotations

import signal
from typing import Annotated

import typer

from convcast import __version__
from convcast.cli import check, cycle, demo, export, fetch, plot, preprocess, sample, status, train, verify

EPILOGUE = (
    "Exit codes: 0 done, or nothing to do · 1 a bug · 2 usage or settings · 3 too much input missing or rejected, or "
    "the disk is full · 4 not published yet · 5 another run holds the lock · 6 a file is damaged or not ours."
)

app = typer.Typer(
    name="convcast",
    help="Learn to sample the next hours of convection from HRRR analyses.\n\nStart with: convcast demo",
    epilog=EPILOGUE,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["--help", "-h"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"convcast {__version__}")
        raise typer.Exit


@app.callback()
def main(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print it.")] = False,
) -> None:
    pass


for module in (fetch, preprocess, train, sample, plot, export, verify, cycle, status, check, demo):
    app.command()(getattr(module, module.__name__.rpartition(".")[2]))


def run() -> None:
    # What `kill` or a scheduler sends ends a run as Ctrl-C does: it takes away what it was in the middle of writing.
    signal.signal(signal.SIGTERM, _interrupt)
    app()


def _interrupt(number: int, frame: object) -> None:  # noqa: ARG001
    raise KeyboardInterrupt
