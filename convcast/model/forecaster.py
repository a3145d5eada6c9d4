"""A trained model, loaded for sampling."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from convcast.dataset import Window
from convcast.errors import DamagedFileError, SettingsError
from convcast.model import devices
from convcast.model.checkpoint import ModelDescription, load_network
from convcast.model.diffusion.linear_flow import LinearFlow
from convcast.model.diffusion.noise_prediction import Diffusion
from convcast.model.diffusion.solvers import SOLVERS, Clamp, Denoise, Noise
from convcast.model.features.condition import Condition, Features
from convcast.model.features.inputs import Inputs, Kind
from convcast.model.network.network import Network
from convcast.settings import Precision, SamplingSettings

FLOAT = 4
"""Bytes of a float32."""
WORKING_FEATURES = 32
"""Memory of a network call, in multiples of its first level's features: measured 23 to 32 (128² and 256² cells)."""


class Forecaster:
    """Predicts the noise in the residuals of the coming fields from their reference forecast."""

    def __init__(
        self,
        description: ModelDescription,
        network: Network,
        digest: str,
        *,
        device: str = "cpu",
        precision: Precision = "bfloat16",
    ) -> None:
        self.description = description
        self.sha256 = digest
        """The model's identity: the digest of its weights, whatever file they are in."""
        self.device = devices.resolve(device)
        self.precision = devices.resolve_precision(precision, self.device)
        """Precision of the network: bfloat16 or float32."""
        self.variables, self.settings = description.variables, description.model
        self.leads = description.model.leads
        """Lead times, hours."""
        self.forcing = description.forcing
        """The HRRR forecasts that force the model; None for a model without forcing."""
        devices.use_tensor_cores()
        self._diffusion = Diffusion(description.model, list(description.residuals.spectra.values()), self.device)
        self.schedule = self._diffusion.schedule
        self._flows: dict[tuple[int, Kind], LinearFlow] = {}
        # This layout makes inference 4 to 20 % faster, and training slower.
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._network = network.to(self.device).requires_grad_(False)
        self._network.eval()

    @classmethod
    def load(cls, directory: Path, *, device: str = "cpu", precision: Precision = "bfloat16") -> Forecaster:
        """Load the model in `directory`.

        Raises:
            SettingsError: There is no model, no such device, or too little memory.
            DamagedFileError: The model is damaged or was not written by convcast.
        """
        description = ModelDescription.read(directory)
        network, digest = load_network(directory, description)
        return cls(description, network, digest, device=device, precision=precision)

    @torch.inference_mode()
    def condition(self, windows: Sequence[Window], *, periodic: bool) -> Condition:
        """Encode the condition, once for all denoising steps.

        Args:
            windows: One case for all members, or one for each member; all of one lead, one shape and one age of
                forcing. Forcing is ignored by a model that was trained without.
            periodic: Whether the domain is a torus.

        Raises:
            SettingsError: The model was not trained for this lead.
            DamagedFileError: The cases have other fields or another length of history than the model.
        """
        lead, past = windows[0].lead, windows[0].history
        if lead not in self.leads:
            raise SettingsError(
                f"the model was not trained for a lead of {lead} hours",
                advice=f"use --leads {','.join(map(str, self.leads))}",
            )
        expected = (self.settings.history, len(self.variables))
        if past.shape[:2] != expected:
            raise DamagedFileError(
                f"the model was trained on {expected[0]} hours of {expected[1]} fields, "
                f"not {past.shape[0]} of {past.shape[1]}",
                advice="sample from the dataset that it was trained on",
            )
        residuals = self.description.residuals
        forced = self.forcing is not None
        if not forced:
            windows = [replace(window, forcing=None, age=None) for window in windows]
        normalisation, names = residuals.normalisation, self.settings.inputs
        inputs = Inputs.of(windows, normalisation, periodic=periodic, names=names, device=self.device)
        features = Features.of(inputs, residuals, forced=forced)
        with self._autocast():
            encoded = self._network.encode(features.channels, features.numbers, periodic=periodic)
        low, high = residuals.bounds(features.reference, features.scale)
        return Condition(inputs.kinds[0], periodic, encoded, features.reference, features.scale, low, high)

    def call_bytes(self, cells: int) -> int:
        """Return the peak memory, in bytes, of a network call on `cells` cells of all members together."""
        return self._features(cells) * WORKING_FEATURES

    def condition_bytes(self, cells: int) -> int:
        """Return the memory, in bytes, of the condition of one case on `cells` cells."""
        return self._features(cells) + 6 * len(self.variables) * cells * FLOAT

    def _features(self, cells: int) -> int:
        """Return the bytes of the first level's features."""
        return cells * self.settings.base * FLOAT // self.settings.unshuffle**2

    @torch.inference_mode()
    def predict_noise(self, x: Tensor, t: int, condition: Condition, *, guidance: float = 1.0) -> Tensor:
        """Predict the noise in `x` (member, variable, y, x) at step `t`, float32: ε_∅ + guidance (ε_c - ε_∅).

        Guidance (Ho & Salimans 2022, arXiv 2207.12598) below 1 leans towards the unconditional prediction, a residual
        of average spread, as in DEF (arXiv 2506.07324): members were narrower over storms and a little wider in
        unstable air (docs/method.md). At 1 the network is run once.
        """
        x = x.to(self.device, torch.float32)
        steps = torch.full((1,), t, device=self.device)
        spectra = torch.full((1,), self._spectrum_index(condition.kind), device=self.device)

        def predict(known: bool) -> Tensor:
            encoded = condition.encoded if known else condition.encoded.blanked(True)
            with self._autocast():
                return self._diffusion.predict_noise(
                    self._network, x, steps, encoded, spectra=spectra, periodic=condition.periodic
                ).float()

        if guidance == 1:
            return predict(True)
        blank = predict(False)
        return blank + guidance * (predict(True) - blank)

    @torch.inference_mode()
    def solve(
        self,
        denoise: Denoise,
        x: Tensor,
        *,
        settings: SamplingSettings,
        clamp: Clamp,
        noise: Noise,
        kind: Kind,
        periodic: bool,
    ) -> Tensor:
        """Integrate from pure noise `x` (member, variable, y, x) to residuals, by the solver of the settings.

        Args:
            denoise: Predicts the noise in a state at a diffusion step.
            x: Unit normal noise.
            settings: Solver and number of evaluations.
            clamp: Brings a predicted state into its bounds.
            noise: Fresh noise for each step of a stochastic solver.
            kind: Kind of the case, whose residuals have a spectrum of their own.
            periodic: Whether the domain of `x` is a torus.
        """
        steps = settings.evaluations(self.schedule.steps)
        options: dict[str, Any] = {}
        if settings.solver == "ddim":
            options = {"eta": settings.eta}
        elif settings.solver == "exponential":
            options = {"flow": self._flow(steps, kind), "periodic": periodic}
        solver = SOLVERS[settings.solver]
        return solver(denoise, x, schedule=self.schedule, steps=steps, clamp=clamp, noise=noise, **options)

    def _flow(self, steps: int, kind: Kind) -> LinearFlow:
        """Return the flow for this number of evaluations and kind of case, which is solved once."""
        if (steps, kind) not in self._flows:
            spectrum = self._diffusion.spectra[self._spectrum_index(kind)]
            timesteps = self.schedule.timesteps(steps).tolist()
            self._flows[steps, kind] = LinearFlow(spectrum, self.schedule, timesteps, device=self.device)
        return self._flows[steps, kind]

    def _spectrum_index(self, kind: Kind) -> int:
        return int(self.description.residuals.spectrum_indices([kind]))

    @torch.inference_mode()
    def clamp(self, x0: Tensor, condition: Condition) -> Tensor:
        """Limit residuals (member, variable, y, x) so that their fields stay within Variable.bounds."""
        return torch.clamp(x0, condition.low, condition.high)

    @torch.inference_mode()
    def fields(self, x0: Tensor, condition: Condition) -> NDArray[np.float32]:
        """Return the fields of residuals (member, variable, y, x), in GRIB units and within Variable.bounds."""
        values = condition.reference + x0 * condition.scale
        fields: NDArray[np.float32] = self.description.residuals.normalisation.restored(values).cpu().numpy()
        return fields

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bfloat16")
