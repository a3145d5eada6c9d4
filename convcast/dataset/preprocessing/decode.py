"""Decode one archived hour from GRIB messages to fields on the grid.

Messages are selected by the numbers of the GRIB2 code tables, because names depend on the installed tables.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from convcast import grib
from convcast.errors import DamagedFileError
from convcast.grid import Grid
from convcast.notation import HOUR, Hour
from convcast.variables import STATIC, GribKey, Variable


@dataclass(frozen=True)
class DecodedFields:
    """The requested fields of one GRIB file."""

    values: NDArray[np.float32]
    """Fields (variable, y, x), GRIB units, row 0 in the south, NaN where missing."""
    grid: Grid
    simulated: bool

    def crop(self, rows: slice, columns: slice) -> DecodedFields:
        """Cut the fields and their grid to these rows and columns."""
        return DecodedFields(self.values[:, rows, columns], self.grid.crop(rows, columns), self.simulated)


def decode_hour(path: Path, *, valid: Hour, lead: int, variables: Sequence[Variable]) -> DecodedFields:
    """Decode the fields of one hour.

    Args:
        path: The GRIB file.
        valid: Valid time that every message must have.
        lead: Lead time, hours, that every message must have.
        variables: The fields to decode, in the order of the result.

    Returns:
        The fields, on their common grid.

    Raises:
        DamagedFileError: A message is missing, duplicated, of another time or grid, or cannot be decoded; every
            problem is named.
    """
    return _decode(path, variables, time=(valid - lead * HOUR, lead))


def decode_static(path: Path) -> DecodedFields:
    """Decode terrain height (m) and land mask, of any time; raises DamagedFileError as `decode_hour` does."""
    return _decode(path, tuple(STATIC.values()), time=None)


def _decode(path: Path, variables: Sequence[Variable], *, time: tuple[Hour, int] | None) -> DecodedFields:
    indices: dict[GribKey | None, int] = {variable.grib: number for number, variable in enumerate(variables)}
    values: NDArray[np.float32] | None = None
    counts = Counter[int]()
    kinds: set[tuple[Grid, bool]] = set()
    problems: list[str] = []
    for message in grib.read_messages(path):
        header = message.header
        number = None if header.statistical else indices.get(header.key)
        if number is None:
            continue
        counts[number] += 1
        if counts[number] > 1:
            continue
        name = variables[number].name
        if time is not None and (header.init, header.lead_hours) != time:
            problems.append(
                f"{name} is of {header.init} + {header.lead_hours:g} h where the file's name says "
                f"{time[0]} + {time[1]} h"
            )
            continue
        try:
            grid = header.grid()
            if values is None:
                values = np.empty((len(variables), *grid.shape), np.float32)
                first = grid
            if grid == first:
                message.decode(into=values[number])
        except DamagedFileError as error:
            problems.append(f"{name}: {error}")
            continue
        kinds.add((grid, header.simulated))
    for number, variable in enumerate(variables):
        if counts[number] != 1:
            times = f"there {counts[number]} times" if counts[number] else "missing"
            problems.append(f"{variable.name} is {times}")
    if len({grid for grid, _ in kinds}) > 1:
        problems.append("its messages are on several grids")
    if len({simulated for _, simulated in kinds}) > 1:
        problems.append("it mixes simulated and real messages")
    if problems or values is None:
        raise DamagedFileError(f"{path.name}: {'; '.join(problems)}")
    ((grid, simulated),) = kinds
    return DecodedFields(values, grid, simulated)
