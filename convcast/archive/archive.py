"""The archive on disk: subsets of the publisher's files, in its layout, each with a sidecar that vouches for it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, ClassVar

import numpy as np
from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from convcast.archive import locations
from convcast.errors import DamagedFileError
from convcast.files import sha256, sweep, write_json
from convcast.notation import HOUR, Hour, Hours

SIDECAR_SUFFIX = ".json"


Octets = Annotated[int, Field(ge=0)]
_STRICT = ConfigDict(strict=True, extra="forbid")


@dataclass(frozen=True)
class ArchivedMessage:
    """One message of a subset file."""

    __pydantic_config__: ClassVar = _STRICT

    variable: str
    """Name of the field, or of the product made of it."""
    offset: Octets
    length: Octets


@dataclass(frozen=True)
class Sidecar:
    """Where a file came from and what it holds; written after the file, so that its presence says `whole`."""

    __pydantic_config__: ClassVar = _STRICT

    source: str
    url: str
    etag: str | None
    """ETag or Last-Modified of the publisher's file, as it stood when all ranges were read."""
    ranges: tuple[tuple[Octets, Octets], ...]
    """Of the publisher's file, bytes, end excluded."""
    messages: tuple[ArchivedMessage, ...]
    bytes: Octets
    sha256: str
    simulated: bool
    fetched: str
    """UTC."""
    lacking: tuple[str, ...] = ()
    """What was asked for and the publisher's file does not have."""

    def holds(self, names: Sequence[str]) -> bool:
        """Whether all that there is of these messages is here."""
        return set(names) <= {message.variable for message in self.messages} | set(self.lacking)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, text: str) -> Sidecar:
        """Raises ValueError where this is not what `to_dict` was written as, or messages lie outside of the file."""
        sidecar = _adapter().validate_json(text)
        if any(message.offset + message.length > sidecar.bytes for message in sidecar.messages):
            raise ValueError("a message ends after the file")
        return sidecar


@lru_cache(maxsize=1)
def _adapter() -> TypeAdapter[Sidecar]:
    return TypeAdapter(Sidecar)


class Archive:
    """Subset files under `root`, named as the publisher names the whole ones."""

    def __init__(self, root: Path) -> None:
        self.root = root

    @property
    def static(self) -> Path:
        """Terrain and land mask, from one of the files."""
        return self.root / "static.grib2"

    def path(self, valid: Hour, lead: int) -> Path:
        """The subset whose fields are valid at this hour, forecast `lead` hours before."""
        return self.root / locations.archive_path(locations.hrrr(valid - lead * HOUR, lead))

    def hours(self, lead: int) -> Hours:
        """Valid hours whose file and sidecar are both there, in order."""
        found = []
        for sidecar in self.root.glob(f"hrrr.*/conus/hrrr.t??z.wrfsfcf{lead:02d}.grib2{SIDECAR_SUFFIX}"):
            path = sidecar.with_name(sidecar.name.removesuffix(SIDECAR_SUFFIX))
            parsed = locations.parse_path(path.relative_to(self.root).as_posix())
            if parsed is not None and path.is_file() and self._has_inside(path):
                found.append(parsed.valid)
        return np.array(sorted(found), "datetime64[h]")

    def files(self) -> Iterator[Path]:
        """Every data file, in order, with or without a sidecar."""
        if self.static.is_file():
            yield self.static
        yield from (path for path in sorted(self.root.glob("*.????????/**/*.grib2")) if self._has_inside(path))

    def refuse_outside(self, path: Path) -> None:
        """Raises DamagedFileError where a link among the archive's own files and folders leads out of it."""
        if not self._has_inside(path):
            raise DamagedFileError(f"{path} is a link that leads out of the archive", advice="remove the link")

    def _has_inside(self, path: Path) -> bool:
        return path.resolve().is_relative_to(self.root.resolve())

    def sidecar(self, path: Path) -> Sidecar:
        """What is known of a file.

        Raises DamagedFileError where the file or its sidecar is missing, unreadable, or they disagree about the size.
        """
        self.refuse_outside(path)
        beside = sidecar_path(path)
        try:
            sidecar = Sidecar.from_json(beside.read_text(encoding="utf-8"))
            size = path.stat().st_size
        except FileNotFoundError as error:
            raise DamagedFileError(f"{error.filename} is missing", advice="run `convcast fetch` again") from None
        except ValueError as error:
            reason = error.errors()[0]["msg"] if isinstance(error, ValidationError) else error
            raise DamagedFileError(
                f"{beside} is no sidecar of convcast's ({reason})", advice="run `convcast fetch` again"
            ) from None
        if size != sidecar.bytes:
            raise DamagedFileError(
                f"{path} has {size} bytes where its sidecar says {sidecar.bytes}", advice="run `convcast fetch` again"
            )
        return sidecar

    def has(self, path: Path, names: Sequence[str]) -> Sidecar | None:
        """The sidecar of a file that is whole and holds these messages; None where it must be fetched."""
        try:
            sidecar = self.sidecar(path)
        except DamagedFileError:
            return None
        return sidecar if sidecar.holds(names) else None

    def write_sidecar(self, path: Path, sidecar: Sidecar) -> None:
        write_json(sidecar_path(path), sidecar.to_dict())

    def remove_sidecar(self, path: Path) -> None:
        """Take the sidecar away: the file no longer counts, and the next fetch replaces it."""
        sidecar_path(path).unlink(missing_ok=True)

    @property
    def simulated(self) -> bool | None:
        """Whether the archive is of the simulated world; None while it is empty."""
        for path in self.files():
            try:
                return self.sidecar(path).simulated
            except DamagedFileError:
                continue
        return None

    def refuse_mixing(self, simulated: bool, mine: bool | None) -> None:
        """Raises DamagedFileError where a file of this kind would join files of the other kind, `mine`."""
        if mine is not None and mine != simulated:
            kinds = ("real", "simulated")
            raise DamagedFileError(
                f"{self.root} holds {kinds[mine]} files and cannot take {kinds[simulated]} ones",
                advice="choose another --workspace",
            )

    def sweep(self) -> None:
        """Delete what killed runs were writing."""
        sweep(self.root)


ARCHIVE_NAMES = ("hrrr", "refs", "href")
"""Of a workspace's archive. RRFS files lie with REFS, whose members they are."""


def open_archives(root: Path) -> dict[str, Archive]:
    """The archives under this folder, by room, whether or not they hold anything yet."""
    return {room: Archive(root / room) for room in ARCHIVE_NAMES}


def sidecar_path(path: Path) -> Path:
    return path.with_name(path.name + SIDECAR_SUFFIX)


def matches(path: Path, sidecar: Sidecar) -> bool:
    """Whether the file's bytes are those that were fetched."""
    return sha256(path) == sidecar.sha256
