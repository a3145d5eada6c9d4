"""A request for messages of one file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from convcast.archive import locations
from convcast.archive.archive import Archive
from convcast.archive.locations import GribFile
from convcast.archive.messages.spec import MessageSpec


@dataclass(frozen=True)
class Request:
    """Request to store messages of one of a publisher's files in an archive."""

    file: GribFile
    specs: tuple[MessageSpec, ...]
    archive: Archive
    partial: bool = False
    """Whether a file without some messages is accepted: ensembles have fewer fields than HRRR."""

    @property
    def path(self) -> Path:
        """Path of the file."""
        return self.archive.root / self.name

    @property
    def name(self) -> str:
        """Path of the file within the archive."""
        return locations.archive_path(self.file).as_posix()

    @property
    def is_archived(self) -> bool:
        """Whether the archive already has these messages."""
        return self.archive.has(self.path, [spec.name for spec in self.specs]) is not None
