from __future__ import annotations

import pytest
import torch

from convcast.model.diffusion.linear_flow import LinearFlow
from convcast.model.diffusion.schedule import cosine
from convcast.model.diffusion.solvers import SOLVERS, ddim, ddpm, dpmpp_2m, exponential, unipc
from convcast.model.diffusion.spectrum import Spectrum

MEAN, SPREAD = 0.7, 0.3
SCHEDULE = cosine(200)


def exact_noise(x, t):
    """The best prediction of the noise in a state that is normal with MEAN and SPREAD: closed form."""
    a, b = SCHEDULE.signal[t], SCHEDULE.noise[t]
    return b / (a**2 * SPREAD**2 + b**2) * (x - a * MEAN)


def fresh(k):
    return torch.randn(20000, generator=torch.Generator().manual_seed(1000 + k), dtype=torch.float32)


def draw(solver, steps, *, denoise=exact_noise, clamp=lambda x0: x0, noise=fresh):
    if solver is not exponential:
        return solver(denoise, fresh(-1), schedule=SCHEDULE, steps=steps, clamp=clamp, noise=noise)
    flow = LinearFlow(Spectrum.white(1), SCHEDULE, SCHEDULE.timesteps(steps).tolist())
    x = fresh(-1).view(1, 1, 1, -1)
    options = {"flow": flow, "periodic": True}
    return solver(denoise, x, schedule=SCHEDULE, steps=steps, clamp=clamp, noise=noise, **options).flatten()


@pytest.mark.parametrize(
    ("name", "steps"), [("ddpm", 200), ("ddim", 100), ("dpmpp_2m", 20), ("unipc", 20), ("exponential", 20)]
)
def test_a_normal_posterior_is_sampled_with_its_mean_and_spread(name, steps):
    sample = draw(SOLVERS[name], steps)
    assert sample.mean().item() == pytest.approx(MEAN, abs=0.01)
    assert sample.std().item() == pytest.approx(SPREAD, rel=0.05)


@pytest.mark.parametrize("solver", [dpmpp_2m, unipc])
def test_solvers_of_second_order_converge_faster_than_ddim(solver):
    def error(solver):
        return abs(draw(solver, 20).std().item() - SPREAD)

    assert error(solver) < error(ddim) / 2


def test_ddim_with_all_its_noise_is_ddpm():
    """Both are Gaussian steps of the same mean and spread where nothing is clamped."""
    ancestral = ddim(exact_noise, fresh(-1), schedule=SCHEDULE, steps=50, clamp=lambda x0: x0, noise=fresh, eta=1.0)
    torch.testing.assert_close(ancestral, draw(ddpm, 50), atol=1e-3, rtol=0)
    assert (ancestral - draw(ddim, 50)).std() > 0.05


@pytest.mark.parametrize("solver", [ddim, dpmpp_2m, unipc, exponential])
def test_deterministic_solvers_never_ask_for_noise(solver):
    def refuse(k):
        raise AssertionError(k)

    draw(solver, 5, noise=refuse)


@pytest.mark.parametrize("name", list(SOLVERS))
def test_a_state_never_leaves_its_bounds(name):
    sample = draw(SOLVERS[name], 20, clamp=lambda x0: x0.clamp(0.6, 0.8))
    assert sample.min() >= 0.6
    assert sample.max() <= 0.8


@pytest.mark.parametrize("name", list(SOLVERS))
def test_steps_are_network_evaluations(name):
    calls = []

    def counted(x, t):
        calls.append(t)
        return exact_noise(x, t)

    draw(SOLVERS[name], 13, denoise=counted)
    assert calls == SCHEDULE.timesteps(13).tolist()


def test_an_error_at_pure_noise_is_not_amplified_when_clamped():
    """An error of 0.02 in the noise at t = T-1 is an error of 80 in the state."""

    def wrong(x, t):
        return exact_noise(x, t) + 0.02

    sample = draw(dpmpp_2m, 20, denoise=wrong, clamp=lambda x0: x0.clamp(-3, 3))
    assert sample.isfinite().all()
    assert abs(sample.mean().item() - MEAN) < 0.2


def test_a_ddpm_step_is_that_of_diffusers():
    from diffusers import DDPMScheduler

    theirs = DDPMScheduler(num_train_timesteps=200, beta_schedule="squaredcos_cap_v2", clip_sample=False)
    theirs.set_timesteps(200)
    sample = fresh(-1)
    noise = []
    for k, t in enumerate(range(199, -1, -1)):
        generator = torch.Generator().manual_seed(k)
        noise.append(torch.randn(1, *sample.shape, generator=torch.Generator().manual_seed(k))[0])
        sample = theirs.step(exact_noise(sample, t).float()[None], t, sample[None], generator=generator).prev_sample[0]
    ours = ddpm(exact_noise, fresh(-1), schedule=SCHEDULE, steps=200, clamp=lambda x0: x0, noise=lambda k: noise[k])
    torch.testing.assert_close(ours, sample, atol=2e-3, rtol=0)


def stepped(theirs):
    """A sample through all steps of a scheduler of diffusers, which wants batches of channels."""
    sample = fresh(-1)[None, None]
    for t in theirs.timesteps:
        sample = theirs.step(exact_noise(sample, int(t)).float(), t, sample).prev_sample
    return sample[0, 0]


@pytest.mark.parametrize("steps", [5, 20])
def test_dpmpp_2m_is_that_of_diffusers(steps):
    from diffusers import DPMSolverMultistepScheduler

    theirs = DPMSolverMultistepScheduler(
        num_train_timesteps=200,
        beta_schedule="squaredcos_cap_v2",
        final_sigmas_type="zero",
        solver_order=2,
    )
    theirs.set_timesteps(timesteps=SCHEDULE.timesteps(steps).tolist())
    torch.testing.assert_close(draw(dpmpp_2m, steps), stepped(theirs), atol=3e-3, rtol=0)


@pytest.mark.parametrize("steps", [5, 20])
def test_unipc_is_that_of_diffusers(steps):
    from diffusers import UniPCMultistepScheduler

    theirs = UniPCMultistepScheduler(
        num_train_timesteps=200,
        beta_schedule="squaredcos_cap_v2",
        final_sigmas_type="zero",
        solver_order=2,
        solver_type="bh2",
    )
    theirs.set_timesteps(steps)
    wanted = SCHEDULE.timesteps(steps)
    theirs.timesteps = torch.from_numpy(wanted.copy())
    theirs.sigmas = torch.tensor([*(SCHEDULE.noise / SCHEDULE.signal)[wanted], 0.0]).float()
    torch.testing.assert_close(draw(unipc, steps), stepped(theirs), atol=3e-3, rtol=0)
