from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from convcast.model.features.correction import HIDDEN, Correction, CorrectionFit, convective
from convcast.model.features.regression import GROUND_AND_SUN
from convcast.variables import CAPE, REFC, T2M

VARIABLES = (REFC, T2M, CAPE)
PREDICTORS = GROUND_AND_SUN + 2 * len(VARIABLES)
LINEAR = np.zeros((PREDICTORS, 1))
LINEAR[GROUND_AND_SUN] = 0.5
"""A regression of which the targets below have the linear part."""
SEEN = convective(PREDICTORS, VARIABLES)
ONE, FORCED = (1, None), (3, 0)


def case(seed, law, points=800):
    """Predictors (predictor, point), and targets of which `law` is the nonlinear part."""
    rows = torch.randn(PREDICTORS, points, generator=torch.Generator().manual_seed(seed))
    refc, cape = rows[SEEN[0]], rows[SEEN[1]]
    return rows, (0.5 * rows[GROUND_AND_SUN] + law(refc, cape, seed))[None]


def fitted(law, cases=100):
    fit = CorrectionFit()
    for seed in range(cases):
        fit.add(*case(seed, law))
    return Correction({ONE: fit.solve(LINEAR, VARIABLES)})


def storm(refc, cape, seed):
    return torch.relu(refc) * torch.relu(cape)


def noise(refc, cape, seed):
    return torch.randn(refc.shape, generator=torch.Generator().manual_seed(10_000 + seed))


@pytest.fixture(scope="module")
def correction():
    return fitted(storm)


def errors(correction, law, seed=999):
    rows, target = case(seed, law)
    linear = torch.from_numpy(LINEAR.T).float() @ rows
    found = correction.predict(rows[SEEN][None, :, None], [ONE])[0, :, 0]
    return float((target - linear).square().mean()), float((target - linear - found).square().mean())


def test_it_sees_the_convective_fields_alone():
    assert [(i - GROUND_AND_SUN) % 3 for i in SEEN] == [0, 2, 0, 2]


def test_it_learns_a_product_that_no_linear_forecast_has(correction):
    before, after = errors(correction, storm)
    assert after < 0.2 * before


def test_it_vanishes_where_there_is_nothing_to_learn():
    before, after = errors(fitted(noise), noise)
    assert after < 1.03 * before


def test_missing_nothing_is_needed_of_a_single_case():
    assert np.isfinite(errors(fitted(storm, cases=1), storm)).all()


def test_the_same_points_give_the_same_bits_and_leave_torch_s_generator_alone(correction):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    again = fitted(storm)
    assert torch.equal(torch.rand(3), expected)
    for layer, other in zip(again.layers[ONE], correction.layers[ONE], strict=True):
        assert all(np.array_equal(a, b) for a, b in zip(layer, other, strict=True))


def test_rows_of_several_kinds_have_their_own_layers(correction):
    doubled = tuple((2 * weight, 2 * bias) if number == 2 else (weight, bias)
                    for number, (weight, bias) in enumerate(correction.layers[ONE]))  # fmt: skip
    both = Correction({ONE: correction.layers[ONE], FORCED: doubled})
    rows = torch.randn(2, len(SEEN), 4, 5, generator=torch.Generator().manual_seed(1))
    rows[1] = rows[0]
    first, second = both.predict(rows, [ONE, FORCED])
    torch.testing.assert_close(second, 2 * first)


def test_it_survives_json(correction):
    again = Correction.from_dict(json.loads(json.dumps(correction.to_dict())))
    again.check({ONE: len(SEEN)}, 1)
    for layer, other in zip(again.layers[ONE], correction.layers[ONE], strict=True):
        assert all(np.array_equal(a, b) for a, b in zip(layer, other, strict=True))


@pytest.mark.parametrize(
    ("predictors", "fields", "message"),
    [
        ({ONE: 5}, 1, "other sizes"),
        ({ONE: 4}, 2, "other sizes"),
        ({ONE: 4, FORCED: 4}, 1, "other kinds of cases"),
        ({}, 1, "other kinds of cases"),
    ],
)
def test_another_model_s_correction_is_refused(correction, predictors, fields, message):
    with pytest.raises(ValueError, match=message):
        correction.check(predictors, fields)


def test_numbers_that_are_not_finite_are_refused(correction):
    values = correction.to_dict()
    values["1"][0][1][0] = float("nan")
    with pytest.raises(ValueError, match="not finite"):
        Correction.from_dict(values).check({ONE: len(SEEN)}, 1)
    assert len(values["1"][0][1]) == HIDDEN
