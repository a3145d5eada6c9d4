from __future__ import annotations

import numpy as np
import pytest
import torch

from convcast.model.diffusion.noise_prediction import Diffusion, stratified_steps
from convcast.model.diffusion.spectrum import Spectrum, band_moments
from convcast.model.network.network import Encoded


class Answer:
    """Stands in for the network: says what it is told to, whatever it is asked."""

    def __init__(self, out):
        self.out = out

    def __call__(self, x, level, encoded, *, periodic):
        self.seen = x
        return self.out.expand_as(x)


ONE = torch.zeros(1, dtype=torch.int64)
"""Index of the only spectrum."""


def encoded(mean, scale):
    rows = len(mean)
    return Encoded(torch.zeros(rows, 1, 1, 1), torch.zeros(rows, 1), mean, scale)


def smooth_fields(rows, fields):
    smoothed = torch.nn.functional.avg_pool2d(torch.randn(rows, fields, 72, 72), 9, stride=1)
    return smoothed / smoothed.std()


def of(fields):
    return Spectrum(band_moments(fields, periodic=False).mean(0).double().numpy())


@pytest.fixture
def diffusion(make_settings):
    """This parameterisation uses the encoder's guess; the others are special cases of it."""
    return Diffusion(make_settings(model={"parameterisation": "preconditioned"}).model, [Spectrum.white(3)])


def test_a_silent_network_predicts_the_noise_of_the_guess(diffusion):
    """F = 0 must be the conditional mean of a normal residual: sampling it gives the guess."""
    mean, scale = torch.full((1, 1, 1, 1), 0.4), torch.full((1, 1, 1, 1), 0.2)
    x0 = 0.4 + 0.2 * torch.randn(200_000, 1, 1, 1)
    noise = torch.randn_like(x0)
    for t in (0, 10, 25, 49):
        a, b = diffusion.signal[t], diffusion.noise[t]
        x = a * x0 + b * noise
        predicted = diffusion.predict_noise(
            Answer(torch.zeros(1)), x, torch.tensor([t]), encoded(mean, scale), spectra=ONE, periodic=True
        )
        slope = (noise * (x - x.mean())).mean() / x.var()
        torch.testing.assert_close(predicted, slope * (x - a * 0.4), atol=0.03, rtol=0)


def test_without_a_guess_it_is_the_preconditioning_of_the_design(diffusion):
    x, out = torch.randn(3, 2, 4, 4), torch.randn(3, 2, 4, 4)
    t = torch.tensor([1, 20, 48])
    predicted = diffusion.predict_noise(
        Answer(out), x, t, encoded(torch.zeros(1, 2, 4, 4), torch.ones(1, 2, 4, 4)), spectra=ONE, periodic=True
    )
    a, b = diffusion.signal[t, None, None, None], diffusion.noise[t, None, None, None]
    torch.testing.assert_close(predicted, b * x + a * out)


def test_the_network_sees_states_of_variance_1_at_every_noise_level(diffusion):
    mean, scale = torch.full((1, 1, 1, 1), -1.0), torch.full((1, 1, 1, 1), 0.3)
    x0 = -1 + 0.3 * torch.randn(100_000, 1, 1, 1)
    for t in (0, 25, 49):
        answer = Answer(torch.zeros(1))
        x = diffusion.signal[t] * x0 + diffusion.noise[t] * torch.randn_like(x0)
        diffusion.predict_noise(answer, x, torch.tensor([t]), encoded(mean, scale), spectra=ONE, periodic=True)
        assert answer.seen.std().item() == pytest.approx(1, abs=0.02)
        assert answer.seen.mean().item() == pytest.approx(0, abs=0.02)


