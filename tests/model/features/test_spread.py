from __future__ import annotations

import numpy as np
import pytest
import torch

from convcast.model.features.advection import smooth
from convcast.model.features.inputs import Inputs
from convcast.model.features.spread import CONSTANT_SHARE, SpreadFit, feature_count, spread_features

FIELDS = 2
SIDE = 48
WEAKEST = np.array([0.2, np.nan])
"""The first field has a floor."""


def patchy(channels, generator):
    """White noise that is strong in some places and weak in others."""
    strength = smooth(torch.randn(1, 1, SIDE, SIDE, generator=generator), 15, periodic=True)
    strength = torch.exp(0.7 * strength / strength.std())
    return strength * torch.randn(1, channels, SIDE, SIDE, generator=generator)


def inputs_of(frames, *, seed=0):
    generator = torch.Generator().manual_seed(seed)
    frames_advected = torch.cat([patchy(FIELDS, generator) for _ in range(frames)], dim=1)
    none = torch.zeros(1, FIELDS, SIDE, SIDE)
    inflow = torch.rand(1, 2, SIDE, SIDE, generator=generator)
    steering = 20 * torch.randn(1, 2, SIDE, SIDE, generator=generator)
    return Inputs(
        (1,), False, frames_advected, frames_advected, none, steering, none, none, inflow, none, torch.zeros(1, 2)
    )


def found(inputs, weakest=WEAKEST, reference=None):
    """Features where the reference is the advected last frame, and the lowest value 1 below 0."""
    reference = inputs.advected if reference is None else reference
    return spread_features(inputs, reference, weakest=weakest, lowest=np.full(FIELDS, -1.0))


def features_of(frames, *, seed=0):
    return found(inputs_of(frames, seed=seed))[0]


def drawn(features, weights, seed):
    """Normal residuals whose variance is the sum of the features by weights (variable, feature)."""
    variance = torch.einsum("vfyx,vf->vyx", features, torch.from_numpy(weights).float())
    return variance.sqrt() * torch.randn(variance.shape, generator=torch.Generator().manual_seed(1000 + seed)), variance


@pytest.mark.parametrize("frames", [1, 4])
@pytest.mark.parametrize("weakest", [WEAKEST, np.array([np.nan, np.nan]), np.array([0.0, 0.5])])
def test_features_are_as_many_as_counted_and_none_is_negative(frames, weakest):
    features = found(inputs_of(frames), weakest)
    count = feature_count(frames, int(np.isfinite(weakest).sum()))
    assert features.shape == (1, FIELDS, count, SIDE, SIDE)
    assert (features >= 0).all()


def test_rounding_makes_no_variance_negative():
    """The variance of a constant is a difference of two equal numbers, each with its rounding error."""
    constant = 7.3 * torch.ones(1, FIELDS, SIDE, SIDE)
    squares = [
        smooth(constant**2, width, periodic=True) - smooth(constant, width, periodic=True) ** 2 for width in (3, 7)
    ]
    assert min(square.min() for square in squares) < 0
    none = torch.zeros(1, FIELDS, SIDE, SIDE)
    inputs = Inputs((1,), True, constant, constant, none, none, none, none, none, none, torch.zeros(1, 2))
    assert (found(inputs) >= 0).all()


def test_features_are_large_where_fields_vary_change_or_have_echoes():
    """Each kind of feature, of one field, at a place where something happens beside one where nothing does."""
    still = torch.zeros(1, 2 * FIELDS, SIDE, SIDE)
    still[:, 0, 8:10, 8:10] = 5  # the last frame of the field with a floor
    still[:, 3, 30, 30] = 5  # the frame before of the other field
    none = torch.zeros(1, FIELDS, SIDE, SIDE)
    inputs = Inputs((1,), True, still, still, none, none, none, none, none, none, torch.zeros(1, 2))
    features = found(inputs)[0]
    varies, changes, echoes, expected = slice(1, 4), slice(4, 7), slice(7, 9), slice(9, 11)
    assert (features[0, varies, 9, 9] > 0).all()
    assert not features[1, varies].any()
    assert (features[1, changes, 30, 30] > 0).all()
    assert not features[1, changes, 9, 9].any()
    for field in range(FIELDS):
        assert (features[field, echoes, 9, 9] > 0).all()
        assert not features[field, echoes, 30, 30].any()
    coming = -2 * torch.ones(1, FIELDS, SIDE, SIDE)
    coming[:, 0, 40, 40] = 3  # the reference expects an echo where there is none yet
    features = found(inputs, reference=coming)[0]
    for field in range(FIELDS):
        assert features[field, expected, 40, 40] == pytest.approx([4, 4 * 0.0204], rel=0.6)
        assert not features[field, expected, 9, 9].any()


