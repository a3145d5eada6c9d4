"""Forecasts that any model must be compared with, for the same cases."""

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
    """A system whose forecasts can be made for any case."""

    @property
    def name(self) -> str: ...

    def missing(self, init: Hour, lead: int) -> str | None:
        """Why this case has no such forecast, or None where it has one."""

    def lacks(self, variable: Variable) -> str | None:
        """Why it forecasts no such field, or None where it does."""

    def remedy(self, cases: Sequence[tuple[Hour, int]]) -> str | None:
        """The command that may bring what these cases lack."""

    def fingerprint(self, init: Hour, lead: int) -> str:
        """Digits that change with what the forecast is made of."""

    def read(self, variable: Variable, init: Hour, lead: int) -> NDArray[np.float32]:
        """The forecast of a field, (member, y, x), in its units."""


def make_baselines(
    names: Sequence[str],
    truth: Truth,
    *,
    training: Hours,
    cases: Sequence[tuple[Hour, int]],
    settings: VerificationSettings,
    workspace: Workspace | None,
) -> list[Baseline]:
    """The baselines of these names, each once, in this order.

    `training` are the hours that may be learnt from, `cases` the (init, lead) that will be asked for. Raises
    SettingsError for a baseline that there is not, or not for this truth, and MissingInputError for one without
    its files.
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
