"""The `.idx` beside a GRIB2 file: which bytes hold which field.

One row a message, as wgrib2 writes it: `105:64472936:d=2023120100:CAPE:surface:anl:`. Rows are matched by equality of
whole columns. Patterns are not safe here: `:CAPE:` alone matches nine messages of an HRRR file.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from convcast.archive.failures import Bad, Incomplete
from convcast.archive.wanted import Wanted
from convcast.notation import Hour, compact


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
    """What follows the forecast column: nothing in HRRR's files, member or event in an ensemble's."""


@dataclass(frozen=True)
class Span:
    """Where a message lies in the publisher's file, `end` excluded."""

    wanted: Wanted
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


def select(
    rows: Sequence[Row], wanted: Sequence[Wanted], *, init: Hour, lead: int
) -> tuple[tuple[Span, ...], tuple[Wanted, ...]]:
    """Where each message lies, in the order of the file, and those that are not there.

    The end of the file's last message is OPEN. Raises Bad where one stands twice, shares its message with another
    field, or the index is of another cycle.
    """
    cycle = compact(init).replace("T", "")
    strangers = {row.cycle for row in rows} - {cycle}
    if strangers:
        raise Bad(f"the index is of the cycle {min(strangers)}, not {cycle}")
    spans, lacking = [], []
    for one in wanted:
        found = [row for row in rows if row.forecast == forecast(lead) and one.in_index(row.name, row.level, row.rest)]
        if not found:
            lacking.append(one)
            continue
        if len(found) > 1:
            raise Bad(f"the index has {one.name} {len(found)} times")
        (row,) = found
        if sum(other.offset == row.offset for other in rows) > 1:
            raise Bad(f"{one.name} is a submessage (row {row.number} of the index)")
        end = next((other.offset for other in rows if other.offset > row.offset), OPEN)
        spans.append(Span(one, row.offset, end))
    return tuple(sorted(spans, key=lambda span: span.start)), tuple(lacking)


def forecast(lead: int) -> str:
    """The index's column for a field at a point in time."""
    return "anl" if lead == 0 else f"{lead} hour fcst"


def lacks(wanted: Sequence[Wanted], lead: int) -> Incomplete:
    """The failure of a file without these messages, which the user may choose to do without."""
    columns = ", ".join(f"{one.name} ({one.index_name}:{one.index_level}:{forecast(lead)})" for one in wanted)
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
