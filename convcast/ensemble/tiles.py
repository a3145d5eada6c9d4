"""Overlapping tiles, of the size of the training patches, that cover a domain of any size.

A network with attention or spatial normalisation gives other results on another extent, so tiles in sampling have the
size of patches in training. Tiles are blended at every denoising step (multi-diffusion: Bar-Tal et al. 2023, arXiv
2302.08113), so that neighbours agree on one state and no seam is left.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from math import ceil

import numpy as np
from numpy.typing import NDArray

from convcast.errors import SettingsError
from convcast.grid import Grid


@dataclass(frozen=True)
class Tiling:
    """Tiles of one size that cover a domain, and the weights with which they are blended."""

    rows: tuple[slice, ...]
    """Rows of each row of tiles."""
    columns: tuple[slice, ...]
    """Columns of each column of tiles."""
    shape: tuple[int, int]
    """Shape of the domain, (y, x)."""

    @property
    def tile_shape(self) -> tuple[int, int]:
        """Shape of a tile, (y, x)."""
        return self.rows[0].stop - self.rows[0].start, self.columns[0].stop - self.columns[0].start

    @property
    def tiles(self) -> list[tuple[slice, slice]]:
        """Rows and columns of each tile."""
        return [(r, c) for r in self.rows for c in self.columns]

    @property
    def whole(self) -> bool:
        """Whether a single tile covers the domain."""
        return self.tile_shape == self.shape

    @cached_property
    def weights(self) -> list[NDArray[np.float32]]:
        """Weights of each tile's cells (y, x): positive, smooth across overlaps, with a sum of one at every cell."""
        down, along = _weights(self.rows, self.shape[0]), _weights(self.columns, self.shape[1])
        return [np.outer(d, a).astype(np.float32) for d in down for a in along]

    def __str__(self) -> str:
        ny, nx = self.tile_shape
        return "one tile" if self.whole else f"{len(self.rows)} x {len(self.columns)} tiles of {ny} x {nx} cells"


def cover(grid: Grid, *, tile: int, overlap: int) -> Tiling:
    """Cover a grid by tiles of at most `tile` cells a side that share at least `overlap` cells with each neighbour.

    A domain that is no larger than a tile is one tile, and so is a periodic domain, which has no edges.

    Raises:
        SettingsError: The overlap is not smaller than the tile.
    """
    if grid.periodic or max(grid.shape) <= tile:
        return Tiling((slice(0, grid.ny),), (slice(0, grid.nx),), grid.shape)
    if overlap >= tile:
        raise SettingsError(
            f"tiles of {tile} cells cannot overlap by {overlap}",
            advice=f"run `convcast sample --set sampling.overlap={tile // 4}`",
        )
    return Tiling(_tile_slices(grid.ny, tile, overlap), _tile_slices(grid.nx, tile, overlap), grid.shape)


def _tile_slices(length: int, tile: int, overlap: int) -> tuple[slice, ...]:
    if length <= tile:
        return (slice(0, length),)
    count = ceil((length - overlap) / (tile - overlap))
    starts = np.floor(np.linspace(0, length - tile, count)).astype(int)
    return tuple(slice(int(start), int(start) + tile) for start in starts)


def _weights(slices: tuple[slice, ...], length: int) -> list[NDArray[np.float64]]:
    """Return the weights along one side: sin² ramps where neighbours overlap.

    Two ramps add up to one. All are divided by their sum, since more than two tiles may meet.
    """
    ramps = []
    for i, tile in enumerate(slices):
        size = tile.stop - tile.start
        ramp = np.ones(size)
        if i > 0:
            shared = slices[i - 1].stop - tile.start
            ramp[:shared] *= _rise(shared)
        if i + 1 < len(slices):
            shared = tile.stop - slices[i + 1].start
            ramp[size - shared :] *= _rise(shared)[::-1]
        ramps.append(ramp)
    total = np.zeros(length)
    for tile, ramp in zip(slices, ramps, strict=True):
        total[tile] += ramp
    return [ramp / total[tile] for tile, ramp in zip(slices, ramps, strict=True)]


def _rise(length: int) -> NDArray[np.float64]:
    rise: NDArray[np.float64] = np.sin((np.arange(length) + 0.5) / length * (np.pi / 2)) ** 2
    return rise
