"""The condition: all that the network is told. Nothing else reaches it.

Channels: every frame of the history, the frames moved by the motion and by the wind, the reference forecast, the ground
here and the ground that the air came from, the sun now and then. Numbers: lead and hour of day.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from convcast.model.features.inputs import Inputs
from convcast.model.network.network import Encoded

LONGEST_LEAD = 24.0
"""Hours at which the number that stands for the lead is 1."""


def channel_count(fields: int, history: int) -> int:
    return fields * (history + 3) + 6


def channels(inputs: Inputs, reference: Tensor) -> Tensor:
    """(row, channel_count, y, x)."""
    return torch.cat(
        [
            inputs.history,
            inputs.advected,
            inputs.advected_by_wind,
            reference,
            inputs.static,
            inputs.static_advected,
            inputs.sun,
        ],
        dim=1,
    )


def numbers(inputs: Inputs) -> Tensor:
    """(row, 3), between -1 and 1."""
    leads = torch.tensor(inputs.leads, dtype=torch.float32, device=inputs.hour.device) / LONGEST_LEAD
    return torch.cat([leads[:, None], inputs.hour], dim=1)


@dataclass(frozen=True)
class Condition:
    """What is known, encoded, and what leads from residuals back to fields: one row, or one for each member."""

    lead: int
    periodic: bool
    encoded: Encoded
    reference: Tensor
    """Standardised, (row, variable, y, x)."""
    scale: Tensor
    """Of a residual in standardised units, (row, variable, 1, 1)."""
    low: Tensor
    high: Tensor
    """The residuals within which the fields are within their bounds, (row, variable, y, x)."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(variable, y, x)."""
        return tuple(self.reference.shape[1:])
