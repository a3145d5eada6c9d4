"""The terminal: results on stdout, everything else on stderr.

stdout carries a table, or with --json exactly one JSON object. stderr carries progress: bars on a terminal, one
plain line a finished unit elsewhere, so that cron mail and log files stay readable.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

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

from convcast.errors import ConvcastError

Unit = TypeVar("Unit")
WIDE = 200
"""Columns."""


class Terminal:
    """Where one command's words go."""

    def __init__(self, *, as_json: bool = False, verbose: bool = False, quiet: bool = False) -> None:
        self.as_json = as_json
        self.verbose = verbose
        self.quiet = quiet
        # A file or a pipe has no width that a table could be too wide for.
        self.out = Console(width=None if sys.stdout.isatty() else WIDE, soft_wrap=True, highlight=False)
        self.err = Console(stderr=True, soft_wrap=True, highlight=False)

    def say(self, text: str) -> None:
        """A line on stderr, unless --quiet."""
        if not self.quiet:
            self.err.print(text, markup=False)

    def warn(self, text: str) -> None:
        """A line on stderr, even with --quiet."""
        self.err.print(text, markup=False, style="yellow")

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
        if self.quiet or not self.err.is_terminal:
            for number, unit in enumerate(units, 1):
                text = line(unit)
                if text and not self.quiet:
                    count = f"{percent(unit):.0f} %" if percent else f"{number}/{total}" if total else f"{number}"
                    self.say(f"{title} {count}: {text}")
                yield unit
            return
        columns = (
            SpinnerColumn(finished_text="✓"),
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("[dim]{task.fields[note]}"),
        )
        with Progress(*columns, console=self.err) as progress:
            task = progress.add_task(title, total=100 if percent else total, note="")
            for unit in units:
                progress.update(task, note=line(unit) or "")
                progress.update(task, **({"completed": percent(unit)} if percent else {"advance": 1}))
                yield unit

    def result(self, value: dict[str, Any], *tables: Table | str) -> None:
        """The command's result: `value` as JSON where --json was given, the tables elsewhere."""
        if self.as_json:
            sys.stdout.write(json.dumps(value, default=str) + "\n")
            return
        for table in tables:
            self.out.print(table)

    def fail(self, error: ConvcastError) -> None:
        """One sentence, and what to do next."""
        self.err.print(f"convcast: {error}", markup=False, style="red")
        if error.advice:
            self.err.print(f"  → {error.advice}", markup=False)


def table(*columns: str, title: str | None = None, rows: Iterable[Iterable[str]] = (), left: int = 1) -> Table:
    """A plain table; the first `left` columns are text, the others numbers."""
    made = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False, header_style="bold")
    for index, column in enumerate(columns):
        made.add_column(column, justify="left" if index < left else "right", no_wrap=True)
    for row in rows:
        made.add_row(*row)
    return made


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
