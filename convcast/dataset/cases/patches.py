"""Draw the positions of training patches, uniformly or more often over convection, with known probabilities.

Positions depend on the reflectivity at the initial hour only, never on later hours. The distribution of the future
given the past is therefore the same under both ways of sampling, and a model trained on the patches needs no
correction. Averages over patches (a climatology, a score) need the importance weight `Patch.weight`, as in Ravuri et
al. (2021, doi:10.1038/s41586-021-03854-z).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from convcast.metrics.regimes import ECHO

BLOCK = 16
"""Side, in cells, of the blocks in which echoes are counted."""


@dataclass(frozen=True)
class Patch:
    """A rectangle of the domain, with its importance weight."""

    rows: slice
    columns: slice
    weight: float = 1.0
    """Importance weight: probability under uniform sampling divided by probability under convective sampling."""


def count_echoes(reflectivity: NDArray[np.floating]) -> NDArray[np.int64]:
    """Count the cells with an echo in each block of a reflectivity field.

    Args:
        reflectivity: Reflectivity, dBZ, (y, x); missing values do not count as echoes.

    Returns:
        Counts, (block, block); the last blocks along each axis may be smaller.
    """
    ny, nx = reflectivity.shape
    padded = np.zeros((-(-ny // BLOCK) * BLOCK, -(-nx // BLOCK) * BLOCK), bool)
    padded[:ny, :nx] = reflectivity >= ECHO  # False where it is missing
    blocks = padded.reshape(padded.shape[0] // BLOCK, BLOCK, -1, BLOCK)
    counts: NDArray[np.int64] = blocks.sum(axis=(1, 3), dtype=np.int64)
    return counts


class Patches:
    """Draws patches of one shape from a domain of one shape, both (ny, nx)."""

    def __init__(self, domain: tuple[int, int], shape: tuple[int, int]) -> None:
        self.shape = shape
        self._positions = tuple(whole - side + 1 for whole, side in zip(domain, shape, strict=True))
        centres = [np.minimum(np.arange(0, whole, BLOCK) + BLOCK // 2, whole - 1) for whole in domain]
        # First and last start, along each axis, of the patches that contain the centre of a block.
        self._first = [np.maximum(c - side + 1, 0) for c, side in zip(centres, shape, strict=True)]
        self._last = [np.minimum(c, n - 1) for c, n in zip(centres, self._positions, strict=True)]

    def grid(self) -> list[Patch]:
        """Return the fewest evenly spaced patches that cover the domain, row by row; they may overlap."""
        rows, columns = (
            np.linspace(0, count - 1, -(-(count - 1) // side) + 1).round().astype(int)
            for count, side in zip(self._positions, self.shape, strict=True)
        )
        return [self._at(int(row), int(column)) for row in rows for column in columns]

    def draw_uniform(self, generator: np.random.Generator) -> Patch:
        """Draw a patch; all positions have the same probability."""
        return self._at(*(int(generator.integers(count)) for count in self._positions))

    def draw_convective(self, generator: np.random.Generator, echoes: NDArray[np.int64], share: float) -> Patch:
        """Draw a patch over echoes with probability `share`, else uniformly.

        A patch over echoes is drawn in two steps: a block, with probability proportional to its echoes, then a patch
        that contains the centre of the block.

        Args:
            generator: Source of random numbers.
            echoes: Result of `count_echoes`; without any echo the draw is uniform.
            share: Fraction of the draws that are over echoes.

        Returns:
            The patch, with its importance weight.
        """
        if not echoes.any():
            return self.draw_uniform(generator)
        if generator.random() < share:
            chosen = np.divmod(generator.choice(echoes.size, p=echoes.ravel() / echoes.sum()), echoes.shape[1])
            row, column = (
                int(generator.integers(first[block], last[block] + 1))
                for first, last, block in zip(self._first, self._last, chosen, strict=True)
            )
            patch = self._at(row, column)
        else:
            patch = self.draw_uniform(generator)
        return replace(patch, weight=self._weight(patch.rows.start, patch.columns.start, echoes, share))

    def _weight(self, row: int, column: int, echoes: NDArray[np.int64], share: float) -> float:
        (rows, fy), (columns, fx) = (
            (np.flatnonzero((first <= start) & (start <= last)), 1 / (last - first + 1))
            for first, last, start in zip(self._first, self._last, (row, column), strict=True)
        )
        odds = fy[rows] @ echoes[np.ix_(rows, columns)] @ fx[columns] / echoes.sum()
        return 1 / (1 - share + share * float(odds) * self._positions[0] * self._positions[1])

    def _at(self, row: int, column: int) -> Patch:
        return Patch(slice(row, row + self.shape[0]), slice(column, column + self.shape[1]))
