"""The terminal: results on stdout, everything else on stderr.

stdout carries a table, or with --json exactly one JSON object. stderr carries progress: bars on a terminal, elsewhere
one plain line per finished unit, so that cron mail and log files stay readable.

Any text may come from outside, so none is interpreted as markup, and control characters are shown as escapes. That
includes line ends: each line is an argument of its own.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, NoReturn, TypeVar

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from convcast.errors import ConvcastError
from convcast.text import printable

Unit = TypeVar("Unit")
Cell = str | Sequence[str]
"""A cell of a table, with one line or several."""
WIDE = 10_000
"""Width of a table that is not printed to a terminal, columns."""


class Terminal:
    """Output of one command: results to stdout, messages to stderr."""

    def __init__(self, *, as_json: bool = False, verbose: bool = False, quiet: bool = False) -> None:
        self.as_json = as_json
        self.verbose = verbose
        self.quiet = quiet
        self._result: dict[str, Any] = {}
        """Result of the command, which --json prints at the end."""
        plain = partial(Console, soft_wrap=True, highlight=False, markup=False, emoji=False)
        # The output to a file or a pipe has no width.
        self.out = plain(width=None if sys.stdout.isatty() else WIDE)
        self.err = plain(stderr=True)

    def say(self, *lines: str) -> None:
        """Print lines on stderr, unless --quiet."""
        if not self.quiet:
            self._print(*lines)

    def warn(self, *lines: str) -> None:
        """Print lines on stderr, even with --quiet."""
        self._print(*lines, style="yellow")

    def _print(self, *lines: str, style: str = "") -> None:
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
        """Yield finished units, and show the progress.

        Args:
            units: Finished units of work.
            total: Number of units, if it is known.
            title: Name of the work.
            line: Describes a unit; None for a unit that is not shown.
            percent: Progress after a unit, for work whose units cannot be counted beforehand.
        """
        if self.quiet or not self.err.is_terminal or self.err.is_dumb_terminal:
            for number, unit in enumerate(units, 1):
                text = line(unit)
                if text and not self.quiet:
                    count = f"{percent(unit):.0f} %" if percent else f"{number}/{total}" if total else f"{number}"
                    self.say(f"{title} {count}: {text}")
                yield unit
            return
        from rich.progress import (  # imported here, since help does not need it
            BarColumn,
            MofNCompleteColumn,
            Progress,
            SpinnerColumn,
            TextColumn,
            TimeElapsedColumn,
            TimeRemainingColumn,
        )

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
        """Print the command's tables and lines, or with --json keep `value`, which is printed when the command ends."""
        if self.as_json:
            self._result = value
            return
        for one in shown:
            if isinstance(one, str):
                self.out.print(Text(printable(one)))
            elif self.out.measure(one, options=self.out.options.update(max_width=WIDE)).maximum > self.out.width:
                self.out.print(_records(one))
            else:
                self.out.print(one)

    def end(self, failure: ConvcastError | None = None) -> None:
        """Print the object of --json, which holds the result, the failure, or both."""
        value = self._result | (described(failure) if failure else {})
        self._result = {}
        if self.as_json and value:
            sys.stdout.write(json.dumps(value, default=str) + "\n")
        sys.stdout.flush()  # so that a full disk raises an error here and not when the interpreter ends

    def fail(self, error: ConvcastError) -> NoReturn:
        """Print an error and its advice, and end the command with the error's exit code."""
        with suppress(OSError):  # stdout itself may be the failure
            self.end(error)
        self._print(f"convcast: {error}", style="red")
        if error.advice:
            self._print(f"  → {error.advice}")
        raise typer.Exit(error.exit_code)


def described(error: ConvcastError) -> dict[str, Any]:
    """Return the keys of a failure in the object of --json."""
    return {"error": str(error), "exit_code": error.exit_code, "advice": error.advice}


def table(*columns: Cell, title: str | None = None, rows: Iterable[Iterable[Cell]] = (), left: int = 1) -> Table:
    """Make a plain table whose first `left` columns are text and the others numbers."""
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


def _records(wide: Table) -> Text:
    """Return a table that is too wide for the terminal as one block of lines for each row, without losing numbers."""
    blocks = [] if wide.title is None else [Text(str(wide.title))]
    names = [" ".join(str(column.header).split("\n")) for column in wide.columns]
    for cells in zip(*(column.cells for column in wide.columns), strict=True):
        first, *others = map(_one_line, cells)
        lines = [
            f"  {name}: {cell}" if name else f"  {cell}" for name, cell in zip(names[1:], others, strict=True) if cell
        ]
        blocks.append(Text("\n").join([Text(first, style="bold"), *map(Text, lines)]))
    return Text("\n").join(blocks)


def _one_line(cell: Any) -> str:
    """Return a cell in one line: its first line, and the others in brackets."""
    value, _, below = str(cell).partition("\n")
    return f"{value} ({' '.join(below.split())})" if below else value


def _text(cell: Cell) -> Text:
    return Text("\n".join(map(printable, [cell] if isinstance(cell, str) else cell)))


def size(number: float) -> str:
    """Format a number of bytes as `3.3 GB`."""
    for unit in ("B", "kB", "MB", "GB"):
        if number < 1000:
            return f"{number:.0f} B" if unit == "B" else f"{number:.1f} {unit}"
        number /= 1000
    return f"{number:.1f} TB"


def duration(seconds: float) -> str:
    """Format seconds as `4 min 10 s`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
