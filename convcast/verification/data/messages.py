"""Some messages of a GRIB2 file, as cfgrib takes them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from convcast import grib  # noqa: F401  isort: skip (before cfgrib: it imports ecCodes in the order that works)
from cfgrib.messages import FileStream


class SelectedMessages(FileStream):  # type: ignore[misc]
    """The messages at some offsets of a file. cfgrib scans no others, and writes no index beside the file."""

    offsets: tuple[Any, ...] = ()

    @classmethod
    def at(cls, path: Path, offsets: Sequence[Any]) -> SelectedMessages:
        """The messages at these offsets, bytes; a pair is an offset and the number of a field in the message."""
        chosen = cls(str(path), "raise")
        chosen.offsets = tuple(offsets)
        return chosen

    def items(self) -> Any:
        return [(offset, self[offset]) for offset in self.offsets]
