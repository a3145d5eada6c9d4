"""The preconditioned noise prediction and its loss.

With a = √ᾱ, b = √(1-ᾱ) and x = a x_0 + b ε, the noise is predicted as

    ε̂ = b x + a (F(x, t, c) + E[v | x]),

where v = a ε - b x_0 and the expectation follows from the spectrum of x_0 alone (`spectral`; see Spectrum): the
network F corrects a denoiser that is already good. Without it (`velocity`) this is v-prediction (Salimans & Ho 2022,
arXiv 2202.00512) seen from the noise side.

`preconditioned` uses the encoder's guess instead, that x_0 has mean m and standard deviation s at this pixel.
Then x - a m has the variance d² = a²s² + b², and

    ε̂ = (b / d²) (x - a m) + (a s / d) F((x - a m) / d, t, c).

The first term is the noise that x implies if only the guess is known (the conditional mean of a Gaussian). This is
the preconditioning of Karras et al. (2022, arXiv 2206.00364, section 5) with a σ_data for each pixel, not one for all.
For m = 0 and s = 1 it is `velocity`.

The loss is ‖ε - ε̂‖² / ᾱ. With F* the output that would give ε̂ = ε, it is (s / d)² ‖F - F*‖², and computed so: nothing
is divided by ᾱ, which is 6e-8 at the noisy end.

Nearly all variance of white noise is at scales of a few cells, and so is nearly all of this loss: an error that halves
the signal at wavelengths of 8 cells costs 0.1 % of it. Training therefore also lowers the square of errors whose coarse
scales are amplified (spectrum.coarse_emphasised), by the share `training.scale_weight`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from convcast.model.diffusion.schedule import Schedule, cosine
from convcast.model.diffusion.spectrum import Spectrum, coarse_emphasised, flat_bands
from convcast.model.network.network import Encoded, Network
from convcast.settings import ModelSettings


@dataclass(frozen=True)
class Losses:
    """Loss terms, averaged over the pixels and not yet weighted."""

    noise: Tensor
    """Squared error of the noise prediction, (row, variable)."""
    coarse: Tensor
    """Squared error of the noise prediction with coarse scales emphasised, so that all count alike, (row, variable)."""
    mean: Tensor
    """Squared error of the encoder's guess of the mean, (case, variable)."""
    scale: Tensor
    """Negative log likelihood of the residuals given the guess of their spread, (case, variable)."""


