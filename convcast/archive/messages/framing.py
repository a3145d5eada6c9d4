"""Read the extent and identity of each GRIB2 message of a file without decoding it.

The octets are read directly (WMO Manual on Codes, volume I.2, FM 92 GRIB edition 2) and not through ecCodes: the files
are untrusted and read by many threads, and ecCodes skips any bytes between two messages.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import BinaryIO

import numpy as np

from convcast.archive.failures import Bad, Incomplete
from convcast.archive.messages.index import Span
from convcast.archive.messages.spec import Limit, MessageSpec
from convcast.errors import DamagedFileError
from convcast.grib import sections
from convcast.grib.sections import END, INDICATOR
from convcast.notation import Hour
from convcast.variables import SIMULATED_STATUS, GribKey

MAX_FIELD_TEMPLATE = 15
"""Last product definition template that begins like template 0; 8 to 15 are statistics over a period."""
PROBABILITY_TEMPLATES = (5, 9)
_UNIT_HOURS = {0: 1 / 60, 1: 1.0, 2: 24.0, 10: 3.0, 11: 6.0, 12: 12.0, 13: 1 / 3600}
"""Code table 4.4."""


@dataclass(frozen=True)
class Frame:
    """Extent and identity of one message of a file."""

    offset: int
    length: int
    key: GribKey | None
    """Key of its first field; None if HRRR has no fields of its template."""
    init: np.datetime64
    """Reference time, to the second."""
    lead_hours: float
    template: int
    """Product definition template (code table 4.0)."""
    limit: Limit | None
    """Event, if the message is a probability."""
    simulated: bool
    fields: int
    """Number of fields: more than one if the message has submessages."""

    @property
    def statistical(self) -> bool:
        """Whether the field is a statistic over a period."""
        return 8 <= self.template <= MAX_FIELD_TEMPLATE

    def matches(self, spec: MessageSpec, lead: int) -> bool:
        """Whether this message has only the field of `spec`, at this lead time (hours)."""
        return (
            self.key in spec.keys
            and self.lead_hours == lead
            and self.template in spec.templates
            and self.limit == spec.limit
            and self.fields == 1
        )


def message_length(start: bytes) -> int:
    """Length of a message in bytes, from its first 16 octets.

    Raises:
        Bad: The octets are not the start of a GRIB2 message.
    """
    try:
        length = sections.message_length(start)
    except DamagedFileError as error:
        raise Bad(str(error)) from None
    if length <= INDICATOR + len(END):
        raise Bad("a GRIB message has no sections")
    return length


def walk(file: BinaryIO) -> Iterator[Frame]:
    """Yield the messages of a file, which must be whole and without gaps between them.

    Raises:
        Bad: A message is damaged, or other bytes lie between two messages.
        Incomplete: The file ends within a message.
    """
    size = os.fstat(file.fileno()).st_size
    offset = 0
    while offset < size:
        frame = _frame(file, offset, size)
        yield frame
        offset += frame.length


def check(file: BinaryIO, spans: Sequence[Span], *, init: Hour, lead: int) -> bool:
    """Check that a file holds exactly the messages of `spans`, for this init and lead time (hours).

    Returns:
        Whether the messages are simulated.

    Raises:
        Bad: The file holds other messages, or simulated and real ones.
    """
    frames = list(walk(file))
    if len(frames) != len(spans):
        raise Bad(f"{len(frames)} messages stand where the index has {len(spans)}")
    for frame, span in zip(frames, spans, strict=True):
        name, length = span.spec.name, span.length
        if frame.length != length:
            raise Bad(f"the message of {name} is {frame.length} bytes long where the index has {length}")
        if frame.init != init:
            raise Bad(f"the message of {name} belongs to the cycle of {frame.init}")
        if not frame.matches(span.spec, lead):
            raise Bad(f"the message at {name}'s place is another field or lead")
    if len({frame.simulated for frame in frames}) > 1:
        raise Bad("simulated and real messages stand in one file")
    return frames[0].simulated


def _frame(file: BinaryIO, offset: int, size: int) -> Frame:
    file.seek(offset)
    indicator = file.read(INDICATOR)
    length = message_length(indicator)
    if offset + length > size:
        raise Incomplete("the last message is cut short")
    identification, product, fields = b"", b"", 0
    end = offset + length - len(END)

    def head(position: int) -> bytes:
        file.seek(position)
        return file.read(47)

    try:
        for number, position, section_length in sections.walk(head, offset + INDICATOR, end):
            if number == 1:
                identification = head(position)
            elif number == 4 and not product:
                product = head(position)[:section_length]
            fields += number == 7
    except DamagedFileError as error:
        raise Bad(str(error)) from None
    file.seek(end)
    if file.read(len(END)) != END or len(identification) < 21 or not product or not fields:
        raise Bad("a message does not end as GRIB does")
    template = int.from_bytes(product[7:9], "big")
    key, lead_hours = _product(indicator[6], template, product)
    return Frame(
        offset=offset,
        length=length,
        key=key,
        init=_reference_time(identification),
        lead_hours=lead_hours,
        template=template,
        limit=_limit(template, product),
        simulated=identification[19] == SIMULATED_STATUS,
        fields=fields,
    )


def _reference_time(identification: bytes) -> np.datetime64:
    year, month, day, hour, minute, second = struct.unpack(">H5B", identification[12:19])
    try:
        return np.datetime64(datetime(year, month, day, hour, minute, second), "s")
    except ValueError:
        raise Bad("a message has no valid reference time") from None


def _product(discipline: int, template: int, section: bytes) -> tuple[GribKey | None, float]:
    """Key and lead time (hours) from section 4."""
    if template > MAX_FIELD_TEMPLATE or len(section) < 28:
        return None, float("nan")
    category, number, unit, surface = section[9], section[10], section[17], section[22]
    lead_hours = int.from_bytes(section[18:22], "big") * _UNIT_HOURS.get(unit, float("nan"))
    return GribKey(discipline, category, number, surface, _scaled(section[23:28])), lead_hours


def _limit(template: int, section: bytes) -> Limit | None:
    """The event of a probability (code table 4.9): below or above its lower or its upper limit."""
    if template not in PROBABILITY_TEMPLATES or len(section) < 47:
        return None
    kind, lower, upper = section[36], _scaled(section[37:42]), _scaled(section[42:47])
    events = {0: Limit(lower, below=True), 1: Limit(upper), 3: Limit(lower), 4: Limit(upper, below=True)}
    return events.get(kind)


def _scaled(octets: bytes) -> float:
    """Decode a scale factor and a scaled value, both sign and magnitude; missing ones count as 0."""
    factor, value = octets[0], int.from_bytes(octets[1:5], "big")
    exponent = 0 if factor == 0xFF else (factor & 0x7F) * (-1 if factor & 0x80 else 1)
    magnitude = 0 if value == 0xFFFFFFFF else (value & 0x7FFFFFFF) * (-1 if value & 0x80000000 else 1)
    return magnitude * 10.0**-exponent if exponent <= 0 else magnitude / 10.0**exponent
