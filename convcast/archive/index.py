"""The `.idx` beside a GRIB2 file: which bytes hold which field.

One row a message, as wgrib2 writes it: `105:64472936:d=2023120100:CAPE:surface:anl:`. Rows are matched by equality of
whole columns. Patterns are not safe here: `:CAPE:` alone matches nine messages of an HRRR file.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from convcast.archive.failures import Bad, Incomplete
from convcast.notation import Hour, compact
from convcast.variables import Variable


@dataclass(frozen=True)
class Row:
    """One row of an index."""

    number: str
    offset: int
    cycle: str
    """YYYYMMDDHH."""
    name: str
    level: str
    forecast: str
    rest: str
    """What follows the forecast column: nothing, in HRRR's files."""


@dataclass(frozen=True)
class Span:
    """Where a variable's message lies in the publisher's file, `end` excluded."""

    variable: Variable
    start: int
    end: int

    @property
    def length(self) -> int:
        return self.end - self.start


OPEN = -1
"""The `end` of a file's last message, which an index does not give."""


_ROW = re.compile(r"(\d+(?:\.\d+)?):(\d+):d=(\d{10}):([^:]+):([^:]+):([^:]+):?(.*)")


def parse(text: str) -> tuple[Row, ...]:
    """The rows of an index.

    Raises Bad where the text is none, Incomplete where it is empty or its last row is cut.
    """
    rows: list[Row] = []
    lines = text.splitlines()
    for number, line in enumerate(lines, 1):
        match = _ROW.fullmatch(line)
        if match is None:
            kind = Incomplete if rows and number == len(lines) else Bad
            raise kind(f"line {number} of the index is not a row: {line[:60]!r}")
        name = match.groups()
        row = Row(name[0], int(name[1]), *name[2:])
        if rows and row.offset < rows[-1].offset:
            raise Bad(f"the offsets of the index fall at line {number}")
        rows.append(row)
    if not rows:
        raise Incomplete("the index is empty")
    return tuple(rows)


def select(rows: Sequence[Row], variables: Sequence[Variable], *, init: Hour, lead: int) -> tuple[Span, ...]:
    """Where each variable lies, in the order of the file; the end of the file's last message is OPEN.

    Raises Incomplete where one is missing; Bad where one stands twice, shares its message with another field, or
    the index is of another cycle.
    """
    cycle = compact(init).replace("T", "")
    forecast = "anl" if lead == 0 else f"{lead} hour fcst"
    strangers = {row.cycle for row in rows} - {cycle}
    if strangers:
        raise Bad(f"the index is of the cycle {min(strangers)}, not {cycle}")
    spans, lacking = [], []
    for variable in variables:
        wanted = (variable.index_name, variable.index_level, forecast, "")
        found = [row for row in rows if (row.name, row.level, row.forecast, row.rest) == wanted]
        if not found:
            lacking.append(variable)
            continue
        if len(found) > 1:
            raise Bad(f"the index has {variable.name} {len(found)} times")
        (row,) = found
        if sum(other.offset == row.offset for other in rows) > 1:
            raise Bad(f"{variable.name} is a submessage (row {row.number} of the index)")
        end = next((other.offset for other in rows if other.offset > row.offset), OPEN)
        spans.append(Span(variable, row.offset, end))
    if lacking:
        raise lacks(lacking, forecast)
    return tuple(sorted(spans, key=lambda span: span.start))


def lacks(variables: Sequence[Variable], forecast: str) -> Incomplete:
    """The failure of a file without these variables, which the user may choose to do without."""
    columns = ", ".join(f"{v.name} ({v.index_name}:{v.index_level}:{forecast})" for v in variables)
    return Incomplete(f"the file has no {columns}; to do without, leave it out of --fields")


def merge(spans: Sequence[Span]) -> tuple[tuple[int, int], ...]:
    """Spans in the order of the file as few ranges, end excluded: those that touch are one."""
    ranges: list[tuple[int, int]] = []
    for span in spans:
        if ranges and ranges[-1][1] == span.start:
            ranges[-1] = (ranges[-1][0], span.end)
        else:
            ranges.append((span.start, span.end))
    return tuple(ranges)
