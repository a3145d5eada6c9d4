"""Hours that the model was not trained for: its one-hour forecasts, each going on from the last."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from convcast.conventions import on_lattice
from convcast.notation import HOUR, Hour
from convcast.variables import Variable

Floats = NDArray[np.float32]
Step = Callable[[Hour, int, Floats | None], Floats]
"""Draws the hour after an initial hour: (its time, hours since the forecast's init, pasts) -> members' fields."""


def rollout(step: Step, init: Hour, past: Floats, variables: tuple[Variable, ...]) -> Iterator[tuple[int, Floats]]:
    """Lead (hours) and fields (member, variable, y, x) of hour after hour, without end.

    `past` (history, variable, y, x) are the analyses up to `init`. Each member's newest hour, rounded as analyses are,
    takes the place of the oldest in its past: the model sees its own forecasts as it saw analyses in training, so that
    its errors feed on themselves (exposure bias), which direct leads are spared.
    """
    pasts: Floats | None = None
    lead = 0
    while True:
        fields = step(init + lead * HOUR, lead + 1, pasts)
        lead += 1
        yield lead, fields
        newest = np.stack([on_lattice(variable, fields[:, i]) for i, variable in enumerate(variables)], axis=1)
        earlier = np.broadcast_to(past, (len(fields), *past.shape)) if pasts is None else pasts
        pasts = np.concatenate([earlier[:, 1:], newest[:, None]], axis=1)
