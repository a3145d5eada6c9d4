"""Autoregressive forecasts for leads that the model was not trained for, in steps of one hour."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from convcast.conventions import on_lattice
from convcast.notation import HOUR, Hour
from convcast.variables import Variable

Floats = NDArray[np.float32]
Step = Callable[[Hour, int, Floats | None], Floats]
"""Draws the next hour: (start, lead in hours from the forecast's init, pasts) -> fields (member, variable, y, x)."""


def rollout(step: Step, init: Hour, past: Floats, variables: tuple[Variable, ...]) -> Iterator[tuple[int, Floats]]:
    """Yield the lead and the fields of one hour after the other, without end.

    Each member's newest hour, rounded as analyses are, replaces the oldest hour of its history. The model is given its
    own forecasts as if they were analyses, so its errors accumulate (exposure bias); direct leads do not have this
    problem.

    Args:
        step: Draws the next hour of all members.
        init: Initial time.
        past: The analyses up to `init`, (history, variable, y, x), GRIB units.
        variables: The fields, in the order of the variable axis.

    Yields:
        Lead in hours, and fields (member, variable, y, x) in GRIB units.
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
