"""Parse the `.idx` file beside a GRIB2 file, which gives the offset of each message.

The index has one row per message, as wgrib2 writes it:
`105:64472936:d=2023120100:CAPE:surface:anl:`. Rows are matched by equality of
whole columns. Patterns would be ambiguous: `:CAPE:` alone matches nine messages of an HRRR file.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from convcast.archive.failures import Bad, Incomplete
from convcast.archive.messages.spec import MessageSpec
from convcast.notation import Hour, compact
from convcast.variables import STATIC


@dataclass(frozen=True)
class IndexRow:
    """One row of an index."""

    line: int
    """Line number, from 1."""
    offset: int | None
    """Offset of the message in bytes; None if the row gives no valid one."""
    cycle: str
    """Init time, normally YYYYMMDDHH."""
    name: str
    level: str
    forecast: str
    rest: str
    """Columns after the forecast: empty in HRRR's files, the member or event in an ensemble's."""


@dataclass(frozen=True)
class Span:
    """Byte range of a message in the publisher's file, `end` excluded."""

    spec: MessageSpec
    start: int
    end: int

    @property
    def length(self) -> int:
        return self.end - self.start


UNKNOWN_END = -1
"""The `end` of a message whose end the index does not give: the last of the file, or one before an invalid row."""


_ROW = re.compile(r"[^:]*:([^:]*):d=([^:]*):([^:]*):([^:]*):([^:]*):?(.*)", re.DOTALL)
_OFFSET = re.compile(r"[0-9]{1,12}")


def parse(text: str) -> tuple[IndexRow | None, ...]:
    """Parse an index into rows, with None for an invalid line; blank lines are skipped.

    An invalid row matters only to the messages that it concerns, which `select` refuses.

    Raises:
        Bad: The text is not an index.
        Incomplete: The index is empty, or its last row is cut short.
    """
    rows: list[IndexRow | None] = []
    lines = [(number, line) for number, line in enumerate(text.split("\n"), 1) if line.strip()]
    for number, line in lines:
        match = _ROW.fullmatch(line.rstrip("\r"))
        if match is None:
            rows.append(None)
            continue
        offset, *columns = match.groups()
        rows.append(IndexRow(number, int(offset) if _OFFSET.fullmatch(offset) else None, *columns))
    if not rows:
        raise Incomplete("the index is empty")
    if not any(rows) or rows[-1] is None:
        kind = Incomplete if any(rows) else Bad
        number, line = lines[-1] if any(rows) else lines[0]
        raise kind(f"line {number} of the index is not a row: {line[:60]!r}")
    return tuple(rows)


def select(
    rows: Sequence[IndexRow | None], specs: Sequence[MessageSpec], *, init: Hour, lead: int
) -> tuple[tuple[Span, ...], tuple[MessageSpec, ...]]:
    """Find the byte ranges of messages in an index.

    Args:
        rows: Rows of the index, from `parse`.
        specs: Specifications of the messages.
        init: Initial time that the messages must have.
        lead: Lead time of the file, hours.

    Returns:
        The spans of the messages in file order, and the specifications of absent messages.

    Raises:
        Bad: A message appears twice, is a submessage, belongs to another cycle, or has no valid offset.
    """
    cycle = compact(init).replace("T", "")
    spans, lacking = [], []
    for spec in specs:
        matching = [
            (number, row)
            for number, row in enumerate(rows)
            if row and row.forecast == forecast(lead) and spec.in_index(row.name, row.level, row.rest)
        ]
        if not matching:
            lacking.append(spec)
            continue
        if len(matching) > 1:
            raise Bad(f"the index lists {spec.name} {len(matching)} times")
        ((number, row),) = matching
        if row.cycle != cycle:
            raise Bad(f"the index belongs to the cycle {row.cycle[:20]}, not {cycle}")
        spans.append(_span(spec, row, rows[:number], rows[number + 1 :]))
    return tuple(sorted(spans, key=lambda span: span.start)), tuple(lacking)


def _span(
    spec: MessageSpec, row: IndexRow, before: Sequence[IndexRow | None], after: Sequence[IndexRow | None]
) -> Span:
    """Return the span of a row's message, which ends where the next one begins."""
    if row.offset is None:
        raise Bad(f"line {row.line} of the index does not say where {spec.name} lies")
    previous = before[-1].offset if before and before[-1] else None
    following = after[0].offset if after and after[0] else None
    if row.offset in (previous, following):
        raise Bad(f"{spec.name} is a submessage (line {row.line} of the index)")
    if following is not None and following < row.offset:
        raise Bad(f"the offsets of the index fall after line {row.line}")
    return Span(spec, row.offset, UNKNOWN_END if following is None else following)


def last_offset(rows: Sequence[IndexRow | None]) -> int | None:
    """Offset of the file's last message, or None if its row does not give it."""
    return rows[-1].offset if rows[-1] else None


def forecast(lead: int) -> str:
    """Return the index's forecast column for an instantaneous field at this lead time (hours)."""
    return "anl" if lead == 0 else f"{lead} hour fcst"


def missing_messages(specs: Sequence[MessageSpec], lead: int) -> Incomplete:
    """Return the failure that a file without these messages is."""
    columns = ", ".join(f"{spec.name} ({spec.index_name}:{spec.index_level}:{forecast(lead)})" for spec in specs)
    static = any(spec.name in STATIC for spec in specs)
    without = "add --set dataset.ground=flat" if static else "leave it out of --fields"
    return Incomplete(f"the file has no {columns}; to do without, {without}")


def merge(spans: Sequence[Span]) -> tuple[tuple[int, int], ...]:
    """Join adjacent spans, given in file order, into byte ranges, end excluded."""
    ranges: list[tuple[int, int]] = []
    for span in spans:
        if ranges and ranges[-1][1] == span.start:
            ranges[-1] = (ranges[-1][0], span.end)
        else:
            ranges.append((span.start, span.end))
    return tuple(ranges)
