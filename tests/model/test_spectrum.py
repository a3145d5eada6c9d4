"""Bands of a field, and the linear denoiser that follows from its spectrum, beside Wiener's own in Fourier space."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from convcast.model.spectrum import BANDS, SPACINGS, WHITE, Spectrum, band_power, bands

SIDE = 64


def red(rows: int, *, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Gaussian fields of variance 1 on a torus, whose power falls with wavenumber to the fourth, and that power."""
    wavenumber = torch.hypot(torch.fft.fftfreq(SIDE)[:, None] * SIDE, torch.fft.fftfreq(SIDE)[None, :] * SIDE)
    power = 1 / (1 + (wavenumber / 4) ** 4)
    power = power / power.mean()
    white = torch.randn(rows, 1, SIDE, SIDE, generator=torch.Generator().manual_seed(seed))
    return torch.fft.ifft2(torch.fft.fft2(white) * power.sqrt()).real, power


@pytest.mark.parametrize("periodic", [True, False])
def test_bands_add_up_to_the_field(periodic):
    field = torch.randn(2, 3, 20, 33)
    parts = bands(field, periodic=periodic)
    assert len(parts) == BANDS
    torch.testing.assert_close(sum(parts), field)


def test_white_noise_has_a_power_of_1_in_each_band():
    power = band_power(torch.randn(200, 2, SIDE, SIDE), periodic=True).mean(dim=0)
    np.testing.assert_allclose(power.numpy(), 1, atol=0.12)


def test_a_band_depends_on_nothing_beyond_its_smoothings():
    field = torch.randn(1, 1, SIDE, SIDE)
    changed = field.clone()
    changed[..., :16, :] += 5
    same = slice(16 + sum(SPACINGS), None)
    for one, other in zip(bands(field, periodic=False), bands(changed, periodic=False), strict=True):
        assert torch.equal(one[..., same, :], other[..., same, :])


@pytest.mark.parametrize("signal", [0.99, 0.8, 0.5, 0.2])
def test_the_denoiser_tells_most_of_what_wieners_does(signal):
    """Of the variance of v that a linear denoiser can tell, five bands tell two thirds or more."""
    x0, power = red(40, seed=1)
    a, b = torch.tensor(signal), torch.tensor((1 - signal**2) ** 0.5)
    noise = torch.randn(x0.shape, generator=torch.Generator().manual_seed(2))
    x, v = a * x0 + b * noise, a * noise - b * x0
    spectrum = Spectrum(band_power(red(40, seed=3)[0], periodic=True).mean(dim=0).double().numpy())
    ours = (v - spectrum.velocity(x, a, b, periodic=True)).square().mean()
    wiener = torch.fft.ifft2(torch.fft.fft2(x) * a * b * (1 - power) / (a**2 * power + b**2)).real
    best, untold = (v - wiener).square().mean(), v.square().mean()
    assert best < 0.7 * untold
    assert untold - ours > 0.6 * (untold - best)


def test_of_a_white_field_nothing_is_expected():
    x = torch.randn(2, 3, SIDE, SIDE)
    assert WHITE.velocity(x, torch.tensor(0.6), torch.tensor(0.8), periodic=True).abs().max() < 1e-5
