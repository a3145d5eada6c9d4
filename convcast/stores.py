"""Zarr stores opened, with zarr's many ways to fail as one.

Metadata is a document that anybody may have written or damaged. zarr answers with whatever its parsers and codecs raise
(KeyError, TypeError, AttributeError, OverflowError), so nothing that comes out here is taken for a bug of convcast's.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from itertools import product
from pathlib import Path

import numpy as np
import zarr
from zarr.codecs import BloscCodec, Crc32cCodec, ShardingCodec
from zarr.core.buffer import Buffer
from zarr.storage import LocalStore

from convcast.errors import DamagedFileError, from_os_error
from convcast.files import PARTIAL, sync_folder, write_bytes

MAX_CHUNK_VALUES = 1 << 28
"""Values: a chunk is in memory whole, and damaged metadata could ask for more than there is."""
MAX_OWN_CHUNK_VALUES = 1 << 25
"""Of convcast's own stores: an hour of seven fields over CONUS has half as many."""
_BLOSC_HEADER, _CHECKSUM = 16, 4
"""Bytes of the header of a Blosc chunk, whose last four are its length, and of a CRC32C checksum."""
_ABSENT = 2**64 - 1
"""Offset and length, in a shard's index, of a chunk that is not there."""


class DurableStore(LocalStore):
    """A folder of Zarr whose keys are whole files that have reached the disk, folders included, once they are set.

    What is written first is on the disk first, so that a record of other keys may vouch for them.
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
            if not name.endswith(PARTIAL):  # zarr warns of what is no part of a hierarchy
                yield name

    def _sync_above(self, key: str) -> None:
        folder = (self.root / key).parent
        if folder.is_dir():
            sync_folder(folder)


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

    What is written through it has reached the disk when the writing returns.

    Raises DamagedFileError where there is none, or it cannot be read.
    """
    with readable(complaint, advice):
        if not path.is_dir():
            raise NotADirectoryError(f"{path} is not a folder")
        store = DurableStore(path, read_only=not writing)
        return zarr.open_group(store, mode="r+" if writing else "r", zarr_format=3, use_consolidated=False)


def open_array(group: zarr.Group, name: str, *, complaint: str, advice: str) -> zarr.Array:
    """An array of a group; raises DamagedFileError where there is none that can be used."""
    with readable(complaint, advice):
        array = group[name]
    if not isinstance(array, zarr.Array):
        raise DamagedFileError(complaint, advice=advice)
    refuse_chunks(array.shards or array.chunks, complaint=complaint, advice=advice, most=MAX_OWN_CHUNK_VALUES)
    return array


def refuse_chunks(chunks: Sequence[int], *, complaint: str, advice: str, most: int = MAX_CHUNK_VALUES) -> None:
    """Raises DamagedFileError where chunks of this shape hold more than `most` values."""
    if math.prod(chunks) > most:
        raise DamagedFileError(f"{complaint} (chunks of {tuple(chunks)} are too large)", advice=advice)


def chunk_fault(array: zarr.Array, store: Path, place: Sequence[int]) -> tuple[Path, str] | None:
    """The first file of an array that cannot be whole, and what is wrong with it; None where all files look whole.

    `store` is the folder of the root group; the files are those at the indices `place` along the first dimensions. The
    array must not have chunks of nothing but the fill value, of which zarr writes no file.
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
    """Whether a chunk's file has the length that it says itself, as shards and Blosc's chunks do."""
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
            there = index[(index != _ABSENT).all(axis=1)].tolist()
            return bool(there) and all(offset + length <= chunks_end for offset, length in there)
    return size > 0