def test_a_wind_that_turns_makes_the_component_across_it_uncertain():
    """The size of a component follows the squared wind along the other axis, whatever is fitted beside it."""
    truth = np.zeros((FIELDS, feature_count(1, 1)))
    truth[0, -1] = truth[1, -2] = 1.0
    fit = SpreadFit()
    for seed in range(40):
        features = features_of(1, seed=seed)
        fit.add(features, drawn(features, truth, seed)[0])
    weights = fit.solve()
    assert weights[0, -1] > 5 * weights[0, -2]
    assert weights[1, -2] > 5 * weights[1, -1]


def test_the_fit_recovers_a_known_variance():
    """Once the share of the mean variance that every point has is taken off."""
    truth = np.zeros((FIELDS, feature_count(4, 1)))
    truth[0, [0, 2, 7]] = 0.3, 0.5, 0.8
    truth[1, [0, 3, 5]] = 0.1, 0.4, 0.2
    fit, means = SpreadFit(), []
    for seed in range(60):
        features = features_of(4, seed=seed)
        residual, variance = drawn(features, truth, seed)
        fit.add(features, residual)
        means.append(residual.square().mean(dim=(1, 2)))
    weights = fit.solve()
    mean = torch.stack(means).mean(dim=0)[:, None, None]
    unseen = features_of(4, seed=100)
    _, variance = drawn(unseen, truth, 100)
    found = torch.einsum("vfyx,vf->vyx", unseen, torch.from_numpy(weights).float()) - CONSTANT_SHARE * mean
    assert variance.std() > 0.5 * variance.mean()
    assert ((found / (1 - CONSTANT_SHARE) / variance - 1).abs().mean(dim=(1, 2)) < 0.05).all()


def test_no_weight_is_negative_even_where_the_variance_falls_with_a_feature():
    fit = SpreadFit()
    for seed in range(5):
        features = features_of(4, seed=seed)
        noise = torch.randn(FIELDS, SIDE, SIDE, generator=torch.Generator().manual_seed(seed))
        fit.add(features, noise / (0.1 + features[:, 2]))
    weights = fit.solve()
    assert (weights >= 0).all()
    assert (weights[:, 0] > 0).all()


def test_a_residual_that_never_varies_has_weight_1_and_leaves_the_other_alone():
    fits = {"both": SpreadFit(), "one": SpreadFit()}
    for seed in range(3):
        features = features_of(1, seed=seed)
        features[1, 1:] = 0  # a field that never varies either
        residual = torch.randn(FIELDS, SIDE, SIDE, generator=torch.Generator().manual_seed(seed))
        fits["both"].add(features, residual)
        residual = residual.clone()
        residual[1] = 0
        fits["one"].add(features, residual)
    weights = fits["one"].solve()
    np.testing.assert_array_equal(weights[1], [1] + [0] * (feature_count(1, 1) - 1))
    np.testing.assert_array_equal(weights[0], fits["both"].solve()[0])


def test_features_that_are_the_same_do_not_stop_the_fit():
    """A reference without echo makes its features constant, and sums in float32 then have a negative eigenvalue."""
    fit = SpreadFit()
    generator = torch.Generator().manual_seed(0)
    for seed in range(3):
        inputs = inputs_of(4, seed=seed)
        features = found(inputs, reference=torch.zeros_like(inputs.advected))[0]
        fit.add(features, torch.randn(FIELDS, SIDE, SIDE, generator=generator))
    exact = torch.einsum("vfyx,vf->vyx", features, torch.from_numpy(fit.solve()).float())
    scale = torch.diagonal(fit._squares, dim1=1, dim2=2).sqrt()
    lowest = torch.linalg.eigh(fit._squares / scale[:, :, None] / scale[:, None]).eigenvectors[:, :, 0]
    fit._squares = fit._squares - 3e-6 * torch.einsum("vi,vj,vi,vj->vij", lowest, lowest, scale, scale)
    rounded = torch.einsum("vfyx,vf->vyx", features, torch.from_numpy(fit.solve()).float())
    torch.testing.assert_close(rounded, exact, rtol=0.02, atol=0)
