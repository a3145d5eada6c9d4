"""Samplers: from pure noise to a state, with a function that predicts the noise in between.

Pure functions of a few lines. `x` is a float32 tensor of unit normal noise; `denoise(x_t, t)` predicts the noise in
it, `clamp` brings a predicted state into its bounds, `noise(k)` is fresh unit noise for step k of a stochastic sampler.
All return the state x_0. Coefficients are float64 until they meet the tensor.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import numpy as np
from torch import Tensor

from convcast.model.schedule import Schedule
from convcast.settings import SolverName

Denoise = Callable[[Tensor, int], Tensor]
Clamp = Callable[[Tensor], Tensor]
Noise = Callable[[int], Tensor]
Solver = Callable[..., Tensor]


def ddpm(denoise: Denoise, x: Tensor, *, schedule: Schedule, steps: int, clamp: Clamp, noise: Noise) -> Tensor:
    """Ancestral sampling (Ho et al. 2020, arXiv 2006.11239, equations 6 and 7); the reference where `steps` = T."""
    timesteps = schedule.timesteps(steps)
    for k, (t, s) in enumerate(pairwise(timesteps)):
        x0 = _state(denoise, x, t, schedule, clamp)
        kept = schedule.alpha_bar[t] / schedule.alpha_bar[s]  # α of the step from s to t
        noise_t, noise_s = 1 - schedule.alpha_bar[t], 1 - schedule.alpha_bar[s]
        mean = float(schedule.signal[s] * (1 - kept) / noise_t) * x0 + float(np.sqrt(kept) * noise_s / noise_t) * x
        x = mean + float(np.sqrt(noise_s / noise_t * (1 - kept))) * noise(k)
    return _state(denoise, x, timesteps[-1], schedule, clamp)


def ddim(denoise: Denoise, x: Tensor, *, schedule: Schedule, steps: int, clamp: Clamp, noise: Noise) -> Tensor:  # noqa: ARG001
    """The deterministic sampler (Song et al. 2021, arXiv 2010.02502, equation 12 with η = 0)."""
    timesteps = schedule.timesteps(steps)
    for t, s in pairwise(timesteps):
        x0 = _state(denoise, x, t, schedule, clamp)
        shrink = schedule.noise[s] / schedule.noise[t]
        x = float(shrink) * x + float(schedule.signal[s] - shrink * schedule.signal[t]) * x0
    return _state(denoise, x, timesteps[-1], schedule, clamp)


def dpmpp_2m(denoise: Denoise, x: Tensor, *, schedule: Schedule, steps: int, clamp: Clamp, noise: Noise) -> Tensor:  # noqa: ARG001
    """DPM-Solver++(2M) (Lu et al. 2022, arXiv 2211.01095, algorithm 2); the last step is of first order."""
    timesteps = schedule.timesteps(steps)
    half_log_snr = np.log(schedule.signal / schedule.noise)
    previous, previous_step = None, np.nan
    for t, s in pairwise(timesteps):
        x0 = _state(denoise, x, t, schedule, clamp)
        step = half_log_snr[s] - half_log_snr[t]
        ahead = x0 if previous is None else x0 + float(step / (2 * previous_step)) * (x0 - previous)
        x = float(schedule.noise[s] / schedule.noise[t]) * x - float(schedule.signal[s] * np.expm1(-step)) * ahead
        previous, previous_step = x0, step
    return _state(denoise, x, timesteps[-1], schedule, clamp)


def _state(denoise: Denoise, x: Tensor, t: int, schedule: Schedule, clamp: Clamp) -> Tensor:
    """The state that the predicted noise implies, within bounds."""
    return clamp((x - float(schedule.noise[t]) * denoise(x, int(t))) / float(schedule.signal[t]))


SOLVERS: dict[SolverName, Solver] = {"ddpm": ddpm, "ddim": ddim, "dpmpp_2m": dpmpp_2m}
