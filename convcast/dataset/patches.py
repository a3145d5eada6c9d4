"""Where a training patch lies: anywhere, or more often over convection, with the odds known exactly.

The place is drawn by what is seen at the initial hour, never by what came after, so that the law of the future given
the past is the same in patches drawn either way: a model trained on them needs no correction. Averages over patches (a
climatology, a score) do; `weight` is for them, as in Ravuri et al. (2021, doi:10.1038/s41586-021-03854-z).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from convcast.metrics.regimes import ECHO

BLOCK = 16
"""Cells along each side of the blocks by which convection is counted."""


@dataclass(frozen=True)
class Patch:
    """A part of the domain."""

    rows: slice
    columns: slice
    weight: float = 1.0
    """Odds of this place were all alike, over its odds as drawn."""


def count_echoes(reflectivity: NDArray[np.floating]) -> NDArray[np.int64]:
    """Cells with an echo (dBZ, (y, x)) in each block, (block, block); blocks at the upper ends may be smaller."""
    ny, nx = reflectivity.shape
    padded = np.zeros((-(-ny // BLOCK) * BLOCK, -(-nx // BLOCK) * BLOCK), bool)
    padded[:ny, :nx] = reflectivity >= ECHO  # not where it is missing
    blocks = padded.reshape(padded.shape[0] // BLOCK, BLOCK, -1, BLOCK)
    counts: NDArray[np.int64] = blocks.sum(axis=(1, 3), dtype=np.int64)
    return counts


class Patches:
    """Places of patches of one shape in a domain of one shape."""

    def __init__(self, domain: tuple[int, int], shape: tuple[int, int]) -> None:
        self.shape = shape
        self._places = tuple(whole - side + 1 for whole, side in zip(domain, shape, strict=True))
        centres = [np.minimum(np.arange(0, whole, BLOCK) + BLOCK // 2, whole - 1) for whole in domain]
        # First and last start, along each axis, of the patches that hold the centre of a block.
        self._first = [np.maximum(c - side + 1, 0) for c, side in zip(centres, shape, strict=True)]
        self._last = [np.minimum(c, n - 1) for c, n in zip(centres, self._places, strict=True)]

    def grid(self) -> list[Patch]:
        """As few as cover the domain, evenly spaced, row by row; they overlap where they do not divide it."""
        rows, columns = (
            np.linspace(0, places - 1, -(-(places - 1) // side) + 1).round().astype(int)
            for places, side in zip(self._places, self.shape, strict=True)
        )
        return [self._at(int(row), int(column)) for row in rows for column in columns]

    def draw_uniform(self, generator: np.random.Generator) -> Patch:
        return self._at(*(int(generator.integers(places)) for places in self._places))

    def draw_convective(self, generator: np.random.Generator, echoes: NDArray[np.int64], share: float) -> Patch:
        """Anywhere, but for this share of draws over echoes: a block by their number, then any patch with its centre.

        `echoes` are those of `count_echoes`; where there are none, every place is as likely as another.
        """
        if not echoes.any():
            return self.draw_uniform(generator)
        if generator.random() < share:
            chosen = np.divmod(generator.choice(echoes.size, p=echoes.ravel() / echoes.sum()), echoes.shape[1])
            row, column = (
                int(generator.integers(first[block], last[block] + 1))
                for first, last, block in zip(self._first, self._last, chosen, strict=True)
            )
            made = self._at(row, column)
        else:
            made = self.draw_uniform(generator)
        return Patch(made.rows, made.columns, self._weight(made.rows.start, made.columns.start, echoes, share))

    def _weight(self, row: int, column: int, echoes: NDArray[np.int64], share: float) -> float:
        (rows, fy), (columns, fx) = (
            (np.flatnonzero((first <= start) & (start <= last)), 1 / (last - first + 1))
            for first, last, start in zip(self._first, self._last, (row, column), strict=True)
        )
        odds = fy[rows] @ echoes[np.ix_(rows, columns)] @ fx[columns] / echoes.sum()
        return 1 / (1 - share + share * float(odds) * self._places[0] * self._places[1])

    def _at(self, row: int, column: int) -> Patch:
        return Patch(slice(row, row + self.shape[0]), slice(column, column + self.shape[1]))
