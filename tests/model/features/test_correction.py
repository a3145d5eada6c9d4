from __future__ import annotations

import base64
import json
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from convcast.model.features.correction import (
    FOLDS,
    HIDDEN,
    Correction,
    CorrectionFit,
    _steps,
    fold_of,
    selected,
)
from convcast.model.features.regression import BY_WIND, PLACE_AND_TIME
from convcast.variables import CAPE, REFC, T2M

VARIABLES = (REFC, T2M, CAPE)
PREDICTORS = PLACE_AND_TIME + 2 * len(VARIABLES)
SEEN = selected(PREDICTORS, VARIABLES)
ONE, FORCED = (1, None), (3, 0)
SIDE = 12


def case(seed, law):
    """Predictors that the correction sees (predictor, y, x), and errors of the regression that follow a law."""
    rows = torch.randn(len(SEEN), SIDE, SIDE, generator=torch.Generator().manual_seed(seed))
    return rows, law(rows[0], rows[1], seed)[None]


def fitted(law, cases=60, *, half=False):
    fit = CorrectionFit([1.0], half=half)
    for seed in range(cases):
        fit.add(*case(seed, law), fold=seed % 2, periodic=True)
    return Correction({ONE: fit.solve()})


def storm(refc, cape, seed):
    return torch.relu(refc) * torch.relu(cape)


def neighbour(refc, cape, seed):
    return torch.relu(refc.roll(1, dims=0)) * torch.relu(cape)


def noise(refc, cape, seed):
    return torch.randn(refc.shape, generator=torch.Generator().manual_seed(10_000 + seed))


def incomplete_storm(refc, cape, seed):
    error = storm(refc, cape, seed)
    error[:7] = torch.nan
    return error


@pytest.fixture(scope="module")
def correction():
    return fitted(neighbour)


def errors(correction, law, seed=999):
    rows, error = case(seed, law)
    found = correction.predict(rows[None], [ONE], periodic=True)[0]
    return float(error.square().mean()), float((error - found).square().mean())


