"""Read the extent and identity of each GRIB2 message of a file without decoding it.

The octets are read directly (WMO Manual on Codes, volume I.2, FM 92 GRIB edition 2) and not through ecCodes: the files
are untrusted and read by many threads, and ecCodes skips any bytes between two messages.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np

from convcast.archive.failures import Bad, Incomplete
from convcast.archive.messages.index import Span
from convcast.archive.messages.spec import MessageSpec
from convcast.errors import DamagedFileError
from convcast.grib import sections
from convcast.grib.identity import HEAD, Identity, identify
from convcast.grib.sections import END, INDICATOR
from convcast.notation import Hour


@dataclass(frozen=True)
class Frame(Identity):
    """Extent and identity of one message of a file."""

    offset: int
    length: int

    def matches(self, spec: MessageSpec, lead: int) -> bool:
        """Return whether this message has only the field of `spec`, at this lead time (hours)."""
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


def check(
    file: BinaryIO,
    spans: Sequence[Span],
    *,
    init: Hour,
    lead: int,
    near: Callable[[np.datetime64, Hour], bool] | None = None,
) -> bool:
    """Check that a file holds exactly the messages of `spans`, for this init and lead time (hours).

    The reference time of a message must be the init, or one that `near` accepts for it.

    Returns:
        Whether the messages are simulated.

    Raises:
        Bad: The file holds other messages, or simulated and real ones.
    """
    frames = list(walk(file))
    if len(frames) != len(spans):
        raise Bad(f"it has {len(frames)} messages where the index has {len(spans)}")
    for frame, span in zip(frames, spans, strict=True):
        name, length = span.spec.name, span.length
        if frame.length != length:
            raise Bad(f"the message of {name} is {frame.length} bytes long where the index has {length}")
        if not (near or np.equal)(frame.init, init):
            raise Bad(f"the message of {name} belongs to the cycle of {frame.init}")
        if not frame.matches(span.spec, lead):
            raise Bad(f"the message at the offset of {name} is another field or lead")
    if len({frame.simulated for frame in frames}) > 1:
        raise Bad("it has both simulated and real messages")
    return frames[0].simulated


def _frame(file: BinaryIO, offset: int, size: int) -> Frame:
    def head(position: int) -> bytes:
        file.seek(position)
        return file.read(HEAD)

    length = message_length(head(offset)[:INDICATOR])
    if offset + length > size:
        raise Incomplete("the last message is cut short")
    try:
        return Frame(**vars(identify(head, offset, length)), offset=offset, length=length)
    except DamagedFileError as error:
        raise Bad(str(error)) from None
