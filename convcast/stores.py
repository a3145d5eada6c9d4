"""Open Zarr stores durably, and turn zarr's many errors into DamagedFileError.

Stores may be damaged or written by other programs. zarr then raises whatever its parsers and codecs raise (KeyError,
TypeError, AttributeError, OverflowError), and none of these is a bug of convcast.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from zarr.codecs import BloscCodec, Crc32cCodec, ShardingCodec
from zarr.core.buffer import Buffer
from zarr.storage import LocalStore

from convcast.errors import DamagedFileError, from_os_error
from convcast.files import PARTIAL, sync_folder, write_bytes

MAX_CHUNK_VALUES = 1 << 28
"""Maximum number of values in a chunk: chunks are read whole, and damaged metadata could exceed the memory."""
MAX_OWN_CHUNK_VALUES = 1 << 25
"""Maximum number of values in a chunk of convcast's own stores: twice an hour of seven fields over CONUS."""
_BLOSC_HEADER, _CHECKSUM = 16, 4
"""Size in bytes of a Blosc chunk's header, whose last four bytes are its length, and of a CRC32C checksum."""
_ABSENT = 2**64 - 1
"""Offset and length that mark an absent chunk in a shard's index."""


class DurableStore(LocalStore):
    """A Zarr store in a folder, in which each key is written atomically and is on the disk when `set` returns.

    Keys reach the disk in the order of writing, so a key written last can mark the others as complete.
    """

    async def set(self, key: str, value: Buffer) -> None:
        await asyncio.to_thread(self.set_sync, key, value)

    async def set_if_not_exists(self, key: str, value: Buffer) -> None:
        if not await self.exists(key):
            await self.set(key, value)

    def set_sync(self, key: str, value: Buffer) -> None:
        self._check_writable()
        write_bytes(self.root / key, value.as_buffer_like())

    async def delete(self, key: str) -> None:
        await super().delete(key)
        await asyncio.to_thread(self._sync_above, key)

    async def delete_dir(self, prefix: str) -> None:
        await super().delete_dir(prefix)
        await asyncio.to_thread(self._sync_above, prefix)

    async def list_dir(self, prefix: str) -> AsyncIterator[str]:
        async for name in super().list_dir(prefix):
            if not name.endswith(PARTIAL):  # zarr warns of files that are not part of a hierarchy
                yield name

    def _sync_above(self, key: str) -> None:
        folder = (self.root / key).parent
        if folder.is_dir():
            sync_folder(folder)


@contextmanager
def readable(complaint: str, advice: str | None = None) -> Iterator[None]:
    """Turn any error of reading a store in this block into DamagedFileError.

    Errors of the file system, such as a full disk, pass unchanged.

    Args:
        complaint: Message of the error, to which zarr's own is added.
        advice: Advice of the error.
    """
    try:
        yield
    except DamagedFileError:
        raise
    except Exception as error:
        if isinstance(error, OSError) and from_os_error(error) is not None:
            raise
        reason = (str(error).splitlines() or [""])[0] or type(error).__name__
        raise DamagedFileError(f"{complaint} ({reason})", advice=advice) from error


def open_group(path: Path, *, writing: bool, complaint: str, advice: str) -> zarr.Group:
    """Open the Zarr v3 group at `path`, ignoring consolidated metadata. Writes to it are durable.

    Args:
        path: Folder of the group.
        writing: Whether the group may be written to.
        complaint: Message of the error.
        advice: Advice of the error.

    Raises:
        DamagedFileError: There is no group, or it cannot be read.
    """
    with readable(complaint, advice):
        if not path.is_dir():
            raise NotADirectoryError(f"{path} is not a folder")
        store = DurableStore(path, read_only=not writing)
        return zarr.open_group(store, mode="r+" if writing else "r", zarr_format=3, use_consolidated=False)


def stored_attribute(path: Path, name: str) -> Any:
    """Return an attribute of the group at `path`; None if it lacks the attribute, or if no group can be read."""
    return stored_attributes(path).get(name)