def test_it_sees_the_convective_fields_and_all_fields_as_the_wind_moves_them():
    assert [(i - PLACE_AND_TIME) % 3 for i in SEEN] == [0, 2, 0, 2]
    groups = BY_WIND + 2
    many = selected(PLACE_AND_TIME + groups * len(VARIABLES), VARIABLES)
    fields = [[(i - PLACE_AND_TIME) % 3 for i in many if (i - PLACE_AND_TIME) // 3 == group] for group in range(groups)]
    assert fields == [[0, 1, 2] if group == BY_WIND else [0, 2] for group in range(groups)]


def test_it_learns_a_product_with_a_neighbour_that_no_linear_forecast_has(correction):
    before, after = errors(correction, neighbour)
    assert after < 0.2 * before


def test_it_sees_across_the_edges_of_a_torus_alone(correction):
    rows, error = case(999, neighbour)
    found = correction.predict(rows[None], [ONE], periodic=False)[0]
    missed = (error - found).square()[0].mean(dim=1)
    assert missed[0] > 2 * missed[1:].mean()


def test_it_learns_as_well_in_half_precision_and_with_missing_targets():
    before, after = errors(fitted(incomplete_storm, half=True), storm)
    assert after < 0.2 * before


def test_it_vanishes_where_there_is_nothing_to_learn():
    before, after = errors(fitted(noise, cases=16), noise)
    assert after < 1.03 * before


def test_missing_nothing_is_needed_of_a_single_case():
    assert np.isfinite(errors(fitted(storm, cases=1), storm)).all()


def arrays(correction):
    return [part for layers in correction.networks[ONE] for layer in layers for part in layer]


def test_the_same_cases_give_the_same_bits_on_any_number_of_threads_and_leave_torch_s_generator_alone():
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    before = torch.get_num_threads()
    found = []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            found.append(arrays(fitted(storm, cases=8)))
            assert torch.get_num_threads() == threads
            with ThreadPoolExecutor(1) as later:
                assert later.submit(torch.get_num_threads).result() == threads
    finally:
        torch.set_num_threads(before)
    assert torch.equal(torch.rand(3), expected)
    assert all(np.array_equal(a, b) for a, b in zip(*found, strict=True))


@pytest.mark.parametrize(
    ("patches", "steps"), [(8, 24), (200, 600), (400, 600), (1600, 2000), (100_000, 2400)], ids=str
)
def test_steps_grow_with_the_patches_within_their_limits(patches, steps):
    assert _steps(patches) == steps


def test_rows_of_several_kinds_have_their_own_networks(correction):
    doubled = tuple((*before, (2 * weight, 2 * bias)) for *before, (weight, bias) in correction.networks[ONE])
    both = Correction({ONE: correction.networks[ONE], FORCED: doubled})
    rows = torch.randn(1, len(SEEN), 6, 9, generator=torch.Generator().manual_seed(1)).repeat(2, 1, 1, 1)
    first, second = both.predict(rows, [ONE, FORCED], periodic=False)
    torch.testing.assert_close(second, 2 * first)


def test_a_case_of_a_fold_has_the_network_that_was_not_fitted_to_it():
    """The first two folds have opposite laws, and the others no cases."""
    fit, laws = CorrectionFit([1.0]), (storm, lambda *case: -storm(*case))
    for seed in range(16):
        fit.add(*case(seed, laws[seed % 2]), fold=seed % 2, periodic=True)
    networks = fit.solve()
    assert len(networks) == FOLDS
    # Each network errs on its own fold, so nothing of the correction is applied.
    assert all(not layers[-1][0].any() for layers in networks)


def test_a_forecast_is_the_mean_of_the_networks(correction):
    rows = case(999, neighbour)[0][None]
    of_folds = [correction.predict(rows, [ONE], periodic=True, folds=[fold] * len(rows)) for fold in range(FOLDS)]
    assert not torch.equal(*of_folds[:2])
    torch.testing.assert_close(correction.predict(rows, [ONE], periodic=True), torch.stack(of_folds).mean(dim=0))


def test_folds_alternate_by_blocks_of_hours():
    first = np.datetime64("2024-05-01T00", "h")
    inits = first + np.arange(40 * 24)
    folds = [fold_of(init, first, inits[-1]) for init in inits]
    assert folds[: 72 * FOLDS] == [fold for fold in range(FOLDS) for _ in range(72)]
    assert folds[72 * FOLDS] == 0
    short = [fold_of(init, first, first + 11) for init in inits[:12]]
    assert set(short) == set(range(FOLDS))


def test_it_survives_json(correction):
    again = Correction.from_dict(json.loads(json.dumps(correction.to_dict())))
    again.check({ONE: len(SEEN)}, 1)
    assert all(np.array_equal(a, b) for a, b in zip(arrays(again), arrays(correction), strict=True))


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
    bias = np.zeros(HIDDEN, "<f2")
    bias[3] = np.nan
    values["1"][0][1][1]["float16"] = base64.b64encode(bias.tobytes()).decode()
    with pytest.raises(ValueError, match="not finite"):
        Correction.from_dict(values).check({ONE: len(SEEN)}, 1)


@pytest.mark.parametrize(
    "damage",
    [
        lambda entry: entry.pop("float16"),
        lambda entry: entry.update(float16="no base64!"),
        lambda entry: entry.update(float16=entry["float16"][4:]),
        lambda entry: entry.update(shape=[7]),
        lambda entry: entry.update(shape="24"),
    ],
)
def test_damaged_weights_are_refused(correction, damage):
    values = correction.to_dict()
    damage(values["1"][0][1][1])
    with pytest.raises((KeyError, TypeError, ValueError)):
        Correction.from_dict(values)


def test_a_missing_network_is_refused(correction):
    with pytest.raises(ValueError, match=f"1 networks, not {FOLDS}"):
        Correction({ONE: correction.networks[ONE][:1]}).check({ONE: len(SEEN)}, 1)
