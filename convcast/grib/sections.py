"""Check the sections of a GRIB2 message before ecCodes decodes it.

ecCodes trusts the counts and widths in a message, and a damaged message may crash the process. A message that passes
these checks may still be refused by ecCodes, with an error.

Octets are numbered as the WMO Manual on Codes numbers them (volume I.2, FM 92 GRIB edition 2), from 1.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from convcast.errors import DamagedFileError

START, END = b"GRIB", b"7777"
INDICATOR = 16
"""Octets of section 0."""
MAX_POINTS = 1 << 25
"""Maximum number of grid points: MRMS's grid has 24.5 million, and a damaged number could exceed the memory."""
MAX_BITS = 32
"""Maximum number of bits of a packed value."""
MAX_EXPONENT = 127
"""Maximum exponent of the powers of two and ten that scale packed values."""

_NEXT = {0: {1}, 1: {2, 3}, 2: {3}, 3: {4}, 4: {5}, 5: {6}, 6: {7}, 7: {2, 3, 4}}
"""Sections that may follow each section; after section 7, another field of the same message may begin."""
_MIN_LENGTHS = {1: 21, 2: 5, 3: 14, 4: 34, 5: 21, 6: 6, 7: 5}
_GRID_LENGTHS = {0: 72, 30: 81}
"""Length of section 3 by template: latitude and longitude, and Lambert conformal."""
_PRODUCT_LENGTHS = {0: 34, 1: 37, 2: 36, 5: 47, 6: 35}
"""Length of section 4 by template, in octets."""
_PERIOD_LENGTHS = {8: (42, 46), 9: (55, 59), 10: (43, 47), 11: (45, 49), 12: (44, 48)}
"""Octet of the number of time ranges, and the length without them."""
_RANGE = 12
"""Octets of a time range."""
_PACKING_LENGTHS = {0: 21, 2: 47, 3: 49, 40: 23, 41: 21, 42: 25}
"""Octets of section 5 by template: simple, complex, complex of spatial differences, JPEG 2000, PNG, CCSDS."""
_JPEG = b"\xff\x4f\xff\x51"
"""Start of a JPEG 2000 code stream and of its size marker."""
_PNG = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"
"""Start of a PNG image and of its header."""
_PNG_CHANNELS = {0: 1, 2: 3, 6: 4}
"""Channels by colour type: grey, colour, and colour with transparency."""


def message_length(start: bytes) -> int:
    """Length of a message in octets, from its first 16; raises DamagedFileError if they are not of GRIB2."""
    if len(start) < INDICATOR or start[:4] != START:
        raise DamagedFileError("there is no GRIB message at its offset")
    if start[7] != 2:
        raise DamagedFileError("not GRIB edition 2")
    return int.from_bytes(start[8:16], "big")


def check(message: bytes) -> None:
    """Raise DamagedFileError if a message's sections are inconsistent, or of kinds that HRRR does not use."""
    if message_length(message) != len(message) or message[-4:] != END:
        raise DamagedFileError("a GRIB message is cut short")
    points = values = 0
    packing = b""
    for number, section in _sections(message):
        if number == 3:
            points = _grid_points(section)
        elif number == 4:
            _check_product(section)
        elif number == 5:
            packing, values = section, _number(section, 6, 4)
            _check_packing(packing)
        elif number == 6:
            _check_bitmap(section, points=points, values=values)
        elif number == 7:
            _check_values(packing, section, values)


