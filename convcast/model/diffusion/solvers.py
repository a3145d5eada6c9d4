"""Solvers that integrate the diffusion process from pure noise to a state, given a noise prediction.

In each solver, `x` is a float32 tensor of unit normal noise, (row, variable, y, x), `schedule` is the noise schedule,
and `steps` is the number of evaluations, at most T. `denoise(x_t, t)` predicts the noise in x_t, `clamp` brings a
predicted state into its bounds, and `noise(k)` is fresh unit noise for step k of a stochastic solver. All solvers
return the state x_0, shaped as `x`. Coefficients are computed in float64.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from convcast.model.diffusion.linear_flow import LinearFlow
from convcast.model.diffusion.schedule import Schedule
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
        alpha = schedule.alpha_bar[t] / schedule.alpha_bar[s]  # α of the step from s to t
        noise_t, noise_s = 1 - schedule.alpha_bar[t], 1 - schedule.alpha_bar[s]
        mean = float(schedule.signal[s] * (1 - alpha) / noise_t) * x0 + float(np.sqrt(alpha) * noise_s / noise_t) * x
        x = mean + float(np.sqrt(noise_s / noise_t * (1 - alpha))) * noise(k)
    return _state(denoise, x, timesteps[-1], schedule, clamp)


def ddim(
    denoise: Denoise,
    x: Tensor,
    *,
    schedule: Schedule,
    steps: int,
    clamp: Clamp,
    noise: Noise,
    eta: float = 0.0,
) -> Tensor:
    """DDIM (Song et al. 2021, arXiv 2010.02502, equations 12 and 16): deterministic for η = 0, ancestral for η = 1."""
    timesteps = schedule.timesteps(steps)
    for k, (t, s) in enumerate(pairwise(timesteps)):
        x0 = _state(denoise, x, t, schedule, clamp)
        alpha = schedule.alpha_bar[t] / schedule.alpha_bar[s]
        fresh = eta * schedule.noise[s] / schedule.noise[t] * np.sqrt(1 - alpha)  # σ of the paper
        x = _advance(x, x0, t, s, schedule, fresh=fresh)
        if eta:
            x = x + float(fresh) * noise(k)
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


def unipc(denoise: Denoise, x: Tensor, *, schedule: Schedule, steps: int, clamp: Clamp, noise: Noise) -> Tensor:  # noqa: ARG001
    """UniPC of second order, B(h) = e^h - 1, on predicted states (Zhao et al. 2023, arXiv 2302.04867, section 3.3).

    Each evaluation also corrects the step that led to it, so that the corrector needs no evaluation. The first step
    is of first order.
    """
    timesteps = schedule.timesteps(steps)
    half_log_snr = np.log(schedule.signal / schedule.noise)
    start, states = x, dict[int, Tensor]()  # the corrected state before the last step; the last three x_0 by step
    for k, t in enumerate(timesteps):
        states.pop(k - 3, None)
        states[k] = _state(denoise, x, t, schedule, clamp)
        if k + 1 == len(timesteps):
            break
        if k > 0:  # correct x, which the step from s predicted
            s = timesteps[k - 1]
            h = half_log_snr[t] - half_log_snr[s]
            slope = 0.5 * (states[k] - states[k - 1])
            if k > 1:
                r = (half_log_snr[timesteps[k - 2]] - half_log_snr[s]) / h
                phi = np.expm1(-h) / -h - 1
                moments = np.array([phi, 2 * (phi / -h - 0.5)]) / np.expm1(-h)
                before, after = np.linalg.solve(np.array([[1, 1], [r, 1]]), moments)
                slope = float(before / r) * (states[k - 2] - states[k - 1]) + float(after) * (states[k] - states[k - 1])
            x = _advance(start, states[k - 1] + slope, s, t, schedule)
        start, s = x, timesteps[k + 1]
        ahead = states[k]
        if k > 0:
            r = (half_log_snr[timesteps[k - 1]] - half_log_snr[t]) / (half_log_snr[s] - half_log_snr[t])
            ahead = ahead + float(0.5 / r) * (states[k - 1] - states[k])
        x = _advance(start, ahead, t, s, schedule)
    return states[len(timesteps) - 1]


def exponential(
    denoise: Denoise,
    x: Tensor,
    *,
    schedule: Schedule,
    steps: int,
    clamp: Clamp,
    noise: Noise,  # noqa: ARG001
    flow: LinearFlow,
    periodic: bool,
) -> Tensor:
    """Exponential integrator of second order (convcast.model.diffusion.linear_flow), exact for normal residuals.

    `flow` was solved for the same number of steps; `periodic` says whether the domain is a torus.
    """
    before = state = predicted = torch.zeros_like(x)
    for k, t in enumerate(schedule.timesteps(steps)):
        a, b = float(schedule.signal[t]), float(schedule.noise[t])
        predicted = _predicted(denoise, x, t, schedule)
        state = clamp(predicted)
        expected, carried = flow.split(x, k, periodic=periodic)
        now = (a * x - state) / b - expected
        x, before = flow.advance(carried, now, before, k, periodic=periodic), now
    return torch.where(state == predicted, clamp(x), state)  # values at their bounds stay there


def _advance(x: Tensor, x0: Tensor, t: int, s: int, schedule: Schedule, *, fresh: float = 0.0) -> Tensor:
    """Advance from step t to s with the noise that x0 implies, less the `fresh` noise (standard deviation)."""
    shrink = np.sqrt(schedule.noise[s] ** 2 - fresh**2) / schedule.noise[t]
    return float(shrink) * x + float(schedule.signal[s] - shrink * schedule.signal[t]) * x0


def _state(denoise: Denoise, x: Tensor, t: int, schedule: Schedule, clamp: Clamp) -> Tensor:
    """Return the state x_0 that the predicted noise implies, within its bounds."""
    return clamp(_predicted(denoise, x, t, schedule))


def _predicted(denoise: Denoise, x: Tensor, t: int, schedule: Schedule) -> Tensor:
    """Return the state x_0 that the predicted noise implies."""
    return (x - float(schedule.noise[t]) * denoise(x, int(t))) / float(schedule.signal[t])


SOLVERS: dict[SolverName, Solver] = {
    "exponential": exponential,
    "unipc": unipc,
    "dpmpp_2m": dpmpp_2m,
    "ddim": ddim,
    "ddpm": ddpm,
}
