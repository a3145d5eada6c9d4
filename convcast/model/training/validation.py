"""Validation of a model in training: the scores of small ensembles on hours that training does not see.

Ensembles show that a model overfits or is over-confident, which the loss hardly does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from convcast.dataset import Window, Windows
from convcast.model.checkpoint import ModelDescription
from convcast.model.distributed import Distributed
from convcast.model.forecaster import Forecaster
from convcast.model.network.network import Network
from convcast.model.skill import FieldSkill
from convcast.model.training.batches import Batch
from convcast.model.training.ensemble_scores import WIDTH, case_sums, field_skill
from convcast.settings import Precision, SamplingSettings

SEED = 1 << 33
"""Seed of the first case's noise; each later case has the next seed."""


@dataclass(frozen=True)
class Validator:
    """The validation cases of one training."""

    batches: Sequence[Batch]
    """The cases of the validation loss."""
    windows: Windows | None
    """The validation cases; None where there are no hours for validation."""
    numbers: Sequence[int]
    """Indices in `windows` of the cases for which ensembles are drawn."""
    members: int
    """Members of each ensemble."""

    def ensembles(
        self, description: ModelDescription, network: Network, distributed: Distributed, precision: Precision
    ) -> dict[str, FieldSkill]:
        """Draw and score the ensembles; the processes share the cases, and each returns the scores of all.

        Args:
            description: The model.
            network: A copy of the network that is not trained further; it is prepared for inference.
            distributed: The processes that train together.
            precision: Precision of the network.

        Returns:
            The scores of each field, by the field's name; empty where no ensembles are to be drawn.
        """
        if self.windows is None or not self.numbers:
            return {}
        forecaster = Forecaster(description, network, "", device=str(distributed.device), precision=precision)
        variables, periodic = description.variables, self.windows.periodic
        sums = np.zeros((len(self.numbers), len(variables), WIDTH))
        for index in range(distributed.rank, len(self.numbers), distributed.world_size):
            window = self.windows[self.numbers[index]]
            members, reference = draw(forecaster, window, self.members, seed=SEED + index, periodic=periodic)
            sums[index] = case_sums(members, reference, window, variables, periodic=periodic)
        total = distributed.sum(torch.from_numpy(sums)).numpy()
        leads = [self.windows.lead(number) for number in self.numbers]
        return {v.name: field_skill(total[:, i], leads, v, self.members) for i, v in enumerate(variables)}

    @property
    def dates(self) -> tuple[str | None, str | None]:
        """The first and the last initial hour of the ensembles, None where there are none."""
        if self.windows is None or not self.numbers:
            return None, None
        inits = [self.windows.init(number) for number in self.numbers]
        return str(min(inits)), str(max(inits))


def draw(
    forecaster: Forecaster, window: Window, members: int, *, seed: int, periodic: bool
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Draw `members` members (member, variable, y, x) of one case, and return the reference (variable, y, x) too.

    Both are in GRIB units.

    Args:
        forecaster: The model.
        window: The case.
        members: Number of members.
        seed: Seed of the members' noise.
        periodic: Whether the window is a whole torus.
    """
    condition = forecaster.condition([window], periodic=periodic)
    noise = torch.randn(members, *condition.shape, generator=torch.Generator().manual_seed(seed))
    settings = SamplingSettings()
    with torch.inference_mode():
        x0 = forecaster.solve(
            lambda x, t: forecaster.predict_noise(x, t, condition),
            noise.to(forecaster.device),
            settings=settings,
            clamp=lambda x: forecaster.clamp(x, condition),
            noise=lambda k: torch.zeros(()),  # noqa: ARG005  the solver is deterministic
            kind=condition.kind,
            periodic=periodic,
        )
        reference = forecaster.fields(torch.zeros_like(x0[:1]), condition)[0]
        return forecaster.fields(x0, condition), reference