def walk(head: Callable[[int], bytes], start: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Yield the number, position and length of each section of a message.

    Args:
        head: Gives at least the five octets that stand at a position.
        start: Position of section 1, in octets.
        end: Position of section 8 (`7777`).

    Raises:
        DamagedFileError: A section has an unknown number, or does not end where another or the message ends.
    """
    position = start
    while position < end:
        octets = head(position)
        length, number = int.from_bytes(octets[:4], "big"), octets[4]
        if length < 5 or position + length > end or not 1 <= number <= 7:
            raise _damaged(f"section {number} has {length} octets")
        yield number, position, length
        position += length


def _sections(message: bytes) -> Iterator[tuple[int, bytes]]:
    before, end = 0, len(message) - len(END)
    for number, position, length in walk(lambda at: message[at : at + 5], INDICATOR, end):
        if number not in _NEXT[before] or length < _MIN_LENGTHS[number]:
            raise _damaged(f"section {number} after section {before}")
        yield number, message[position : position + length]
        before = number
    if before != 7:
        raise _damaged(f"it ends after section {before}")


def _grid_points(section: bytes) -> int:
    points, template = _number(section, 7, 4), _number(section, 13, 2)
    if not 0 < points <= MAX_POINTS or len(section) != _GRID_LENGTHS.get(template, len(section)) or section[10]:
        raise _damaged(f"section 3 has {len(section)} octets for a grid of {points} points")
    return points


def _check_product(section: bytes) -> None:
    template, length = _number(section, 8, 2), len(section)
    if template in _PRODUCT_LENGTHS:
        expected = _PRODUCT_LENGTHS[template]
    elif template in _PERIOD_LENGTHS:
        octet, without = _PERIOD_LENGTHS[template]
        expected = without + _RANGE * (section[octet - 1] if length >= octet else 0)
    else:
        expected = length
    if length != expected or _number(section, 6, 2):
        raise _damaged(f"section 4 has {length} octets")


def _check_packing(section: bytes) -> None:
    template = _number(section, 10, 2)
    if template not in _PACKING_LENGTHS:
        raise DamagedFileError(f"a GRIB message is packed by template 5.{template}, which convcast does not read")
    exponents = [abs(_signed(section, octet)) for octet in (16, 18)]
    if len(section) != _PACKING_LENGTHS[template] or section[19] > MAX_BITS or max(exponents) > MAX_EXPONENT:
        raise _damaged("section 5 is not a valid packing")


def _check_bitmap(section: bytes, *, points: int, values: int) -> None:
    if section[5] == 255:
        present = points
    elif section[5] == 0 and len(section) == 6 + -(-points // 8):
        present = int(np.unpackbits(np.frombuffer(section, np.uint8, offset=6), count=points).sum())
    else:
        raise _damaged("section 6 is not a valid bitmap")
    if present != values:
        raise _damaged(f"{values} values for {present} points")


def _check_values(packing: bytes, section: bytes, values: int) -> None:
    template, bits = _number(packing, 10, 2), packing[19]
    if template == 40:
        _check_jpeg(section, values)
    elif template == 41 and bits:
        _check_png(section, values, bits)
    needed = 0
    if template == 0:
        needed = _octets(values * bits)
    elif template in (2, 3):
        needed = _complex_octets(packing, section, values)
    if len(section) < 5 + needed:
        raise _damaged(f"section 7 has {len(section) - 5} octets of {needed}")


def _check_jpeg(section: bytes, values: int) -> None:
    """Check the size marker of a JPEG 2000 code stream (ISO/IEC 15444-1, A.5.1): all values are in one tile."""
    columns, rows, *frame = (_number(section, octet, 4) for octet in range(14, 46, 4))
    fits = section[5:9] == _JPEG and columns * rows == values and frame == [0, 0, columns, rows, 0, 0]
    # The image has one component of unsigned numbers, one number for each point.
    if (
        not fits
        or len(section) < 50
        or section[45:47] != b"\0\1"
        or section[47] >= MAX_BITS
        or section[48:50] != b"\1\1"
    ):
        raise _damaged(f"section 7 is not an image of {values} values")


def _check_png(section: bytes, values: int, bits: int) -> None:
    """Check the header of a PNG image (ISO/IEC 15948, 11.2.2): a pixel for each value, with its bits, in order."""
    columns, rows = _number(section, 22, 4), _number(section, 26, 4)
    if len(section) < 34 or section[5:21] != _PNG or columns * rows != values:
        raise _damaged(f"section 7 is not an image of {values} values")
    depth, colour, compression, filtering, interlaced = section[29:34]
    if depth * _PNG_CHANNELS.get(colour, 0) != bits or compression or filtering or interlaced:
        raise _damaged(f"section 7 is not an image of {bits} bits per value")


def _complex_octets(packing: bytes, section: bytes, values: int) -> int:
    """Return the number of octets that values packed in groups need (templates 7.2 and 7.3)."""
    bits, groups = packing[19], _number(packing, 32, 4)
    width_bits, length_bits = packing[36], packing[46]
    before = 0
    if _number(packing, 10, 2) == 3:
        order, octets = packing[47], packing[48]
        if order not in (1, 2) or not 1 <= octets <= 4 or values <= order:
            raise _damaged(f"spatial differences of order {order} in {octets} octets")
        before = (order + 1) * octets
    if groups > values or max(width_bits, length_bits) > MAX_BITS or packing[22] > 2:
        raise _damaged(f"{groups} groups of {values} values")
    first = 5 + before + _octets(groups * bits)
    second = first + _octets(groups * width_bits)
    third = second + _octets(groups * length_bits)
    if third > len(section):
        raise _damaged(f"{groups} groups in {len(section)} octets")
    widths = packing[35] + _unpack(section[first:second], groups, width_bits)
    lengths = _number(packing, 38, 4) + packing[41] * _unpack(section[second:third], groups, length_bits)
    if groups:
        lengths[-1] = _number(packing, 43, 4)
    if int(lengths.sum()) != values or (groups and int(widths.max()) > MAX_BITS):
        raise _damaged(f"groups of {int(lengths.sum())} values where there are {values}")
    return third - 5 + _octets(int((widths * lengths).sum()))


def _unpack(data: bytes, count: int, bits: int) -> NDArray[np.int64]:
    """Unpack `count` numbers of `bits` bits each, stored without gaps."""
    if bits == 0 or count == 0:
        return np.zeros(count, np.int64)
    each = np.unpackbits(np.frombuffer(data, np.uint8), count=count * bits).reshape(count, bits)
    numbers = np.zeros(count, np.int64)
    for bit in each.T:
        numbers = 2 * numbers + bit
    return numbers


def _octets(bits: int) -> int:
    return -(-bits // 8)


def _number(section: bytes, octet: int, count: int) -> int:
    return int.from_bytes(section[octet - 1 : octet - 1 + count], "big")


def _signed(section: bytes, octet: int) -> int:
    """Decode two octets, sign and magnitude."""
    number = _number(section, octet, 2)
    return -(number & 0x7FFF) if number & 0x8000 else number


def _damaged(what: str) -> DamagedFileError:
    return DamagedFileError(f"a GRIB message's sections do not fit: {what}")