@pytest.mark.parametrize("parameterisation", ["spectral", "velocity", "preconditioned", "raw"])
def test_the_loss_is_that_of_the_noise(make_settings, parameterisation):
    """‖ε - ε̂‖² / ᾱ, and ‖ε - ε̂‖² for raw, at noise levels where dividing by ᾱ is harmless."""
    spectrum = of(smooth_fields(20, 3))
    diffusion = Diffusion(make_settings(model={"parameterisation": parameterisation}).model, [spectrum])
    x0, noise, out = torch.randn(2, 3, 8, 8), torch.randn(2, 3, 8, 8), torch.randn(2, 3, 8, 8)
    t = torch.tensor([5, 30])
    known = encoded(0.3 * torch.randn(2, 3, 8, 8), 0.2 + torch.rand(2, 3, 8, 8))
    blank = torch.zeros(2, 1, 1, 1, dtype=torch.bool)
    loss = diffusion.losses(Answer(out), x0, noise, t, known, blank, spectra=ONE, periodic=True).noise
    a, b = diffusion.signal[t, None, None, None], diffusion.noise[t, None, None, None]
    predicted = diffusion.predict_noise(Answer(out), a * x0 + b * noise, t, known, spectra=ONE, periodic=True)
    weight = 1 if parameterisation == "raw" else a**2
    torch.testing.assert_close(loss, ((noise - predicted) ** 2 / weight).mean(dim=(2, 3)), rtol=1e-3, atol=1e-5)


def test_a_coarse_error_costs_more_than_a_fine_one_where_all_scales_count_alike(make_settings):
    """An error of a wave of 16 cells and one of two cells cost the same in the plain loss."""
    diffusion = Diffusion(make_settings(model={"parameterisation": "raw"}).model, [Spectrum.white(1)])
    x, nothing = torch.arange(32), torch.zeros(1, 1, 32, 32)
    known = encoded(nothing, torch.ones(1, 1, 32, 32))
    costs = {}
    for length in (16, 2):
        wave = torch.cos(2 * np.pi * x / length).expand(1, 1, 32, 32)
        blank, t = torch.zeros(1, 1, 1, 1, dtype=torch.bool), torch.tensor([20])
        costs[length] = diffusion.losses(
            Answer(wave / wave.std()), nothing, nothing, t, known, blank, spectra=ONE, periodic=True
        )
    assert costs[16].noise.item() == pytest.approx(costs[2].noise.item(), rel=1e-3)
    assert costs[16].coarse.item() > 3 * costs[16].noise.item()
    assert costs[2].coarse.item() < costs[2].noise.item()


def test_velocity_is_v_prediction_from_the_noise_side(make_settings):
    """ε̂ = b x + a F (Salimans & Ho 2022), whatever the encoder guesses."""
    diffusion = Diffusion(make_settings(model={"parameterisation": "velocity"}).model, [Spectrum.white(3)])
    x, out, t = torch.randn(2, 3, 4, 4), torch.randn(2, 3, 4, 4), torch.tensor([5, 30])
    known = encoded(torch.randn(2, 3, 4, 4), 0.2 + torch.rand(2, 3, 4, 4))
    a, b = diffusion.signal[t, None, None, None], diffusion.noise[t, None, None, None]
    predicted = diffusion.predict_noise(Answer(out), x, t, known, spectra=ONE, periodic=True)
    torch.testing.assert_close(predicted, b * x + a * out)


def test_a_silent_network_leaves_what_the_spectrum_cannot_tell(make_settings):
    """Spectral prediction removes most of the noise that velocity leaves in a smooth field, before any training."""
    smooth = smooth_fields(16, 1)
    spectrum = of(smooth)
    noise, t = torch.randn_like(smooth), torch.tensor([25])
    left = {}
    for name in ("velocity", "spectral"):
        diffusion = Diffusion(make_settings(model={"parameterisation": name}).model, [spectrum])
        x = diffusion.signal[25] * smooth + diffusion.noise[25] * noise
        known = encoded(torch.zeros_like(smooth), torch.ones_like(smooth))
        found = diffusion.predict_noise(Answer(torch.zeros(1)), x, t, known, spectra=ONE, periodic=False)
        left[name] = float((found - noise).square().mean())
    assert left["spectral"] < 0.4 * left["velocity"]