class Diffusion:
    """The diffusion process of one model: noise schedule and parameterisation."""

    def __init__(
        self, settings: ModelSettings, spectra: Sequence[Spectrum], device: torch.device | str = "cpu"
    ) -> None:
        """Compute the tables of the process; residuals have one of the `spectra`, one for each kind of case."""
        self.schedule: Schedule = cosine(settings.diffusion_steps)
        self.raw = settings.parameterisation == "raw"
        self.guessing = settings.parameterisation == "preconditioned"
        self._gains: Tensor | None = None
        spectral = settings.parameterisation == "spectral"
        self.spectra = [s if spectral else Spectrum.white(len(s.moments)) for s in spectra]
        """Spectra from which the linear part of the prediction follows; white noise's if there is no linear part."""
        if spectral:
            gains = np.stack([s.gains(self.schedule.signal, self.schedule.noise) for s in spectra])
            self._gains = torch.from_numpy(gains).float().flatten(3).to(device)
        self.signal, self.noise, self.level = (
            torch.from_numpy(table).float().to(device)
            for table in (self.schedule.signal, self.schedule.noise, self.schedule.level)
        )

    def predict_noise(
        self, network: Network, x: Tensor, t: Tensor, encoded: Encoded, *, spectra: Tensor, periodic: bool
    ) -> Tensor:
        """Predict the noise (row, variable, y, x), float32, in states `x`.

        Args:
            network: The network.
            x: Noisy residuals, (row, variable, y, x).
            t: Diffusion steps, (row,) or (1,).
            encoded: Conditions, one row for each state or one for all.
            spectra: Index of the residuals' spectrum, (row,) or (1,).
            periodic: Whether the domain is a torus.
        """
        if self.raw:
            raw: Tensor = network(x, self.level[t], encoded, periodic=periodic)
            return raw
        encoded = self._guessed(encoded)
        a, b = self._coefficients(t)
        rest = x - a * encoded.mean
        d = torch.sqrt((a * encoded.scale) ** 2 + b**2)
        out = network(rest / d, self.level[t], encoded, periodic=periodic) + self._expected(
            x, t, spectra, periodic=periodic
        )
        predicted: Tensor = b / d**2 * rest + a * encoded.scale / d * out
        return predicted

    def losses(
        self,
        network: Network,
        x0: Tensor,
        noise: Tensor,
        t: Tensor,
        encoded: Encoded,
        blank: Tensor,
        *,
        spectra: Tensor,
        periodic: bool,
    ) -> Losses:
        """Compute the loss terms; each case is noised in the same number of rows, in the order of the cases.

        Args:
            network: The network in training.
            x0: Residuals, (case, variable, y, x); NaN where they are missing, which adds no loss.
            noise: Standard normal noise, (row, variable, y, x).
            t: Diffusion steps, (row,).
            encoded: Conditions, one row for each case.
            blank: True where the condition is withheld, (row, 1, 1, 1).
            spectra: Index of the residuals' spectrum, (case,).
            periodic: Whether the domain is a torus.
        """
        present, x0 = torch.isfinite(x0).float(), torch.nan_to_num(x0)
        off = x0 - encoded.mean
        # The mean is learnt independently of the spread, and the noise loss has no gradient on either.
        scale_loss = torch.log(encoded.scale) + 0.5 * (off.detach() / encoded.scale) ** 2
        repeats = len(noise) // len(x0)
        known = self._guessed(encoded.detached_guess()).repeated(repeats).blanked(blank)
        x0 = x0.repeat_interleave(repeats, dim=0)
        a, b = self._coefficients(t)
        x = a * x0 + b * noise
        if self.raw:
            error = network(x, self.level[t], known, periodic=periodic) - noise
        else:
            s, rest = known.scale, x - a * known.mean
            d = torch.sqrt((a * s) ** 2 + b**2)
            target = (a * s * noise - b * (x0 - known.mean) / s) / d - self._expected(
                x, t, spectra.repeat_interleave(repeats), periodic=periodic
            )
            error = s / d * (network(rest / d, self.level[t], known, periodic=periodic) - target)
        error = error * present.repeat_interleave(repeats, dim=0)
        with torch.autocast(error.device.type, enabled=False):  # as in `_expected`
            coarse = coarse_emphasised(error, periodic=periodic)
        losses = (error**2, coarse**2, off**2 * present, scale_loss * present)
        return Losses(*(loss.mean(dim=(2, 3)) for loss in losses))

    def _expected(self, x: Tensor, t: Tensor, spectra: Tensor, *, periodic: bool) -> Tensor | float:
        """Return E[v | x] given the spectrum alone; 0 without `spectral`."""
        if self._gains is None:
            return 0.0
        parts = flat_bands(x, periodic=periodic)
        with torch.autocast(x.device.type, enabled=False):  # the finest bands are small differences, in need of float32
            expected: Tensor = (self._gains[spectra, t] @ parts).view_as(x)
        return expected

    def _guessed(self, encoded: Encoded) -> Encoded:
        return encoded if self.guessing else encoded.without_guess()

    def _coefficients(self, t: Tensor) -> tuple[Tensor, Tensor]:
        return self.signal[t, None, None, None], self.noise[t, None, None, None]


def stratified_steps(count: int, steps: int, generator: torch.Generator | None = None) -> Tensor:
    """Draw `count` steps from 0 … `steps` - 1, one from each of `count` equal parts, in random order.

    A batch then has all noise levels (Kingma et al. 2021, arXiv 2107.00630, appendix I), which halves the variance of
    the loss between batches.
    """
    places = (torch.arange(count) + torch.rand(1, generator=generator)) / count
    return (places[torch.randperm(count, generator=generator)] * steps).long().clamp(max=steps - 1)
