from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch

from convcast.dataset import FieldStatistics, window
from convcast.errors import DamagedFileError, MissingInputError
from convcast.model.diffusion.spectrum import band_moments
from convcast.model.features import correction
from convcast.model.features.inputs import Inputs
from convcast.model.features.normalisation import Normalisation
from convcast.model.features.regression import (
    BY_WIND,
    PLACE_AND_TIME,
    Regression,
    RegressionFit,
    predictor_count,
    predictors,
)
from convcast.model.features.residual import Residuals

HISTORY = 4


@pytest.fixture(scope="module", autouse=True)
def _short_fit():
    """Fit the correction in few steps: its own tests are those of test_correction.py."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(correction, "MAX_STEPS", 2)
        yield


@pytest.fixture(scope="module")
def normalisation(dataset):
    return Normalisation.of(dataset, FieldStatistics.from_hours(dataset, dataset.hours))


@pytest.fixture(scope="module")
def case(dataset, normalisation):
    """Inputs and standardised target of the case of an hour, made once; not to be changed."""

    @cache
    def make(hour, lead, history):
        one = window(dataset, dataset.hours[hour], lead, history=history, with_target=True)
        target = torch.from_numpy(normalisation.standardise(one.target, periodic=True))[None]
        return Inputs.of([one], normalisation, periodic=True), target

    return lambda hour, lead=1, history=HISTORY: make(hour, lead, history)


def sizes(residuals, inputs):
    return residuals.scales(inputs, residuals.reference(inputs))


@pytest.fixture(scope="module")
def fit(case, normalisation):
    """Residuals of a model with these references, by field, fitted once."""

    @cache
    def make(leads, **names):
        cases = [case(hour, lead) for hour in range(HISTORY, 30) for lead in leads]
        return Residuals.fit(lambda: iter(cases), normalisation, names)

    return lambda leads=(1,), **names: make(leads, **names)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("direct", lambda i: torch.zeros_like(i.advected)),
        ("persistence", lambda i: i.last),
        ("advected", lambda i: i.advected),
    ],
)
def test_references_are_what_they_are_called(fit, case, name, expected):
    inputs, _ = case(20)
    torch.testing.assert_close(fit(default=name).reference(inputs), expected(inputs))


def test_the_predictors_by_the_wind_stand_where_the_correction_looks_for_them(case):
    inputs, _ = case(10)
    first = PLACE_AND_TIME + BY_WIND * inputs.fields
    assert torch.equal(predictors(inputs)[:, first : first + inputs.fields], inputs.advected_by_wind)


def test_each_field_may_have_a_reference_of_its_own(fit, case):
    inputs, _ = case(20)
    reference = fit(default="advected", t2m="persistence").reference(inputs)
    torch.testing.assert_close(reference[:, 1], inputs.last[:, 1])
    torch.testing.assert_close(reference[:, 2], inputs.advected[:, 2])


def test_sizes_are_as_large_at_every_lead_as_the_residuals_they_were_fitted_on(fit, case):
    residuals = fit(default="persistence", leads=(1, 3))
    for lead in (1, 3):
        squares = []
        for hour in range(HISTORY, 30):
            inputs, target = case(hour, lead)
            residual = target - residuals.reference(inputs)
            squares.append([part.square().mean(dim=(0, 2, 3)) for part in (residual, sizes(residuals, inputs))])
        of_residuals, of_sizes = (torch.stack(part).mean(dim=0) for part in zip(*squares, strict=True))
        torch.testing.assert_close(of_residuals, of_sizes, rtol=1e-4, atol=0)


def test_sizes_are_right_where_residuals_are_large(fit, case):
    """Most points are quiet, and their sizes are generous; storms must not make up for it."""
    residuals = fit(default="persistence")
    squares = torch.zeros(2)
    for hour in range(HISTORY, 30):
        inputs, target = case(hour)
        size = sizes(residuals, inputs)[:, 0]
        large = size > size.quantile(0.8)
        residual = (target - residuals.reference(inputs))[:, 0]
        squares += torch.stack([residual[large].square().mean(), size[large].square().mean()])
    assert 0.8 < squares[0] / squares[1] < 1.25


def test_a_field_without_residuals_has_finite_scales(case, normalisation):
    cases = []
    for hour in range(HISTORY, 12):
        inputs, target = case(hour)
        target = target.clone()
        target[:, 5] = inputs.last[:, 5]
        cases.append((inputs, target))
    residuals = Residuals.fit(lambda: iter(cases), normalisation, {"default": "persistence"})
    scales = sizes(residuals, cases[0][0])
    assert torch.isfinite(scales).all()
    assert (scales > 0).all()
    assert np.isfinite(residuals.spectra[1, None].moments).all()


def test_the_spectrum_is_that_of_residuals_in_their_own_units(fit, case):
    residuals = fit(default="persistence")
    found, squares = [], []
    for hour in range(HISTORY, 30):
        inputs, target = case(hour)
        residual = (target - residuals.reference(inputs)) / sizes(residuals, inputs)
        found.append(band_moments(residual, periodic=True)[0])
        squares.append(residual.square().mean(dim=(0, 2, 3)))
    mean = torch.stack(found).mean(dim=0).double().numpy()
    unit = np.sqrt(torch.stack(squares).mean(dim=0).double().numpy())
    expected = mean / np.multiply.outer(unit, unit)[:, None, :, None]
    np.testing.assert_allclose(residuals.spectra[1, None].moments, expected, rtol=1e-3, atol=1e-6)
    again = Residuals.from_dict(residuals.normalisation, residuals.to_dict())
    np.testing.assert_array_equal(again.spectra[1, None].moments, residuals.spectra[1, None].moments)


def test_a_spectrum_of_each_field_by_itself_is_refused(fit):
    residuals = fit(default="persistence")
    own = np.einsum("ibic->ibc", residuals.spectra[1, None].moments)
    damaged = residuals.to_dict()
    damaged["spectra"]["1"]["moments"] = own.tolist()
    with pytest.raises(DamagedFileError, match="moments have the shape"):
        Residuals.from_dict(residuals.normalisation, damaged)


@pytest.mark.parametrize("shape", [(7,), (7, 3), (6, 9)])
def test_a_spread_of_another_shape_is_refused(fit, shape):
    residuals = fit(default="persistence")
    with pytest.raises(DamagedFileError, match="spread at lead 1 has weights of shape"):
        Residuals.from_dict(residuals.normalisation, residuals.to_dict() | {"spread": {"1": np.ones(shape).tolist()}})


def test_weights_are_counted_by_the_frames_of_the_history(fit, case):
    """A model of one frame has fewer predictors, and its file is read too."""
    inputs, _ = case(20, history=1)
    cases = [case(hour, history=1) for hour in range(HISTORY, 30)]
    residuals = Residuals.fit(lambda: iter(cases), fit(default="direct").normalisation, {"default": "regression"})
    again = Residuals.from_dict(residuals.normalisation, residuals.to_dict())
    torch.testing.assert_close(sizes(again, inputs), sizes(residuals, inputs))
    torch.testing.assert_close(again.reference(inputs), residuals.reference(inputs))


@pytest.mark.parametrize("history", [1, 4])
def test_predictors_are_as_many_as_counted(case, history):
    inputs, _ = case(20, history=history)
    assert predictors(inputs).shape[1] == predictor_count(7, history)


def test_a_change_is_a_predictor_of_its_own(case):
    """The last frame advected twice has not changed, so the predictors of the change are all 0."""
    inputs, _ = case(20)
    still = replace(inputs, history_advected=inputs.advected.repeat(1, HISTORY, 1, 1))
    changes = slice(predictor_count(7, 1), None)
    assert not predictors(still)[:, changes].any()
    assert predictors(inputs)[:, changes].abs().amin(dim=1).max() > 0


def test_every_lead_has_its_own_scale(fit, case):
    residuals = fit(default="persistence", leads=(1, 3))
    assert list(residuals.spread) == [(1, None), (3, None)]
    scale = {lead: sizes(residuals, case(20, lead)[0]).mean(dim=(0, 2, 3)) for lead in (1, 3)}
    assert (scale[3] > scale[1]).all()


def test_every_lead_has_its_own_spectrum(fit):
    alone, both = fit(default="persistence", leads=(3,)), fit(default="persistence", leads=(1, 3))
    one, three = (both.spectra[lead, None].moments for lead in (1, 3))
    np.testing.assert_allclose(three, alone.spectra[3, None].moments, rtol=1e-6)
    assert np.abs(three - one).max() > 0.05
    assert both.spectrum_indices([(3, None), (1, None), (3, None)]).tolist() == [1, 0, 1]


def test_the_reference_is_within_the_fields_bounds(fit, case, normalisation):
    inputs, _ = case(20)
    residuals = fit(default="regression")
    wild = Regression({(1, None): 100 * residuals.regression.weights[1, None]})
    reference = replace(residuals, regression=wild).reference(inputs)
    low, high = normalisation.bounds()
    assert (reference.amin(dim=(0, 2, 3)).numpy() >= low - 1e-4).all()
    assert (reference.amax(dim=(0, 2, 3)).numpy() <= high + 1e-4).all()


def test_a_residual_at_its_bound_is_a_field_at_its_bound(fit, case, normalisation):
    inputs, _ = case(20)
    residuals = fit(default="advected")
    reference, scales = residuals.reference(inputs), sizes(residuals, inputs)
    low, _ = residuals.bounds(reference, scales)
    field = normalisation.restore((reference + low * scales).numpy())[0, 0]
    np.testing.assert_allclose(field, normalisation.variables[0].bounds[0], atol=1e-3)


def test_regression_finds_a_linear_law(case):
    weights = torch.randn(predictors(case(20)[0]).shape[1], 7, generator=torch.Generator().manual_seed(0))

    def law(inputs):
        return torch.einsum("rpyx,pv->rvyx", predictors(inputs), weights)

    inputs = [case(hour)[0] for hour in range(HISTORY, 30)]
    fitting = RegressionFit()
    for each in inputs:
        fitting.add((1, None), predictors(each)[0].flatten(1), law(each)[0].flatten(1))
    unseen = case(33)[0]
    found = fitting.solve().predict(predictors(unseen), unseen.kinds)
    torch.testing.assert_close(found, law(unseen), atol=0.15, rtol=0.01)


def test_missing_points_of_a_target_are_not_fitted(case, normalisation):
    inputs = [case(hour)[0] for hour in range(HISTORY, HISTORY + 6)]
    targets = [case(hour)[1] for hour in range(HISTORY, HISTORY + 6)]
    generator = torch.Generator().manual_seed(0)
    holed = [target.clone() for target in targets]
    for target in holed:
        target[:, :, torch.rand(target.shape[2:], generator=generator) < 0.2] = torch.nan

    def fitted(of):
        return Residuals.fit(lambda: iter(zip(inputs, of, strict=True)), normalisation, {"default": "regression"})

    whole, partial = fitted(targets), fitted(holed)
    blank = fitted([torch.nan_to_num(target) for target in holed])
    truth = whole.reference(inputs[0])
    error, careless = (torch.square(one.reference(inputs[0]) - truth).mean() for one in (partial, blank))
    assert error < 0.1 * careless
    assert np.isfinite(partial.spread[1, None]).all()
    ratio = sizes(partial, inputs[0]).mean() / sizes(whole, inputs[0]).mean()
    assert ratio == pytest.approx(1, abs=0.1)
    moments = np.einsum("ibic->i", partial.spectra[1, None].moments)
    assert moments == pytest.approx(np.ones(len(moments)), abs=0.05)


def test_targets_that_are_mostly_missing_are_refused(case, normalisation):
    inputs, target = case(HISTORY)
    target = torch.full_like(target, torch.nan)
    with pytest.raises(MissingInputError, match="lead of 1 h"):
        Residuals.fit(lambda: iter([(inputs, target)]), normalisation, {"default": "persistence"})


def test_regression_beats_advection(fit, case):
    """Test in weather that moves, turns and changes with the hour."""
    errors = {}
    for name in ("advected", "regression"):
        residuals = fit(default=name)
        errors[name] = np.mean([((t - residuals.reference(i)) ** 2).mean() for i, t in map(case, range(30, 38))])
    assert errors["regression"] < 0.7 * errors["advected"]


def test_it_survives_json(fit, case, normalisation):
    residuals = fit(default="regression")
    again = Residuals.from_dict(normalisation, residuals.to_dict())
    inputs, _ = case(20)
    torch.testing.assert_close(again.reference(inputs), residuals.reference(inputs))
    torch.testing.assert_close(sizes(again, inputs), sizes(residuals, inputs))
