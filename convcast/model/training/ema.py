"""The exponential moving average of the weights, from which members are sampled."""

from __future__ import annotations

import torch
from torch import Tensor, nn

RAMP = 10
"""Steps over which the average forgets where it started; it looks back over a tenth of the training at most."""


class ExponentialMovingAverage:
    """Weights averaged with a decay that grows to `decay` (as in Karras et al. 2022, Nichol & Dhariwal 2021)."""

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.decay = decay
        self.weights: dict[str, Tensor] = {name: value.detach().clone() for name, value in network.state_dict().items()}

    @torch.no_grad()
    def update(self, network: nn.Module, step: int) -> None:
        """Update after optimiser step `step`, counted from 0."""
        decay = min(self.decay, (1 + step) / (RAMP + step))
        values = list(network.state_dict().values())
        torch._foreach_lerp_(list(self.weights.values()), values, 1 - decay)
