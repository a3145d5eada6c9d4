"""Mirror and turn training cases, as physics allows: winds and motion are turned as vectors, terrain moves along."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from convcast.dataset import Window
from convcast.variables import Variable, wind_indices

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Orientation:
    """One of the eight orientations of a square: rows reversed, columns reversed, then rows and columns exchanged."""

    rows: bool = False
    columns: bool = False
    exchange: bool = False

    def apply(self, window: Window, variables: Sequence[Variable]) -> Window:
        """Return the window in this orientation; an exchange needs a square."""
        if self == Orientation():
            return window
        wind = wind_indices(variables)

        def turned(fields: Floats, vector: tuple[int, int] | None) -> Floats:
            out = fields[..., :: -1 if self.rows else 1, :: -1 if self.columns else 1]
            out = np.swapaxes(out, -1, -2) if self.exchange else out
            out = np.array(out)
            if vector is not None:
                y, x = vector
                out[..., y, :, :], out[..., x, :, :] = self._turn(out[..., y, :, :], out[..., x, :, :])
            return out

        return replace(
            window,
            history=turned(window.history, wind),
            static=turned(window.static, None),
            sun=turned(window.sun, None),
            motion=turned(window.motion, (0, 1)),
            target=None if window.target is None else turned(window.target, wind),
            forcing=None if window.forcing is None else turned(window.forcing, wind),
        )

    def _turn(self, y: Floats, x: Floats) -> tuple[Floats, Floats]:
        """Turn the components of a vector along rows and columns."""
        y, x = (-y if self.rows else y.copy()), (-x if self.columns else x.copy())
        return (x, y) if self.exchange else (y, x)


def orientations(augmentation: Literal["none", "flips", "rotations"]) -> tuple[Orientation, ...]:
    """Return the orientations of `training.augmentation`."""
    if augmentation == "none":
        return (Orientation(),)
    exchanges = (False, True) if augmentation == "rotations" else (False,)
    return tuple(Orientation(*each) for each in product((False, True), (False, True), exchanges))
