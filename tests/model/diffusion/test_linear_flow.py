"""The solved flow against theory: a normal field keeps the variance of every wave, in few steps."""

import numpy as np
import pytest
import torch

from convcast.model.diffusion.linear_flow import LinearFlow
from convcast.model.diffusion.schedule import cosine
from convcast.model.diffusion.solvers import exponential, unipc
from convcast.model.diffusion.spectrum import Spectrum, band_moments, bands, noise_moments, responses

SCHEDULE = cosine(200)
SIDE = 40


def coloured(rows, seed=0, side=SIDE):
    """Two correlated fields of variance 1, most of it at large scales and in the domain's mean."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(rows, 2, side, side, generator=generator, dtype=torch.float64)
    waves = torch.fft.fftfreq(side, 1 / side, dtype=torch.float64)
    amplitude = (1 + waves[:, None] ** 2 + waves[None, :] ** 2) ** -0.75
    field = torch.fft.ifft2(torch.fft.fft2(noise) * amplitude).real
    field = field / field.std()
    return torch.stack([field[:, 0], 0.8 * field[:, 0] + 0.6 * field[:, 1]], dim=1).float()


@pytest.fixture(scope="module")
def spectrum():
    moments = band_moments(coloured(400), periodic=True).mean(dim=0).double().numpy()
    return Spectrum(moments)


def drawn(spectrum, solver, steps, rows=200, *, periodic=True):
    """Sample by the linear denoiser of the spectrum alone."""
    timesteps = SCHEDULE.timesteps(steps).tolist()
    flow = LinearFlow(spectrum, SCHEDULE, timesteps)
    options = {"flow": flow, "periodic": periodic} if solver is exponential else {}

    def denoise(x, t):
        a, b = float(SCHEDULE.signal[t]), float(SCHEDULE.noise[t])
        return b * x + a * flow.split(x, timesteps.index(t), periodic=periodic)[0]

    noise = torch.randn(rows, 2, SIDE, SIDE, generator=torch.Generator().manual_seed(1))
    return solver(denoise, noise, schedule=SCHEDULE, steps=steps, clamp=lambda x: x, noise=None, **options)


@pytest.fixture(scope="module")
def sample(spectrum):
    return drawn(spectrum, exponential, 5)


def mean_variance(fields):
    """Variance of the domain's mean, (variable,)."""
    return fields.mean(dim=(2, 3)).square().mean(dim=0).numpy()


def test_five_evaluations_keep_the_variance_of_the_domain_mean(spectrum, sample):
    many = drawn(spectrum, exponential, 50, rows=20)
    assert mean_variance(sample[:20]) == pytest.approx(mean_variance(many), rel=0.05)
    # The mean shares its band with the longest waves, whose variance is less.
    assert mean_variance(sample) == pytest.approx(mean_variance(coloured(1000, seed=2)), rel=0.45)
    assert sample.square().mean(dim=(0, 2, 3)).numpy() == pytest.approx([1, 1], rel=0.06)
    assert mean_variance(drawn(spectrum, unipc, 5, rows=100)).max() < 0.5 * mean_variance(sample).min()


def test_members_keep_their_variance_on_a_domain_with_edges():
    """Smooth fields on a part of a larger torus, whose largest waves are longer than the part."""
    part = coloured(200, side=96)[..., :SIDE, :SIDE]
    moments = band_moments(part, periodic=False).mean(dim=0).double().numpy()
    known = Spectrum(moments, noise_moments((SIDE, SIDE), periodic=False))
    truth = part.square().mean(dim=(0, 2, 3)).numpy()
    sample = drawn(known, exponential, 7, rows=100, periodic=False)
    assert sample.square().mean(dim=(0, 2, 3)).numpy() == pytest.approx(truth, rel=0.15)
    assert mean_variance(sample) == pytest.approx(mean_variance(part), rel=0.35)
    # With the moments of noise on a torus, what edges do to noise would be taken for weather.
    unaware = drawn(Spectrum(moments), exponential, 7, rows=100, periodic=False)
    assert (unaware.square().mean(dim=(0, 2, 3)).numpy() > 1.5 * truth).all()


def test_the_number_of_evaluations_changes_nothing_for_normal_fields(spectrum):
    few, many = drawn(spectrum, exponential, 5, rows=4), drawn(spectrum, exponential, 50, rows=4)
    assert (few - many).square().mean().sqrt() < 0.05 * many.std()


def test_the_fields_of_a_sample_covary(sample):
    one, other = sample.transpose(0, 1).flatten(1)
    assert torch.corrcoef(torch.stack([one, other]))[0, 1] == pytest.approx(0.8, abs=0.05)


def test_white_residuals_have_no_linear_part():
    flow = LinearFlow(Spectrum.white(2), SCHEDULE, SCHEDULE.timesteps(4).tolist())
    x = torch.randn(1, 2, 16, 16)
    expected, carried = flow.split(x, 1, periodic=True)
    assert expected.abs().max() < 1e-5
    still = flow.advance(carried, torch.zeros_like(x), torch.zeros_like(x), 1, periodic=True)
    torch.testing.assert_close(still, x, atol=1e-4, rtol=0)


@pytest.mark.parametrize("periodic", [True, False])
def test_responses_are_what_bands_do_to_a_wave(periodic):
    across = torch.arange(32, dtype=torch.float64) + 0.5  # half a cell from the mirror
    y, x = (np.pi * count / 32 for count in (6, 10))
    wave = torch.cos(y * across)[:, None] * torch.cos(x * across)[None, :]
    for band, response in zip(
        bands(wave[None, None], periodic=periodic), responses(np.array(y), np.array(x)), strict=True
    ):
        torch.testing.assert_close(band, response * wave[None, None], atol=1e-12, rtol=0)
