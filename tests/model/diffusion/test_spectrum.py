"""Bands of a field, and the linear denoiser that follows from its spectrum, beside Wiener's own in Fourier space."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from convcast.model.diffusion.schedule import cosine
from convcast.model.diffusion.solvers import SOLVERS
from convcast.model.diffusion.spectrum import (
    BANDS,
    SPACINGS,
    Spectrum,
    band_moments,
    bands,
    coarse_emphasised,
    noise_moments,
)

SIDE = 64


def red(rows: int, *, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Gaussian fields of variance 1 on a torus, whose power falls with wavenumber to the fourth, and that power."""
    wavenumber = torch.hypot(torch.fft.fftfreq(SIDE)[:, None] * SIDE, torch.fft.fftfreq(SIDE)[None, :] * SIDE)
    power = 1 / (1 + (wavenumber / 4) ** 4)
    power = power / power.mean()
    white = torch.randn(rows, 1, SIDE, SIDE, generator=torch.Generator().manual_seed(seed))
    return torch.fft.ifft2(torch.fft.fft2(white) * power.sqrt()).real, power


def of(fields: torch.Tensor) -> Spectrum:
    return Spectrum(band_moments(fields, periodic=True).mean(dim=0).double().numpy())


@pytest.mark.parametrize("periodic", [True, False])
def test_bands_add_up_to_the_field(periodic):
    field = torch.randn(2, 3, 20, 33)
    parts = list(bands(field, periodic=periodic))
    assert len(parts) == BANDS
    torch.testing.assert_close(sum(parts), field)


def test_emphasis_keeps_the_variance_of_white_noise():
    """The mirror image at the edges of a domain adds some to the coarse bands of noise."""
    noise = torch.randn(300, 1, SIDE, SIDE, generator=torch.Generator().manual_seed(1))
    assert float(coarse_emphasised(noise, periodic=True).var()) == pytest.approx(1, rel=0.05)
    assert 1 < float(coarse_emphasised(noise, periodic=False).var()) < 1.5


def test_emphasis_amplifies_waves_the_more_the_longer_they_are():
    lengths = (2, 4, 8, 16, 32)
    waves = torch.stack([torch.cos(2 * np.pi * torch.arange(SIDE) / length) for length in lengths])
    fields = waves[:, None, None, :].expand(-1, 1, SIDE, -1)
    found = coarse_emphasised(fields, periodic=True).std(dim=(1, 2, 3)) / fields.std(dim=(1, 2, 3))
    assert found.tolist() == sorted(found)
    assert found[0] < 1 < found[2]
    assert found[-1] > 2


def test_the_moments_of_white_noise_are_those_of_the_bands_weights():
    moments = band_moments(torch.randn(200, 2, SIDE, SIDE), periodic=True).mean(dim=0)
    white = Spectrum.white(2).moments
    np.testing.assert_allclose(moments.numpy(), white, rtol=0.05, atol=4e-4)
    assert white.sum(axis=(1, 3)) == pytest.approx(np.eye(2))


@pytest.mark.parametrize(("shape", "periodic"), [((40, 24), False), ((40, 24), True), ((5, 40), False)])
def test_the_moments_of_white_noise_are_known_for_a_domain(shape, periodic):
    """Also where the domain is smaller than the largest spacing."""
    found = band_moments(torch.randn(4000, 1, *shape), periodic=periodic).mean(dim=0)[0, :, 0].double().numpy()
    expected = noise_moments(shape, periodic=periodic)
    np.testing.assert_allclose(found, expected, rtol=0.02, atol=0.03 * np.diag(expected).max())
    np.testing.assert_allclose(found[-1, -1], expected[-1, -1], rtol=0.15)


def test_a_domain_with_edges_goes_on_as_in_a_mirror():
    """A domain joined with its mirror images is a torus, and has the same bands."""
    field = torch.randn(1, 1, 12, 20, dtype=torch.float64)
    both = torch.cat([field, field.flip(-1)], dim=-1)
    torus = torch.cat([both, both.flip(-2)], dim=-2)
    for one, other in zip(bands(field, periodic=False), bands(torus, periodic=True), strict=True):
        torch.testing.assert_close(one, other[..., :12, :20])


def test_a_band_depends_on_nothing_beyond_its_smoothings():
    field = torch.randn(1, 1, SIDE, SIDE)
    changed = field.clone()
    changed[..., :16, :] += 5
    same = slice(16 + sum(SPACINGS), None)
    for one, other in zip(bands(field, periodic=False), bands(changed, periodic=False), strict=True):
        assert torch.equal(one[..., same, :], other[..., same, :])


@pytest.mark.parametrize("signal", [0.99, 0.8, 0.5, 0.2])
def test_the_denoiser_tells_most_of_what_wieners_does(signal):
    """The bands explain two thirds or more of the variance of v that a linear denoiser can explain."""
    x0, power = red(40, seed=1)
    a, b = signal, (1 - signal**2) ** 0.5
    noise = torch.randn(x0.shape, generator=torch.Generator().manual_seed(2))
    x, v = a * x0 + b * noise, a * noise - b * x0
    gains = of(red(40, seed=3)[0]).gains(np.array([a]), np.array([b]))[0, 0, 0]
    ours = (v - sum(g * part for g, part in zip(gains, bands(x, periodic=True), strict=True))).square().mean()
    wiener = torch.fft.ifft2(torch.fft.fft2(x) * a * b * (1 - power) / (a**2 * power + b**2)).real
    best, untold = (v - wiener).square().mean(), v.square().mean()
    assert best < 0.7 * untold
    assert untold - ours > 0.66 * (untold - best)


