"""Selected messages of a GRIB2 file, as an input of cfgrib."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from convcast import grib  # noqa: F401  isort: skip (before cfgrib: it imports ecCodes in the order that works)
from cfgrib.messages import FileStream


class SelectedMessages(FileStream):  # type: ignore[misc]
    """Messages at given offsets of a file. cfgrib scans no others and writes no index file."""

    offsets: tuple[Any, ...] = ()

    @classmethod
    def at(cls, path: Path, offsets: Sequence[Any]) -> SelectedMessages:
        """Select messages by their offset, bytes, or by a pair of offset and field number within the message."""
        chosen = cls(str(path), "raise")
        chosen.offsets = tuple(offsets)
        return chosen

    def items(self) -> Any:
        return [(offset, self[offset]) for offset in self.offsets]
