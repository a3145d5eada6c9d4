"""A file that the archive should have, and what of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from convcast.archive import locations
from convcast.archive.archive import Archive
from convcast.archive.locations import GribFile
from convcast.archive.message_spec import MessageSpec


@dataclass(frozen=True)
class Request:
    """Messages of one file of a publisher, for one archive."""

    file: GribFile
    specs: tuple[MessageSpec, ...]
    archive: Archive
    partial: bool = False
    """Whether a file that missing_messages some of them counts: ensembles are published with fewer fields than HRRR."""

    @property
    def path(self) -> Path:
        return self.archive.root / locations.archive_path(self.file)

    @property
    def names(self) -> list[str]:
        return [spec.name for spec in self.specs]

    @property
    def is_archived(self) -> bool:
        return self.archive.has(self.path, self.names) is not None
