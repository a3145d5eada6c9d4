"""Exact outlines of the cells of an event."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from convcast.pictures.geography.base_map import BaseMap


def outline(event: NDArray[np.bool_], base_map: BaseMap) -> NDArray[np.float64]:
    """Return the edges between cells with and without an event, so that not one cell is lost or added.

    Args:
        event: Whether the event happens, (y, x).
        base_map: Map with the cells' coordinates.

    Returns:
        Line segments in km, (segment, end, coordinate), which have the event on their left.
    """
    west, _, south, _ = base_map.extent
    padded = np.pad(event, 1).astype(np.int8)
    vertical = _edges(np.diff(padded, axis=1))
    horizontal = _edges(np.diff(padded, axis=0).T)[:, ::-1, ::-1]
    edges: NDArray[np.float64] = np.concatenate([vertical, horizontal]) * base_map.spacing
    edges += (west, south)
    return edges


def _edges(change: NDArray[np.int8]) -> NDArray[np.float64]:
    """Return the edges (x, y) at which the event begins or ends along each row, in cells from the first corner.

    Edges point south where the event begins, and north where it ends.
    """
    rows, columns = np.nonzero(change)
    begins = change[rows, columns] > 0
    first, last = np.where(begins, rows, rows - 1), np.where(begins, rows - 1, rows)
    return np.stack([np.stack([columns, first], -1), np.stack([columns, last], -1)], 1).astype(float)
