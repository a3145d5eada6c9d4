"""The condition of the network, which is its only input besides the noisy state and the noise level.

The channels are the frames of the history, the frames advected to the valid time, the last frame moved by the wind, the
reference forecast, the expected size of its residuals, the ground at the point and where the air came from, the inflow
from outside the domain, and the sun at the initial and the valid time. The numbers are lead and hour of day. A model
with forcing also has the channels of HRRR's forecast for the valid time, a channel that is 1 if there is such a
forecast and 0 if it is withheld, and the age of the forecast as a number.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor

from convcast.model.devices import send
from convcast.model.features.inputs import Inputs, Kind
from convcast.model.features.residual import Residuals
from convcast.model.network.network import Encoded

LONGEST_LEAD = 24.0
"""Lead time, hours, that is encoded as 1."""


def channel_count(fields: int, history: int, *, forced: bool = False) -> int:
    """Return the number of channels of the condition for `fields` fields and `history` hours.

    Args:
        fields: Number of fields.
        history: Number of hourly frames up to the initial time.
        forced: Whether the model was trained with forcing.
    """
    return fields * (2 * history + 3) + 8 + forced * (fields + 1)


def number_count(*, forced: bool = False) -> int:
    """Return the number of `numbers` of the condition."""
    return 3 + forced


def channels(inputs: Inputs, reference: Tensor, scale: Tensor, *, forced: bool = False) -> Tensor:
    """Join the channels of the condition, (row, channel, y, x).

    Args:
        inputs: The inputs.
        reference: Reference forecast, standardised, (row, variable, y, x).
        scale: Expected size of its residuals, standardised, (row, variable, y, x).
        forced: Whether the model was trained with forcing, which cases may lack.
    """
    forcing: list[Tensor] = []
    if forced:
        given = inputs.forcing is not None
        indicator = torch.full_like(inputs.static[:, :1], float(given))
        forcing = [inputs.forcing if inputs.forcing is not None else torch.zeros_like(reference), indicator]
    return torch.cat(
        [
            inputs.history,
            inputs.history_advected,
            inputs.advected_by_wind,
            reference,
            scale,
            inputs.static,
            inputs.static_advected,
            inputs.inflow,
            inputs.sun,
            *forcing,
        ],
        dim=1,
    )


def numbers(inputs: Inputs, *, forced: bool = False) -> Tensor:
    """Encode lead and hour of day, and with `forced` the age of the forcing, as numbers between -1 and 1.

    Returns:
        (row, 3), or (row, 4) with `forced`.
    """
    leads = send(torch.tensor(inputs.leads, dtype=torch.float32) / LONGEST_LEAD, inputs.hour.device)
    ages = [torch.full_like(leads, (inputs.age or 0) / LONGEST_LEAD)[:, None]] if forced else []
    return torch.cat([leads[:, None], inputs.hour, *ages], dim=1)


class Features(NamedTuple):
    """The condition before it is encoded, with the reference and scale of the residuals; one row for each case."""

    channels: Tensor
    numbers: Tensor
    reference: Tensor
    """Reference forecast, standardised, (row, variable, y, x)."""
    scale: Tensor
    """Expected size of its residuals, standardised, (row, variable, y, x)."""
    spectra: Tensor
    """Index of the residuals' spectrum, (row,)."""

    @classmethod
    def of(cls, inputs: Inputs, residuals: Residuals, *, forced: bool = False) -> Features:
        """Compute the features of cases.

        Args:
            inputs: The inputs of the cases, one in each row.
            residuals: Reference forecast and scale of the residuals.
            forced: Whether the model was trained with forcing.
        """
        reference = residuals.reference(inputs)
        scale = residuals.scales(inputs, reference)
        joined = channels(inputs, reference, scale, forced=forced)
        spectra = send(residuals.spectrum_indices(inputs.kinds), reference.device)
        return cls(joined, numbers(inputs, forced=forced), reference, scale, spectra)


@dataclass(frozen=True)
class Condition:
    """The encoded condition, with reference, scale and bounds of residuals: one row for all members or for each."""

    kind: Kind
    """Lead and age of the forcing, of all rows."""
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

    def for_domain(self, reference: Tensor, scale: Tensor) -> Condition:
        """Return the condition of a tile with the reference and scale of its domain, for the bounds and fields there.

        The encoded part stays that of the tile.
        """
        low, high = (
            ((end * self.scale + self.reference)[..., :1, :1] - reference) / scale for end in (self.low, self.high)
        )
        return replace(self, reference=reference, scale=scale, low=low, high=high)

    def rescaled(self, scale: Tensor) -> Condition:
        """Return the condition with residuals in other units, (row, variable, y, x)."""
        ratio = self.scale / scale
        return replace(self, scale=scale, low=self.low * ratio, high=self.high * ratio)
