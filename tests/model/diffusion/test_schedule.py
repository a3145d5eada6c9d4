from __future__ import annotations

import numpy as np
import pytest
import torch

from convcast.model.diffusion.schedule import cosine


@pytest.mark.parametrize("steps", [200, 1000])
def test_cosine_tables_are_those_of_diffusers(steps):
    from diffusers import DDPMScheduler

    theirs = DDPMScheduler(num_train_timesteps=steps, beta_schedule="squaredcos_cap_v2").alphas_cumprod.numpy()
    np.testing.assert_allclose(cosine(steps).alpha_bar, theirs, rtol=2e-4, atol=1e-7)


def test_signal_and_noise_conserve_variance():
    schedule = cosine(200)
    np.testing.assert_allclose(schedule.signal**2 + schedule.noise**2, 1, rtol=1e-15)


def test_the_level_rises_from_nearly_none_to_nearly_one():
    level = cosine(200).level
    assert level[0] < 0.02
    assert 0.999 < level[-1] < 1
    assert (np.diff(level) > 0).all()


@pytest.mark.parametrize("steps", [1, 3, 20, 200])
def test_timesteps_start_at_pure_noise_and_fall(steps):
    timesteps = cosine(200).timesteps(steps)
    assert len(timesteps) == steps
    assert timesteps[0] == 199
    assert (np.diff(timesteps) < 0).all()
    assert timesteps[-1] >= 0


@pytest.mark.parametrize("spread", [20, 5, 1, 0.2, 0.05])
def test_timesteps_suit_components_of_every_spread(spread):
    """Return the share of a normal component's spread that 20 steps of DPM-Solver++ keep, in closed form."""
    from convcast.model.diffusion.solvers import dpmpp_2m

    schedule = cosine(200)

    def denoise(x, t):
        a, b = schedule.signal[t], schedule.noise[t]
        return b / (a**2 * spread**2 + b**2) * x

    start = torch.ones(1, dtype=torch.float64)
    kept = dpmpp_2m(denoise, start, schedule=schedule, steps=20, clamp=lambda x0: x0, noise=None) / spread
    assert 0.93 < kept.item() < 1.03


def test_all_timesteps_are_all():
    np.testing.assert_array_equal(cosine(50).timesteps(50), np.arange(49, -1, -1))


def test_more_timesteps_than_there_are_is_an_error():
    with pytest.raises(ValueError, match="201"):
        cosine(200).timesteps(201)