def test_no_other_gains_do_better():
    """They are those of least squares: a step in any direction leaves more of v."""
    x0, _ = red(20, seed=1)
    noise = torch.randn_like(x0)
    x, v = 0.8 * x0 + 0.6 * noise, 0.8 * noise - 0.6 * x0
    gains = of(x0).gains(np.array([0.8]), np.array([0.6]))[0, 0, 0]
    parts = torch.stack(list(bands(x, periodic=True))).double()

    def left(gains):
        return (v - torch.tensordot(torch.from_numpy(gains), parts, 1)).square().mean()

    for band in range(BANDS):
        for step in (-0.2, 0.2):
            assert left(gains + step * np.eye(BANDS)[band]) > left(gains)


def test_the_denoiser_alone_samples_fields_of_the_variance_it_was_told():
    """The probability flow of the linear denoiser, from white noise."""
    x0, _ = red(60, seed=1)
    schedule = cosine(200)
    gains = torch.from_numpy(of(x0).gains(schedule.signal, schedule.noise)).float()

    def predict_noise(x, t):
        a, b = schedule.signal[t], schedule.noise[t]
        return b * x + a * sum(g * part for g, part in zip(gains[t, 0, 0], bands(x, periodic=True), strict=True))

    start = torch.randn(x0.shape, generator=torch.Generator().manual_seed(5))
    drawn = SOLVERS["dpmpp_2m"](
        predict_noise, start, schedule=schedule, steps=40, clamp=lambda x: x, noise=lambda _: start
    )
    assert drawn.var().item() == pytest.approx(1, abs=0.15)


def related(rows: int, *, seed: int) -> torch.Tensor:
    """Three smooth fields of variance 1: two that are nearly the same, and one by itself."""
    same, own, apart = (red(rows, seed=10 * seed + number)[0] for number in range(3))
    return torch.cat([same, 0.95 * same + (1 - 0.95**2) ** 0.5 * own, apart], dim=1)


@pytest.mark.parametrize("steps", [10, 30])
def test_fields_that_vary_together_are_drawn_together(steps):
    """The fields have the given correlation and variance."""
    x0 = related(40, seed=1)
    schedule = cosine(200)
    gains = torch.from_numpy(of(x0).gains(schedule.signal, schedule.noise)).float()

    def predict_noise(x, t):
        parts = torch.stack(list(bands(x, periodic=True)), dim=2)
        return schedule.noise[t] * x + schedule.signal[t] * torch.einsum("ijb,rjbyx->riyx", gains[t], parts)

    start = torch.randn(x0.shape, generator=torch.Generator().manual_seed(5))
    drawn = SOLVERS["dpmpp_2m"](
        predict_noise, start, schedule=schedule, steps=steps, clamp=lambda x: x, noise=lambda _: start
    )
    correlations = np.corrcoef(drawn.transpose(0, 1).flatten(1).numpy())
    assert correlations[0, 1] == pytest.approx(0.95, abs=0.02)
    assert correlations[:2, 2] == pytest.approx([0, 0], abs=0.1)
    assert drawn.var(dim=(0, 2, 3)).numpy() == pytest.approx([1, 1, 1], abs=0.15)


def test_a_torus_without_the_largest_waves_has_gains_for_the_others():
    """A torus of 16 x 16 cells repeats itself after 16 cells, so it has no larger waves."""
    x0 = red(400, seed=0)[0][..., :16, :16]
    spectrum = Spectrum(
        band_moments(x0, periodic=True).mean(dim=0).double().numpy(), noise_moments((16, 16), periodic=True)
    )
    gains = spectrum.gains(np.array([0.8]), np.array([0.6]))[0]
    assert np.abs(gains[..., -4:-1]).max() < 1e-3
    assert np.abs(gains[..., :-4]).max() > 0.1


def test_independent_fields_are_judged_each_by_itself():
    alone = [of(red(20, seed=seed)[0]).moments[0, :, 0] for seed in (1, 2)]
    both = Spectrum.independent(np.stack(alone))
    signal, noise = np.array([0.9, 0.3]), np.array([0.19**0.5, 0.91**0.5])
    gains = both.gains(signal, noise)
    for number, moments in enumerate(alone):
        single = Spectrum.independent(moments[None]).gains(signal, noise)[:, 0, 0]
        np.testing.assert_allclose(gains[:, number, number], single, rtol=1e-6)
        np.testing.assert_allclose(gains[:, number, 1 - number], 0, atol=1e-9)


def test_nothing_is_expected_of_white_fields():
    schedule = cosine(50)
    np.testing.assert_allclose(Spectrum.white(3).gains(schedule.signal, schedule.noise), 0, atol=1e-9)


def test_moments_of_another_shape_are_refused():
    with pytest.raises(ValueError, match="shape"):
        Spectrum(np.ones((3, BANDS, BANDS)))
