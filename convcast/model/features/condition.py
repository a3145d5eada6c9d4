"""The condition of the network: its only input besides the noisy state and the noise level.

Channels: every frame of the history, each of them advected to the valid time, the last one moved by the wind, the
reference forecast, the expected size of its residuals, the ground here, the ground that the air came from, the sun now
and at the valid time. Numbers: lead and hour of day.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from convcast.model.features.inputs import Inputs
from convcast.model.network.network import Encoded

LONGEST_LEAD = 24.0
"""Lead time, hours, that is encoded as 1."""


def channel_count(fields: int, history: int) -> int:
    """Number of channels of the condition for `fields` fields and `history` hours."""
    return fields * (2 * history + 3) + 6


def channels(inputs: Inputs, reference: Tensor, scale: Tensor) -> Tensor:
    """Join the channels of the condition, (row, channel, y, x).

    Args:
        inputs: The inputs.
        reference: Reference forecast, standardised, (row, variable, y, x).
        scale: Expected size of its residuals, standardised, (row, variable, y, x).
    """
    return torch.cat(
        [
            inputs.history,
            inputs.history_advected,
            inputs.advected_by_wind,
            reference,
            scale,
            inputs.static,
            inputs.static_advected,
            inputs.sun,
        ],
        dim=1,
    )


def numbers(inputs: Inputs) -> Tensor:
    """Encode lead and hour of day as numbers between -1 and 1, (row, 3)."""
    leads = torch.tensor(inputs.leads, dtype=torch.float32, device=inputs.hour.device) / LONGEST_LEAD
    return torch.cat([leads[:, None], inputs.hour], dim=1)


@dataclass(frozen=True)
class Condition:
    """The encoded condition, and what turns residuals into fields: one row for all members, or one for each."""

    lead: int
    periodic: bool
    encoded: Encoded
    reference: Tensor
    """Reference forecast, standardised, (row, variable, y, x)."""
    scale: Tensor
    """Expected size of a residual in standardised units, (row, variable, y, x)."""
    low: Tensor
    """Lowest residuals whose fields are within their bounds, (row, variable, y, x)."""
    high: Tensor
    """Highest residuals whose fields are within their bounds, (row, variable, y, x)."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of a state, (variable, y, x)."""
        return tuple(self.reference.shape[1:])

    def rescaled(self, scale: Tensor) -> Condition:
        """Return the condition with residuals in other units, (row, variable, y, x)."""
        ratio = self.scale / scale
        return replace(self, scale=scale, low=self.low * ratio, high=self.high * ratio)
