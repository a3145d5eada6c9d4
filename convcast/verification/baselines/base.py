"""Baselines: forecasts that a model is compared with on the same cases."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from convcast.errors import SettingsError
from convcast.notation import Hour, Hours
from convcast.settings import VerificationSettings
from convcast.variables import Variable
from convcast.verification.baselines.analogues import Advection, ArrayCache, Climatology, Persistence
from convcast.verification.baselines.choose import REFERENCES
from convcast.verification.baselines.exact import Exact
from convcast.verification.baselines.hrrr import HrrrForecasts, latest_forecast, time_lagged
from convcast.verification.data.truth import Truth
from convcast.workspace import Workspace


class Baseline(Protocol):
    """System that is scored beside the verified ensemble on every case."""

    @property
    def name(self) -> str:
        """Name of the system in options and reports."""

    def missing(self, init: Hour, lead: int) -> str | None:
        """Return the reason why a case has no such forecast, or None where it has one."""

    def lacks(self, variable: Variable) -> str | None:
        """Return the reason why the system does not forecast a field, or None where it does."""

    def remedy(self, cases: Sequence[tuple[Hour, int]]) -> str | None:
        """Return the command that may fetch what these cases lack, if there is one."""

    def fingerprint(self, init: Hour, lead: int) -> str:
        """Return a hash that changes with the data that the forecast is made of."""

    def read(self, variable: Variable, init: Hour, lead: int) -> NDArray[np.float32]:
        """Return the forecast of a field in its units, (member, y, x)."""


def make_baselines(
    names: Sequence[str],
    truth: Truth,
    *,
    training: Hours,
    cases: Sequence[tuple[Hour, int]],
    settings: VerificationSettings,
    workspace: Workspace | None,
) -> list[Baseline]:
    """Create baselines by name, in order and without repetition.

    Args:
        names: Names of baselines.
        truth: Fields that the forecasts are scored against.
        training: Hours that climatology and advection draw from.
        cases: Initial time and lead, hours, of the forecasts that will be read.
        settings: Verification settings.
        workspace: Workspace with the archive or the simulated world, where there is one.

    Raises:
        SettingsError: A name is unknown, or the baseline does not exist for this truth.
        MissingInputError: The files of a baseline are missing.
    """
    members, seed = settings.baseline_members, settings.seed
    cache = ArrayCache(settings.cache_gigabytes * 1e9)
    sampling: dict[str, Any] = {"training": training, "cases": cases, "members": members, "seed": seed}

    def require_dataset(name: str) -> Any:
        if truth.dataset is None:
            raise SettingsError(
                f"the baseline {name} needs convcast's dataset as truth", advice="use --against persistence"
            )
        return truth.dataset

    def require_workspace(name: str) -> Workspace:
        if workspace is None:
            raise SettingsError(
                f"the baseline {name} needs a workspace, whose archive holds it",
                advice="name it with --workspace, or use --against persistence",
            )
        return workspace

    makers: dict[str, Callable[[], Baseline]] = {
        "persistence": lambda: Persistence(truth, cache),
        "climatology": lambda: Climatology(truth, cache, **sampling),
        "advection": lambda: Advection(truth, require_dataset("advection"), cache, **sampling),
        "hrrr": lambda: HrrrForecasts("hrrr", latest_forecast(truth), truth, require_workspace("hrrr").archive),
        "time-lagged": lambda: HrrrForecasts(
            "time-lagged", time_lagged(truth, settings.lagged_ages), truth, require_workspace("time-lagged").archive
        ),
        "exact": lambda: Exact(
            require_dataset("exact"), require_workspace("exact"), cases=cases, members=members, seed=seed
        ),
    }
    for name in names:
        if name not in makers:
            known = " ".join([*makers, *REFERENCES])
            advice = "use --against advection" if name == "control" else f"choose from {known}"
            raise SettingsError(f"there is no baseline {name!r}", advice=advice)
    return [makers[name]() for name in dict.fromkeys(names)]
