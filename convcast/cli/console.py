"""The terminal: results on stdout, everything else on stderr.

stdout carries a table, or with --json exactly one JSON object. stderr carries progress: bars on a terminal, one
plain line a finished unit elsewhere, so that cron mail and log files stay readable.

Every text may come from outside. None is markup here, and what would steer a terminal is shown as an escape; a line
end too, so lines are arguments of their own.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from typing import Any, ClassVar, NoReturn, TypeVar

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from convcast.errors import ConvcastError
from convcast.text import printable

Unit = TypeVar("Unit")
Cell = str | Sequence[str]
"""One line, or several."""
WIDE = 10_000
"""Columns."""


class Terminal:
    """Where one command's words go."""

    held: ClassVar[dict[str, Any] | None] = None
    """The result of the command that runs, for --json."""

    def __init__(self, *, as_json: bool = False, verbose: bool = False, quiet: bool = False) -> None:
        self.as_json = as_json
        self.verbose = verbose
        self.quiet = quiet
        plain: dict[str, bool] = {"soft_wrap": True, "highlight": False, "markup": False, "emoji": False}
        # A file or a pipe has no width that a table could be too wide for.
        self.out = Console(width=None if sys.stdout.isatty() else WIDE, **plain)  # type: ignore[arg-type]
        self.err = Console(stderr=True, **plain)  # type: ignore[arg-type]

    def say(self, *lines: str) -> None:
        """Lines on stderr, unless --quiet."""
        if not self.quiet:
            self._tell(*lines)

    def warn(self, *lines: str) -> None:
        """Lines on stderr, even with --quiet."""
        self._tell(*lines, style="yellow")

    def _tell(self, *lines: str, style: str = "") -> None:
        for line in lines:
            self.err.print(Text(printable(line), style=style))

    def track(
        self,
        units: Iterable[Unit],
        *,
        total: int | None,
        title: str,
        line: Callable[[Unit], str | None],
        percent: Callable[[Unit], float] | None = None,
    ) -> Iterator[Unit]:
        """Pass finished units on, showing each; `line` describes a unit, or gives None for one not worth a line.

        `percent` says how far the work is, for work whose units cannot be counted beforehand.
        """
        if self.quiet or not self.err.is_terminal or self.err.is_dumb_terminal:
            for number, unit in enumerate(units, 1):
                text = line(unit)
                if text and not self.quiet:
                    count = f"{percent(unit):.0f} %" if percent else f"{number}/{total}" if total else f"{number}"
                    self.say(f"{title} {count}: {text}")
                yield unit
            return
        columns = (
            SpinnerColumn(finished_text="✓"),
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}", style="dim", markup=False),
        )
        with Progress(*columns, console=self.err) as progress:
            task = progress.add_task(printable(title), total=100 if percent else total, note="")
            for unit in units:
                progress.update(task, note=printable(line(unit) or ""))
                progress.update(task, **({"completed": percent(unit)} if percent else {"advance": 1}))
                yield unit

    def result(self, value: dict[str, Any], *shown: Table | str) -> None:
        """The command's result: `value` where --json was given, when the command ends; else the tables and lines."""
        if self.as_json:
            Terminal.held = value
            return
        for one in shown:
            self.out.print(Text(printable(one)) if isinstance(one, str) else one)

    def end(self, failure: ConvcastError | None = None) -> None:
        """Print what --json prints: one object, of the result and of the failure that came after or in place of it."""
        value = (Terminal.held or {}) | (described(failure) if failure else {})
        Terminal.held = None
        if self.as_json and value:
            sys.stdout.write(json.dumps(value, default=str) + "\n")

    def fail(self, error: ConvcastError) -> NoReturn:
        """End the command: one sentence, what to do next, and the exit code."""
        with suppress(OSError):  # where stdout itself is what failed
            self.end(error)
        self._tell(f"convcast: {error}", style="red")
        if error.advice:
            self._tell(f"  → {error.advice}")
        raise typer.Exit(error.exit_code)


def described(error: ConvcastError) -> dict[str, Any]:
    """A failure as --json has it."""
    return {"error": str(error), "exit_code": error.exit_code, "advice": error.advice}


def table(*columns: Cell, title: str | None = None, rows: Iterable[Iterable[Cell]] = (), left: int = 1) -> Table:
    """A plain table; the first `left` columns are text, the others numbers."""
    made = Table(
        title=None if title is None else _text(title),
        title_justify="left",
        title_style="bold",
        box=None,
        pad_edge=False,
        header_style="bold",
    )
    for index, column in enumerate(columns):
        made.add_column(_text(column), justify="left" if index < left else "right", no_wrap=True)
    for row in rows:
        made.add_row(*map(_text, row))
    return made


def _text(cell: Cell) -> Text:
    return Text("\n".join(map(printable, [cell] if isinstance(cell, str) else cell)))


def size(number: float) -> str:
    """`3.3 GB`: bytes for people."""
    for unit in ("B", "kB", "MB", "GB"):
        if number < 1000:
            return f"{number:.0f} B" if unit == "B" else f"{number:.1f} {unit}"
        number /= 1000
    return f"{number:.1f} TB"


def duration(seconds: float) -> str:
    """`4 min 10 s`: seconds for people."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
