"""Lazy arrays assembled from the maps of many files."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from itertools import product
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from xarray.backends.common import BackendArray
from xarray.core import indexing


class Stack(BackendArray):
    """Lazy float32 array of maps (y, x) indexed by outer dimensions; NaN where there is no map."""

    def __init__(
        self, outer: tuple[int, ...], maps: Mapping[tuple[int, ...], xr.DataArray], inner: tuple[int, int]
    ) -> None:
        """Make the array.

        Args:
            outer: Lengths of the outer dimensions.
            maps: Maps (y, x) by their index along the outer dimensions.
            inner: Rows and columns of a map.
        """
        self.shape = outer + inner
        self.dtype = np.dtype(np.float32)
        self._maps = dict(maps)

    def __getitem__(self, key: indexing.ExplicitIndexer) -> NDArray[np.float32]:
        support = indexing.IndexingSupport.BASIC
        values: NDArray[np.float32] = indexing.explicit_indexing_adapter(key, self.shape, support, self._read)
        return values

    def _read(self, key: tuple[int | slice, ...]) -> NDArray[np.float32]:
        outer, inner = key[:-2], key[-2:]
        ranges = [
            range(length)[part] if isinstance(part, slice) else [int(part)]
            for part, length in zip(outer, self.shape, strict=False)
        ]
        maps = [self._map(index, inner) for index in product(*ranges)]
        kept = [len(chosen) for part, chosen in zip(outer, ranges, strict=True) if isinstance(part, slice)]
        if not maps:
            return np.empty((*kept, *np.empty(self.shape[-2:])[inner].shape), np.float32)
        return np.stack(maps).reshape(*kept, *maps[0].shape)

    def _map(self, index: tuple[int, ...], inner: tuple[Any, ...]) -> NDArray[np.float32]:
        if index in self._maps:
            whole = np.asarray(self._maps[index].transpose("y", "x").values, np.float32)
        else:
            whole = np.full(self.shape[-2:], np.nan, np.float32)
        part: NDArray[np.float32] = whole[inner]
        return part


def stacked(
    dimensions: Mapping[str, Sequence[Hashable]],
    maps: Mapping[tuple[Hashable, ...], xr.DataArray],
) -> xr.Variable:
    """Return a lazy variable assembled from maps.

    Args:
        dimensions: Labels along each outer dimension.
        maps: Maps (y, x) by their labels along the outer dimensions.

    Returns:
        Variable with the outer dimensions, then y and x.
    """
    positions: list[dict[Hashable, int]] = [
        {label: index for index, label in enumerate(labels)} for labels in dimensions.values()
    ]
    numbered = {
        tuple(where[label] for where, label in zip(positions, labels, strict=True)): one for labels, one in maps.items()
    }
    first = next(iter(maps.values()))
    outer = tuple(len(labels) for labels in dimensions.values())
    array = Stack(outer, numbered, (first.sizes["y"], first.sizes["x"]))
    return xr.Variable((*dimensions, "y", "x"), indexing.LazilyIndexedArray(array), dict(first.attrs))
