"""Read what a GRIB2 message is from its octets, without decoding it.

Octets are numbered as the WMO Manual on Codes numbers them (volume I.2, FM 92 GRIB edition 2).
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

import numpy as np

from convcast.errors import DamagedFileError
from convcast.grib.sections import END, INDICATOR, walk
from convcast.variables import SIMULATED_STATUS, GribKey

HEAD = 47
"""Octets of a section that are read: up to the end of a probability's limits."""
MAX_FIELD_TEMPLATE = 15
"""Last product definition template with the layout of template 0; templates 8 to 15 are statistics over a period."""
PROBABILITY_TEMPLATES = (5, 9)
MRMS_CENTRE = 161
"""Originating centre (common code table C-11) of MRMS, whose operational files have the status of research."""
_UNIT_HOURS = {0: 1 / 60, 1: 1.0, 2: 24.0, 10: 3.0, 11: 6.0, 12: 12.0, 13: 1 / 3600}
"""Hours of each unit of time (code table 4.4)."""


@dataclass(frozen=True)
class Limit:
    """Event of a probability: at or above `threshold`, or at or below it."""

    threshold: float
    below: bool = False


@dataclass(frozen=True)
class Identity:
    """The identity of one message; if it holds several fields, that of the first."""

    key: GribKey | None
    """Key of the field; None if its template is not among those that HRRR uses."""
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
        """Whether the field is an average, a sum or an extreme over a period."""
        return 8 <= self.template <= MAX_FIELD_TEMPLATE


def identify(head: Callable[[int], bytes], start: int, length: int) -> Identity:
    """Read the identity of a message.

    Args:
        head: Gives the HEAD octets at a position, or fewer at the end of the file.
        start: Position of the message, in octets.
        length: Length of the message, in octets.

    Raises:
        DamagedFileError: A section does not end where another begins, sections are missing, or there is no valid time.
    """
    identification, product, fields = b"", b"", 0
    end = start + length - len(END)
    for number, position, octets in walk(head, start + INDICATOR, end):
        if number == 1:
            identification = head(position)
        elif number == 4 and not product:
            product = head(position)[:octets]
        fields += number == 7
    if head(end)[: len(END)] != END or len(identification) < 21 or not product or not fields:
        raise DamagedFileError("a message does not end as GRIB does")
    template = int.from_bytes(product[7:9], "big")
    key, lead_hours = _product(head(start)[6], template, product)
    return Identity(
        key=key,
        init=_reference_time(identification),
        lead_hours=lead_hours,
        template=template,
        limit=_limit(template, product),
        simulated=identification[19] == SIMULATED_STATUS and int.from_bytes(identification[5:7], "big") != MRMS_CENTRE,
        fields=fields,
    )


def _reference_time(identification: bytes) -> np.datetime64:
    try:
        return np.datetime64(datetime(*struct.unpack(">H5B", identification[12:19])), "s")
    except ValueError:
        raise DamagedFileError("a GRIB message has no valid reference time") from None


def _product(discipline: int, template: int, section: bytes) -> tuple[GribKey | None, float]:
    """Return the key and the lead time (hours) in section 4."""
    if template > MAX_FIELD_TEMPLATE or len(section) < 28:
        return None, float("nan")
    category, number, unit, surface = section[9], section[10], section[17], section[22]
    lead_hours = int.from_bytes(section[18:22], "big") * _UNIT_HOURS.get(unit, float("nan"))
    return GribKey(discipline, category, number, surface, _scaled(section[23:28])), lead_hours


def _limit(template: int, section: bytes) -> Limit | None:
    """Return the event of a probability (code table 4.9): below or above its lower or its upper limit."""
    if template not in PROBABILITY_TEMPLATES or len(section) < HEAD:
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
