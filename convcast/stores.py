"""Zarr stores opened, with zarr's many ways to fail as one.

Metadata is a document that anybody may have written or damaged. zarr answers with whatever its parsers and codecs raise
(KeyError, TypeError, AttributeError, OverflowError), so nothing that comes out here is taken for a bug of convcast's.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import zarr

from convcast.errors import DamagedFileError, from_os_error

LARGEST_CHUNK = 1 << 28
"""Values: a chunk is in memory whole, and damaged metadata could ask for more than there is."""
LARGEST_OWN_CHUNK = 1 << 25
"""Of convcast's own stores: an hour of seven fields over CONUS has half as many."""


@contextmanager
def readable(complaint: str, advice: str | None = None) -> Iterator[None]:
    """Raises DamagedFileError with this complaint, and zarr's, for whatever reading a store raises in the block.

    A full disk or a lack of permission passes: it is no damage.
    """
    try:
        yield
    except DamagedFileError:
        raise
    except Exception as error:
        if isinstance(error, OSError) and from_os_error(error) is not None:
            raise
        said = (str(error).splitlines() or [""])[0] or type(error).__name__
        raise DamagedFileError(f"{complaint} ({said})", advice=advice) from error


def open_group(path: Path, *, writing: bool, complaint: str, advice: str) -> zarr.Group:
    """The Zarr v3 group at `path`, by its own metadata and not what was consolidated of it.

    Raises DamagedFileError where there is none, or it cannot be read.
    """
    with readable(complaint, advice):
        return zarr.open_group(path, mode="r+" if writing else "r", zarr_format=3, use_consolidated=False)


def open_array(group: zarr.Group, name: str, *, complaint: str, advice: str) -> zarr.Array:
    """An array of a group; raises DamagedFileError where there is none that can be used."""
    with readable(complaint, advice):
        array = group[name]
    if not isinstance(array, zarr.Array):
        raise DamagedFileError(complaint, advice=advice)
    refuse_chunks(array.shards or array.chunks, complaint=complaint, advice=advice, most=LARGEST_OWN_CHUNK)
    return array


def refuse_chunks(chunks: Sequence[int], *, complaint: str, advice: str, most: int = LARGEST_CHUNK) -> None:
    """Raises DamagedFileError where chunks of this shape hold more than `most` values."""
    if math.prod(chunks) > most:
        raise DamagedFileError(f"{complaint} (chunks of {tuple(chunks)} are too large)", advice=advice)
