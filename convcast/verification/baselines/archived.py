"""Access to the archived messages of reference ensembles, by the names in their sidecars."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from convcast import grib
from convcast.archive.archive import Archive
from convcast.archive.locations import GribFile, archive_path
from convcast.errors import DamagedFileError
from convcast.grib import MessageHeader
from convcast.grid import Grid
from convcast.variables import GribKey
from convcast.verification.digest import digest

AGAIN = "run `convcast fetch` again"


def locate_file(archives: Mapping[str, Archive], file: GribFile) -> tuple[Archive, Path]:
    """Return the archive and the path of a publisher's file; RRFS files are stored with REFS."""
    archive = archives["refs" if file.model == "rrfs" else file.model]
    return archive, archive.root / archive_path(file)


def available_messages(archives: Mapping[str, Archive], file: GribFile) -> frozenset[str]:
    """Return the names of the complete messages of a file in the archive; none where the file is missing."""
    archive, path = locate_file(archives, file)
    try:
        return frozenset(message.variable for message in archive.sidecar(path).messages)
    except DamagedFileError:
        return frozenset()


def window_of_truth(source: Grid, truth: Grid, name: object) -> tuple[slice, slice]:
    """Return the rows and columns of a file's grid that are the truth's.

    Args:
        source: Grid of the file.
        truth: Grid of the truth.
        name: What the message calls the file.

    Raises:
        DamagedFileError: The file's grid does not cover the truth's; the message begins with `name`.
    """
    if not source.covers(truth):
        raise DamagedFileError(f"{name} does not cover the truth's part of the HRRR grid")
    return source.window(truth)


def fingerprint(archives: Mapping[str, Archive], files: Sequence[GribFile]) -> str:
    """Return a hash of the contents of these files, which must exist."""
    located = (locate_file(archives, file) for file in files)
    return digest(*(archive.sidecar(path).sha256 for archive, path in located))


def read_message(
    archives: Mapping[str, Archive], file: GribFile, name: str, keys: Sequence[GribKey], *, simulated: bool
) -> tuple[MessageHeader, NDArray[np.float32]]:
    """Read a message of the archive and check that it is of the file's hour.

    Args:
        archives: Archives by model.
        file: File of the publisher.
        name: Name of the message in the sidecar.
        keys: GRIB keys that the message may have.
        simulated: Whether the message should be of the simulated world.

    Returns:
        Header and values, (y, x).

    Raises:
        DamagedFileError: The message is missing, of another field or time, or of another world than it should be.
    """
    archive, path = locate_file(archives, file)
    messages = [message for message in archive.sidecar(path).messages if message.variable == name]
    if len(messages) != 1:
        raise DamagedFileError(f"{path} holds {name} {len(messages)} times", advice=AGAIN)
    with open(path, "rb") as stored:
        stored.seek(messages[0].offset)
        header, values = grib.decode(stored.read(messages[0].length))
    if header.key not in keys or (header.init, header.lead_hours) != (file.init, file.lead):
        raise DamagedFileError(
            f"{path} has {header.key} of {header.init} + {header.lead_hours:g} h as {name}", advice=AGAIN
        )
    if header.simulated != simulated:
        world = "the simulated world" if header.simulated else "real weather"
        raise DamagedFileError(f"{path} is of {world}, unlike the truth", advice=AGAIN)
    return header, values
