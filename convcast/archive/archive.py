"""The archive on disk: subsets of the publisher's GRIB files, in its folder layout, each with a JSON sidecar."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import reduce
from pathlib import Path
from typing import Annotated, ClassVar

import numpy as np
from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from convcast.archive import locations
from convcast.errors import DamagedFileError
from convcast.files import write_json
from convcast.notation import HOUR, Hour, Hours

SIDECAR_SUFFIX = ".json"


Octets = Annotated[int, Field(ge=0)]
_STRICT = ConfigDict(strict=True, extra="forbid")


@dataclass(frozen=True)
class ArchivedMessage:
    """Location of one message in a subset file, in bytes."""

    __pydantic_config__: ClassVar = _STRICT

    variable: str
    """Name of the field, or of the product made of it."""
    offset: Octets
    length: Octets


@dataclass(frozen=True)
class Sidecar:
    """Origin and content of a subset file, written last, so that its presence shows that the file is whole."""

    __pydantic_config__: ClassVar = _STRICT

    source: str
    url: str
    etag: str | None
    """ETag or Last-Modified of the version of the publisher's file from which all ranges were read."""
    ranges: tuple[tuple[Octets, Octets], ...]
    """Byte ranges of the publisher's file that were copied, end excluded."""
    messages: tuple[ArchivedMessage, ...]
    bytes: Octets
    sha256: str
    simulated: bool
    fetched: str
    """Time of the fetch, UTC."""
    lacking: tuple[str, ...] = ()
    """Names of requested messages that the publisher's file does not have."""

    def holds(self, names: Sequence[str]) -> bool:
        """Return whether the file holds these messages, except those that the publisher's file lacks."""
        return set(names) <= {message.variable for message in self.messages} | set(self.lacking)

    @classmethod
    def from_json(cls, text: str) -> Sidecar:
        """Parse a sidecar.

        Raises:
            ValueError: The text is not a sidecar, or a message ends after the file.
        """
        sidecar = _SIDECARS.validate_json(text)
        if any(message.offset + message.length > sidecar.bytes for message in sidecar.messages):
            raise ValueError("a message ends after the file")
        return sidecar


_SIDECARS = TypeAdapter(Sidecar)


class Archive:
    """Subset files under the folder `root`, with the publisher's file names."""

    def __init__(self, root: Path) -> None:
        self.root = root

    @property
    def static(self) -> Path:
        """File of the terrain and land mask."""
        return self.root / "static.grib2"

    def path(self, valid: Hour, lead: int) -> Path:
        """Return the path of the subset file for this valid time and lead time (hours)."""
        return self.root / locations.archive_path(locations.hrrr(valid - lead * HOUR, lead))

    def hours(self, *leads: int) -> Hours:
        """Return the valid hours, ascending, with files and sidecars of all these lead times (hours)."""
        hours: Hours = reduce(np.intersect1d, map(self._hours, leads))
        return hours

    def _hours(self, lead: int) -> Hours:
        hours = []
        for sidecar in self.root.glob(f"hrrr.*/conus/hrrr.t??z.wrfsfcf{lead:02d}.grib2{SIDECAR_SUFFIX}"):
            path = sidecar.with_name(sidecar.name.removesuffix(SIDECAR_SUFFIX))
            parsed = locations.parse_path(path.relative_to(self.root).as_posix())
            if parsed is not None and path.is_file() and self._has_inside(path):
                hours.append(parsed.valid)
        return np.array(sorted(hours), "datetime64[h]")

    def files(self) -> Iterator[Path]:
        """Yield every data file in order, with or without a sidecar."""
        if self.static.is_file():
            yield self.static
        yield from (path for path in sorted(self.root.glob("*.????????/**/*.grib2")) if self._has_inside(path))

    def refuse_outside(self, path: Path) -> None:
        """Raise DamagedFileError if the path leads out of the archive through a link."""
        if not self._has_inside(path):
            raise DamagedFileError(f"{path} is a link that leads out of the archive", advice="remove the link")

    def _has_inside(self, path: Path) -> bool:
        return path.resolve().is_relative_to(self.root.resolve())

    def sidecar(self, path: Path) -> Sidecar:
        """Read the sidecar of a file.

        Raises:
            DamagedFileError: The file or its sidecar is missing or unreadable, or the sizes differ.
        """
        self.refuse_outside(path)
        file = sidecar_path(path)
        try:
            sidecar = Sidecar.from_json(file.read_text(encoding="utf-8"))
            size = path.stat().st_size
        except FileNotFoundError as error:
            raise DamagedFileError(f"{error.filename} is missing", advice="run `convcast fetch` again") from None
        except ValueError as error:
            reason = error.errors()[0]["msg"] if isinstance(error, ValidationError) else error
            raise DamagedFileError(
                f"{file} is not a sidecar of convcast ({reason})", advice="run `convcast fetch` again"
            ) from None
        if size != sidecar.bytes:
            raise DamagedFileError(
                f"{path} has {size} bytes where its sidecar says {sidecar.bytes}", advice="run `convcast fetch` again"
            )
        return sidecar

    def has(self, path: Path, names: Sequence[str]) -> Sidecar | None:
        """Return the sidecar of a file that is whole and holds these messages, or None if the file must be fetched."""
        try:
            sidecar = self.sidecar(path)
        except DamagedFileError:
            return None
        return sidecar if sidecar.holds(names) else None

    def write_sidecar(self, path: Path, sidecar: Sidecar) -> None:
        """Write the sidecar of a file."""
        write_json(sidecar_path(path), asdict(sidecar))

    def remove_sidecar(self, path: Path) -> None:
        """Delete the sidecar of a file, so that the next fetch replaces the file."""
        sidecar_path(path).unlink(missing_ok=True)

    @property
    def simulated(self) -> bool | None:
        """Whether the archive holds simulated files; None while it is empty."""
        for path in self.files():
            try:
                return self.sidecar(path).simulated
            except DamagedFileError:
                continue
        return None

    def refuse_mixing(self, simulated: bool, mine: bool | None) -> None:
        """Raise DamagedFileError if a simulated file would be added to real ones (`mine`), or the reverse."""
        if mine is not None and mine != simulated:
            kinds = ("real", "simulated")
            raise DamagedFileError(
                f"{self.root} holds {kinds[mine]} files and cannot take {kinds[simulated]} ones",
                advice="choose another --workspace",
            )


ARCHIVE_NAMES = ("hrrr", "refs", "href", "hrrrcast", "mrms")
"""Names of the archives of a workspace. RRFS files are stored with REFS, since they are members of it."""


def open_archives(root: Path) -> dict[str, Archive]:
    """Return the archives under this folder by name, empty or not."""
    return {name: Archive(root / name) for name in ARCHIVE_NAMES}


def sidecar_path(path: Path) -> Path:
    """Return the path of a file's sidecar."""
    return path.with_name(path.name + SIDECAR_SUFFIX)