def stored_attributes(path: Path) -> dict[str, Any]:
    """Return the attributes of the group at `path`; empty if no group can be read."""
    if not path.is_dir():
        return {}
    try:
        group = open_group(path, writing=False, complaint=f"{path} cannot be read", advice="")
    except DamagedFileError:
        return {}
    return dict(group.attrs)


def open_array(group: zarr.Group, name: str, *, complaint: str, advice: str) -> zarr.Array:
    """Open an array of a group.

    Args:
        group: The group.
        name: Name of the array.
        complaint: Sentence of the error if there is no such array.
        advice: Advice of the error.

    Raises:
        DamagedFileError: There is no such array, or its chunks are too large.
    """
    with readable(complaint, advice):
        array = group[name]
    if not isinstance(array, zarr.Array):
        raise DamagedFileError(complaint, advice=advice)
    refuse_chunks(array.shards or array.chunks, complaint=complaint, advice=advice, most=MAX_OWN_CHUNK_VALUES)
    return array


def refuse_chunks(chunks: Sequence[int], *, complaint: str, advice: str, most: int = MAX_CHUNK_VALUES) -> None:
    """Raise DamagedFileError if chunks of this shape hold more than `most` values.

    Args:
        chunks: Values along each side of a chunk.
        complaint: Beginning of the error's sentence.
        advice: Advice of the error.
        most: Maximum number of values.
    """
    if math.prod(chunks) > most:
        raise DamagedFileError(f"{complaint} (chunks of {tuple(chunks)} are too large)", advice=advice)


def chunk_fault(array: zarr.Array, store: Path, place: Sequence[int]) -> tuple[Path, str] | None:
    """Find the first missing or truncated file of an array.

    The array must not have chunks that hold only the fill value, since zarr writes no file for them.

    Args:
        array: The array.
        store: Folder of the root group.
        place: Indices along the first dimensions, which select the files to check.

    Returns:
        The file and what is wrong with it, or None if all files look whole.
    """
    sizes = array.shards or array.chunks
    counts = [range(-(-length // size)) for length, size in zip(array.shape, sizes, strict=True)]
    counts[: len(place)] = [range(at // size, at // size + 1) for at, size in zip(place, sizes, strict=False)]
    for chunk in product(*counts):
        file = store / array.path / array.metadata.encode_chunk_key(chunk)
        try:
            if not _looks_whole(file, array):
                return file, "is cut short"
        except (FileNotFoundError, NotADirectoryError):
            return file, "is gone"
        except IsADirectoryError:
            return file, "is a folder"
    return None


def _looks_whole(file: Path, array: zarr.Array) -> bool:
    """Return whether a chunk's file has the length recorded in it, as shards and Blosc chunks do."""
    codecs = getattr(array.metadata, "codecs", ())
    encoding = [codec for codec in codecs if not isinstance(codec, Crc32cCodec)]
    last = encoding[-1] if encoding else None
    with open(file, "rb") as opened:
        size = opened.seek(0, 2)
        if isinstance(last, BloscCodec):
            opened.seek(0)
            header = opened.read(_BLOSC_HEADER)
            checksums = _CHECKSUM * (len(codecs) - len(encoding))
            return len(header) == _BLOSC_HEADER and size == int.from_bytes(header[12:], "little") + checksums
        if isinstance(last, ShardingCodec) and last.index_location.value == "end":
            count = math.prod(-(-whole // part) for whole, part in zip(array.shards or (), array.chunks, strict=True))
            chunks_end = size - 16 * count - _CHECKSUM * any(isinstance(c, Crc32cCodec) for c in last.index_codecs)
            if chunks_end <= 0:
                return False
            opened.seek(chunks_end)
            index = np.frombuffer(opened.read(16 * count), "<u8").reshape(count, 2)
            present = index[(index != _ABSENT).all(axis=1)].tolist()
            return bool(present) and all(offset + length <= chunks_end for offset, length in present)
    return size > 0
