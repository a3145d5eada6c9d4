"""The interface of baselines, with which an ensemble is compared on the same cases."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from convcast.notation import Hour
from convcast.variables import Variable


class Baseline(ABC):
    """System that is scored beside the verified ensemble on every case."""

    name: str
    """Name of the system in options and reports."""

    @abstractmethod
    def missing(self, init: Hour, lead: int) -> str | None:
        """Return the reason why the system has no forecast of a case, or None if it has one."""

    def lacks(self, variable: Variable) -> str | None:  # noqa: ARG002
        """Return the reason why the system does not forecast a field, or None if it does."""
        return None

    def remedy(self, cases: Sequence[tuple[Hour, int]]) -> str | None:  # noqa: ARG002
        """Return the command that may fetch the missing files of these cases, if there is one."""
        return None

    @abstractmethod
    def fingerprint(self, init: Hour, lead: int) -> str:
        """Return a hash that changes with the data that the forecast is made of."""

    @abstractmethod
    def read(self, variable: Variable, init: Hour, lead: int) -> NDArray[np.float32]:
        """Return the forecast of a field in its units, (member, y, x).

        Args:
            variable: The field.
            init: Initial time.
            lead: Lead time, hours.
        """
