"""The training objective as one module, which a single process or many can call."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from convcast.model.checkpoint import ModelDescription
from convcast.model.diffusion.noise_prediction import Diffusion, Losses
from convcast.model.network.network import Network
from convcast.model.training.batches import Batch
from convcast.settings import TrainingSettings


class NoisedBatch(NamedTuple):
    """Cases with their random draws: noise levels, noise, and whether the condition is withheld; one draw a row."""

    batch: Batch
    t: Tensor
    noise: Tensor
    blank: Tensor

    def divided(self, parts: int) -> list[NoisedBatch]:
        """Divide the batch into `parts` equal parts, in order; the number of cases must be a multiple of `parts`."""
        draws = (values.chunk(parts) for values in (self.t, self.noise, self.blank))
        return [NoisedBatch(*part) for part in zip(self.batch.divided(parts), *draws, strict=True)]


class Objective(nn.Module):
    """The loss of a noised batch: each condition is encoded once, and the noise predicted in each of its draws."""

    def __init__(self, description: ModelDescription, settings: TrainingSettings, device: torch.device) -> None:
        """Create the network and the diffusion process.

        Args:
            description: The model.
            settings: Settings of the training; the precision is bfloat16 or float32.
            device: Where both are.
        """
        super().__init__()
        self.network: Network = description.network().to(device)
        # Convolutions on a GPU are faster with channels last; on a CPU a training step takes a quarter longer.
        self.lay_out(torch.channels_last if device.type == "cuda" else torch.contiguous_format)
        self.network.recompute(settings.recompute)
        self.diffusion = Diffusion(description.model, list(description.residuals.spectra.values()), device)
        self._scale_weight = settings.scale_weight
        self.periodic = description.grid.periodic
        self._half = settings.precision == "bfloat16"
        self._device = device.type
        weights = [settings.weights.get(v.name, v.loss_weight) for v in description.variables]
        self.weights = torch.tensor(weights, device=device)
        self.weights = self.weights / self.weights.mean()

    def lay_out(self, layout: torch.memory_format) -> None:
        """Set how weights and features lie in memory."""
        self._layout = layout
        self.network.to(memory_format=layout)  # type: ignore[call-overload]

    def forward(self, noised: NoisedBatch) -> tuple[Tensor, Losses]:
        """Compute the weighted loss and its terms."""
        losses = self.losses(noised)
        noise = torch.lerp(losses.noise, losses.coarse, self._scale_weight)
        by_field = noise.mean(dim=0) + losses.mean.mean(dim=0) + losses.scale.mean(dim=0)
        return (by_field * self.weights).mean(), losses

    def losses(self, noised: NoisedBatch) -> Losses:
        batch, network, periodic = noised.batch, self.network, self.periodic
        channels = batch.channels if self._half else batch.channels.float()
        channels = channels.contiguous(memory_format=self._layout)
        with torch.autocast(self._device, torch.bfloat16, enabled=self._half):
            encoded = network.encode(channels, batch.numbers, periodic=periodic)
            return self.diffusion.losses(
                network,
                batch.residuals,
                noised.noise,
                noised.t,
                encoded,
                noised.blank,
                spectra=batch.spectra,
                periodic=periodic,
            )
