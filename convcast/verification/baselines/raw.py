"""Baseline of the members as the model drew them, beside the calibrated ones."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from convcast.errors import DamagedFileError
from convcast.forecasts.calibrated import is_calibrated
from convcast.notation import Hour
from convcast.variables import Variable
from convcast.verification.baselines.base import Baseline
from convcast.verification.data.ensembles import Ensemble, open_ensembles
from convcast.verification.data.truth import Truth
from convcast.workspace import Workspace


class Raw(Baseline):
    """Members that `convcast sample` kept in raw/ when it wrote calibrated ones."""

    name = "raw"

    def __init__(self, truth: Truth, workspace: Workspace) -> None:
        self._truth, self._workspace = truth, workspace
        self._held: tuple[Hour, Ensemble | None] | None = None

    def missing(self, init: Hour, lead: int) -> str | None:
        try:
            ensemble = self._open(init)
        except DamagedFileError as error:
            return str(error)
        if ensemble is None:
            return f"the forecast of {init} is not calibrated: raw/ does not hold its members"
        complete = lead in ensemble.leads and len(ensemble.members(lead)) > 1
        return None if complete else f"raw/ lacks members of {init} at {lead} h"

    def fingerprint(self, init: Hour, lead: int) -> str:  # noqa: ARG002
        ensemble = self._open(init)
        assert ensemble is not None
        return ensemble.fingerprint

    def read(self, variable: Variable, init: Hour, lead: int) -> NDArray[np.float32]:
        ensemble = self._open(init)
        assert ensemble is not None
        return ensemble.read(variable, lead, ensemble.members(lead))

    def _open(self, init: Hour) -> Ensemble | None:
        if self._held is None or self._held[0] != init:
            self._held = init, self._find(init)
        return self._held[1]

    def _find(self, init: Hour) -> Ensemble | None:
        path = self._workspace.raw_forecast(init)
        if not path.is_dir():  # a forecast that was drawn without calibration is raw itself
            path = self._workspace.forecast(init)
            if not path.is_dir() or is_calibrated(path):
                return None
        truth = self._truth
        opened = open_ensembles(path, fields=truth.variables, points=truth.points, simulated=truth.simulated)
        return next((one for one in opened.ensembles if one.init == init), None)
