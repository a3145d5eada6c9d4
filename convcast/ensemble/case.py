"""One initial time and lead, as the solvers see it: noise prediction and bounds on the whole domain."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from numpy.typing import NDArray
from torch import Tensor

from convcast.dataset import Dataset, window
from convcast.ensemble.tiles import Tiling
from convcast.notation import Hour

if TYPE_CHECKING:
    from types import EllipsisType

    import numpy as np

    from convcast.model import Forecaster

    Place = tuple[EllipsisType] | tuple[EllipsisType, slice, slice]
    """What cuts a tile from (..., y, x)."""


class Case:
    """The model conditioned on what is known at `init`, tile by tile, once for all members and steps.

    The state is a departure from a reference, and each tile has its own, since motion is estimated within it. The state
    of the domain is the departure from the blend R of the tiles' references R_k, in units of s. What tile k sees is
    then x_t + √ᾱ_t (R - R_k)/s: the same noisy fields, as departures from its own reference.

    Raises MissingInputError where the dataset lacks an hour of the history.
    """

    def __init__(
        self, forecaster: Forecaster, dataset: Dataset, tiling: Tiling, *, init: Hour, lead: int, guidance: float
    ) -> None:
        self.forecaster = forecaster
        self.tiling = tiling
        self.guidance = guidance
        self._weights = [torch.from_numpy(weight).to(forecaster.device) for weight in tiling.weights]
        self._conditions = [
            forecaster.condition(
                window(dataset, init, lead, history=forecaster.settings.history, rows=rows, columns=columns),
                periodic=dataset.grid.periodic and tiling.whole,
            )
            for rows, columns in tiling.places
        ]
        reference = self._blend(lambda k, _: self._conditions[k].reference)
        self._shifts = [
            (reference[..., rows, columns] - condition.reference) / condition.scale
            for condition, (rows, columns) in zip(self._conditions, tiling.places, strict=True)
        ]

    def predict_noise(self, x: Tensor, t: int) -> Tensor:
        """The noise in x_t (member, variable, y, x) at step t of the diffusion process: each tile's answer, blended."""
        signal = float(self.forecaster.schedule.signal[t])

        def part(k: int, place: Place) -> Tensor:
            state = x[place] + signal * self._shifts[k]
            return self.forecaster.predict_noise(state, t, self._conditions[k], guidance=self.guidance)

        return self._blend(part)

    def clamp(self, x0: Tensor) -> Tensor:
        """The state (member, variable, y, x) with fields within their physical bounds."""

        def part(k: int, place: Place) -> Tensor:
            return self.forecaster.clamp(x0[place] + self._shifts[k], self._conditions[k]) - self._shifts[k]

        return self._blend(part)

    def fields(self, x0: Tensor) -> NDArray[np.float32]:
        """Physical fields (member, variable, y, x), GRIB units, float32."""

        def part(k: int, place: Place) -> Tensor:
            values = self.forecaster.fields(x0[place] + self._shifts[k], self._conditions[k])
            return torch.from_numpy(values).to(x0.device)

        return self._blend(part).cpu().numpy()

    def _blend(self, part: Callable[[int, Place], Tensor]) -> Tensor:
        """Blend over the domain, (..., y, x), of `part(k, place)` of each tile, one in memory at a time."""
        if self.tiling.whole:
            return part(0, (...,))
        blended: Tensor | None = None
        for k, (rows, columns) in enumerate(self.tiling.places):
            values = part(k, (..., rows, columns))
            if blended is None:
                blended = values.new_zeros((*values.shape[:-2], *self.tiling.shape))
            blended[..., rows, columns] += self._weights[k] * values
        assert blended is not None
        return blended
