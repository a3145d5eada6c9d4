"""The part of the reverse diffusion process that follows from the residuals' covariances, solved exactly.

With φ = arctan(b / a), from π/2 at pure noise to 0, the probability flow (Song et al. 2021, arXiv 2011.13456) is

    dx/dφ = E[v | x] + F(x, t, c)

in the terms of convcast.model.diffusion.noise_prediction. The first term is linear in the bands of x. On a periodic
domain each wavenumber is therefore a linear system with one unknown for each field, which is solved here with its
dependence on φ. Only F is extrapolated from step to step, at all scales alike: this is an exponential integrator of
second order (Cox & Matthews 2002, doi:10.1006/jcph.2002.6995, section 2). Solvers that integrate both parts numerically
need many steps, or else they shrink the domain's mean and the largest scales, in which thousands of pixels vary
together.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from convcast.model.diffusion.schedule import Schedule
from convcast.model.diffusion.spectrum import Spectrum, bands, responses

WAVENUMBERS = 16
"""Number of wavenumbers along each axis for which the flow is solved, from the mean to waves of two cells."""
SUBSTEPS = 8
"""Number of exponential midpoint steps, of fourth order in the matrix, between two evaluations of the network."""
Floats = NDArray[np.float64]


class LinearFlow:
    """The solver's steps between the diffusion steps at which the network is evaluated, as gains of bands."""

    def __init__(
        self, spectrum: Spectrum, schedule: Schedule, timesteps: Sequence[int], *, device: torch.device | str = "cpu"
    ) -> None:
        """Solve the flow.

        Args:
            spectrum: Second moments of the residuals by band.
            schedule: The noise schedule.
            timesteps: The diffusion steps of the evaluations, decreasing; the last is followed by the state without
                noise.
            device: Where states are.
        """
        a, b = (table[np.asarray(timesteps)] for table in (schedule.signal, schedule.noise))
        expected = spectrum.gains(a, b)
        along = np.pi * (np.arange(WAVENUMBERS) / (WAVENUMBERS - 1)) ** 2
        waves = responses(along[:, None], along[None, :]).reshape(-1, WAVENUMBERS**2)
        self._of_state, self._of_network, self._ahead = list[Tensor](), list[Tensor](), list[float]()
        angles = [*np.arctan2(b, a), 0.0]
        for k, (start, end) in enumerate(pairwise(angles)):
            before = angles[k - 1] if 0 < k < len(timesteps) - 1 else None
            state, constant, slope = _propagate(spectrum, waves, start, end, before)
            self._ahead.append(float(np.trace(slope.sum(axis=0)) / np.trace(constant.sum(axis=0))))
            gains = np.concatenate([expected[k], _fitted(state, waves)])
            self._of_state.append(torch.from_numpy(gains).float().to(device))
            self._of_network.append(torch.from_numpy(_fitted(constant, waves)).float().to(device))

    def split(self, x: Tensor, k: int, *, periodic: bool) -> tuple[Tensor, Tensor]:
        """Return E[v | x] for states x (row, variable, y, x) of evaluation k, and the states of k + 1 if F were 0.

        Args:
            x: States of evaluation k, (row, variable, y, x), of unit variance.
            k: Number of the evaluation, from 0.
            periodic: Whether the domain is a torus.

        Returns:
            Two tensors of the shape of `x`.
        """
        expected, carried = _combine(self._of_state[k], x, periodic=periodic).chunk(2, dim=1)
        return expected, carried

    def advance(self, carried: Tensor, now: Tensor, before: Tensor, k: int, *, periodic: bool) -> Tensor:
        """Return the states of evaluation k + 1, or those without noise after the last one.

        Args:
            carried: The states of evaluation k + 1 if F were 0 (from `split`), (row, variable, y, x).
            now: F at evaluation k, shaped as `carried`.
            before: F at evaluation k - 1; at the first evaluation it has no effect.
            k: Number of the evaluation, from 0.
            periodic: Whether the domain is a torus.
        """
        extrapolated = torch.lerp(before, now, 1 + self._ahead[k])
        return carried + _combine(self._of_network[k], extrapolated, periodic=periodic)


def _combine(gains: Tensor, fields: Tensor, *, periodic: bool) -> Tensor:
    """Combine the bands of `fields` (row, channel, y, x) by gains (variable, channel, band), one band at a time."""
    out = torch.zeros(len(fields), len(gains), *fields.shape[2:], device=fields.device)
    for band, part in enumerate(bands(fields, periodic=periodic)):
        out += (gains[..., band] @ part.flatten(2)).view_as(out)
    return out


def _fitted(matrices: Floats, waves: Floats) -> Floats:
    """Return the gains (variable, variable, band) that suit matrices (wavenumber, variable, variable) best."""
    gains = np.linalg.lstsq(waves.T, matrices.reshape(len(matrices), -1), rcond=None)[0]
    return np.asarray(gains, np.float64).reshape(-1, *matrices.shape[1:]).transpose(1, 2, 0)


def _propagate(
    spectrum: Spectrum, waves: Floats, start: float, end: float, before: float | None
) -> tuple[Floats, Floats, Floats]:
    """Solve the flow from one angle to the next at each wavenumber.

    Args:
        spectrum: Second moments of the residuals by band.
        waves: Responses of the bands, (band, wavenumber).
        start: Angle φ at the start.
        end: Angle at the end.
        before: Angle of the evaluation before; None keeps F constant in this step.

    Returns:
        The weights of the state at the start, of F there, and of its change since the evaluation before,
        (wavenumber, variable, variable) each. F is linear in the half log signal-to-noise ratio.
    """
    count = len(spectrum.moments)
    edges = np.linspace(start, end, SUBSTEPS + 1)
    middles, width = (edges[1:] + edges[:-1]) / 2, (end - start) / SUBSTEPS
    gains = spectrum.gains(np.cos(middles), np.sin(middles))
    state = np.broadcast_to(np.eye(count), (waves.shape[1], count, count))
    constant = slope = np.zeros_like(state)
    for middle, gain in zip(middles, gains, strict=True):
        rate = np.einsum("ijb,bk->kij", gain, waves)
        whole, half = _exponential(rate * width), _exponential(rate * (width / 2))
        along = 0.0 if before is None else _half_log_snr(middle, start) / _half_log_snr(start, before)
        state, constant, slope = whole @ state, whole @ constant + half * width, whole @ slope + half * (width * along)
    return state, constant, slope


def _half_log_snr(angle: float, other: float) -> float:
    """Return the difference in log(a / b) between two angles."""
    return float(np.log(np.tan(other) / np.tan(angle)))


def _exponential(matrices: Floats) -> Floats:
    """Matrix exponential of small matrices (..., n, n), by its series to the fourth order."""
    one = np.eye(matrices.shape[-1])
    series = one + matrices / 4
    for order in (3, 2, 1):
        series = one + matrices @ series / order
    return series
