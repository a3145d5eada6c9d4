"""The regimes of a case, by the truth's analysis of its initial hour."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from convcast.dataset import REGIMES, sort_points
from convcast.notation import Hour
from convcast.variables import CAPE, REFC, Variable
from convcast.verification.data.cf import UnreadableError
from convcast.verification.data.truth import Truth

__all__ = ["REGIMES", "find_regimes"]


def find_regimes(truth: Truth, init: Hour) -> NDArray[np.int8] | None:
    """The place in REGIMES of every point, (y, x); None where the truth has neither field, or not that hour."""
    if not np.isin(init, truth.hours):
        return None

    def analysis(variable: Variable) -> NDArray[np.floating] | None:
        return truth.read(variable, init) if variable in truth.variables else None

    try:
        return sort_points(analysis(REFC), analysis(CAPE))
    except UnreadableError:
        return None