def test_each_row_is_denoised_by_the_spectrum_of_its_own_kind(make_settings):
    settings, smooth = make_settings(model={"parameterisation": "spectral"}).model, of(smooth_fields(16, 1))
    x, t = torch.randn(2, 1, 16, 16), torch.tensor([25, 25])
    known = encoded(torch.zeros_like(x), torch.ones_like(x))

    def predicted(spectra, indices):
        process = Diffusion(settings, spectra)
        return process.predict_noise(Answer(torch.zeros(1)), x, t, known, spectra=torch.tensor(indices), periodic=False)

    both = predicted([Spectrum.white(1), smooth], [0, 1])
    torch.testing.assert_close(both[:1], predicted([Spectrum.white(1)], [0, 0])[:1])
    torch.testing.assert_close(both[1:], predicted([smooth], [0, 0])[1:])
    assert (both[1:] - predicted([Spectrum.white(1)], [0, 0])[1:]).square().mean() > 0.1


def test_the_loss_is_finite_where_no_signal_is_left(diffusion):
    x0, noise = torch.randn(1, 1, 4, 4), torch.randn(1, 1, 4, 4)
    known = encoded(torch.zeros(1, 1, 4, 4), torch.ones(1, 1, 4, 4))
    blank = torch.zeros(1, 1, 1, 1, dtype=torch.bool)
    loss = diffusion.losses(
        Answer(torch.zeros(1)), x0, noise, torch.tensor([49]), known, blank, spectra=ONE, periodic=True
    ).noise
    assert loss.item() == pytest.approx(x0.square().mean().item(), rel=1e-2)


def test_a_missing_residual_adds_no_loss(diffusion):
    """Neither its own loss, nor through its neighbours' state."""
    x0, noise, t = torch.randn(1, 1, 4, 4), torch.randn(1, 1, 4, 4), torch.tensor([20])
    known = encoded(torch.zeros(1, 1, 4, 4), torch.ones(1, 1, 4, 4))
    blank = torch.zeros(1, 1, 1, 1, dtype=torch.bool)
    hole = x0.clone()
    hole[0, 0, 1, 2] = torch.nan
    x0[0, 0, 1, 2] = 0
    whole, parted = (
        diffusion.losses(Answer(torch.zeros(1)), each, noise, t, known, blank, spectra=ONE, periodic=True)
        for each in (x0, hole)
    )
    own = (diffusion.signal[20] * noise[0, 0, 1, 2]) ** 2 / 16  # of F* = a ε - b x0 at this point, where x0 is 0
    torch.testing.assert_close(whole.noise[0, 0] - parted.noise[0, 0], own)


def test_cases_are_noised_several_times_in_their_order(diffusion):
    """Rows of one case share its guess: a perfect guess leaves no loss but the noise's own."""
    x0 = torch.tensor([1.0, -2.0])[:, None, None, None].expand(2, 1, 4, 4)
    noise, t = torch.randn(6, 1, 4, 4), torch.tensor([3, 20, 45] * 2)
    blank = torch.zeros(6, 1, 1, 1, dtype=torch.bool)
    losses = diffusion.losses(
        Answer(torch.zeros(1)), x0, noise, t, encoded(x0, torch.full_like(x0, 1e-3)), blank, spectra=ONE, periodic=True
    )
    assert losses.noise.shape == (6, 1)
    assert losses.noise.max() < 1e-4
    torch.testing.assert_close(losses.mean, torch.zeros(2, 1))


def test_noise_does_not_teach_the_guess(diffusion):
    mean = torch.zeros(1, 1, 4, 4, requires_grad=True)
    scale = torch.ones(1, 1, 4, 4, requires_grad=True)
    blank = torch.zeros(1, 1, 1, 1, dtype=torch.bool)
    x0 = torch.full((1, 1, 4, 4), 3.0)
    losses = diffusion.losses(
        Answer(torch.ones(1)),
        x0,
        torch.randn_like(x0),
        torch.tensor([9]),
        encoded(mean, scale),
        blank,
        spectra=ONE,
        periodic=True,
    )
    losses.scale.sum().backward()
    assert mean.grad is None
    assert scale.grad.mean().item() == pytest.approx((1 - 9) / 16)


def test_stratified_steps_visit_every_part_once():
    steps = stratified_steps(10, 50)
    assert sorted((steps // 5).tolist()) == list(range(10))


def test_stratified_steps_are_within_the_process():
    steps = torch.cat([stratified_steps(7, 50) for _ in range(200)])
    assert steps.min() == 0
    assert steps.max() == 49
