"""HRRR's forecast forces a model: it improves the reference, is withheld at random, and the model runs without it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from convcast.archive import Forcing, HrrrForecast
from convcast.dataset import Dataset, HourStatus, window
from convcast.dataset.forcing.store import ForcingStore
from convcast.errors import DamagedFileError, MissingInputError
from convcast.model import Forecaster, train
from convcast.model.checkpoint import WEIGHTS, ModelDescription
from convcast.model.features.condition import channel_count
from convcast.model.features.inputs import Inputs, kind_name, parse_kind
from convcast.model.training import preparation
from convcast.model.training.records.model_card import card
from convcast.notation import HOUR

from .conftest import HOURS, SIDE, START, weather

LEAD, AGES = 3, (0, 2)
FORCING = Forcing((LEAD,), AGES)
MODEL = {"leads": [LEAD], "forcing": "hrrr", "forcing_ages": list(AGES)}


def forecast_fields(cycle: int, lead: int) -> np.ndarray:
    """The coming weather with a bias and noise that grow with the lead."""
    noise = np.random.default_rng([cycle + 100, lead]).normal(size=(7, SIDE, SIDE))
    spread = np.array([4, 3, 3, 2, 2, 150, 15])[:, None, None]
    return (weather(cycle + lead, SIDE) + (0.02 * lead * (1 + noise) * spread)).astype(np.float32)


@pytest.fixture(scope="module")
def forced_dataset(make_dataset):
    dataset = make_dataset()
    store = ForcingStore.prepare(dataset.path)
    every = [HrrrForecast(START + hour * HOUR, LEAD + age) for hour in range(HOURS) for age in AGES]
    for forecast in every:
        store.write(forecast, forecast_fields(int((forecast.cycle - START) / HOUR), forecast.lead))
    store.commit(HourStatus.OK, every, [])
    return Dataset.open(dataset.path)


@pytest.fixture(scope="module")
def settings(make_settings):
    return make_settings(model={**make_settings().model.model_dump(), **MODEL, "forcing_dropout": 0.4})


@pytest.fixture(scope="module")
def description(forced_dataset, settings):
    return preparation.describe(forced_dataset, settings)


def case(dataset, hour, age):
    init = START + hour * HOUR
    forcing = None if age is None else (FORCING.forecast(init, LEAD, age), age)
    return window(dataset, init, LEAD, with_target=True, forcing=forcing)


def test_kinds_have_names():
    for kind, name in (((3, None), "3"), ((12, 0), "12 forced 0"), ((1, 2), "1 forced 2")):
        assert kind_name(kind) == name
        assert parse_kind(name) == kind


def test_the_reference_is_output_statistics_of_the_forecast(forced_dataset, description):
    residuals = description.residuals
    assert set(residuals.spread) == {(LEAD, None), (LEAD, 0), (LEAD, 2)}
    errors = {}
    for age in (None, *AGES):
        squares = []
        for hour in range(8, 30, 3):
            made = case(forced_dataset, hour, age)
            inputs = Inputs.of([made], residuals.normalisation, periodic=True)
            target = torch.from_numpy(residuals.normalisation.standardise(made.target, periodic=True))[None]
            squares.append((target - residuals.reference(inputs)).square().mean(dim=(0, 2, 3)))
        errors[age] = torch.stack(squares).mean(dim=0).sqrt()
    assert (errors[0][1:5] < 0.5 * errors[None][1:5]).all()
    assert errors[0].mean() < errors[2].mean(), "the older forecast is worse"


def test_without_forcing_the_reference_is_that_of_a_model_that_never_had_it(forced_dataset, description, make_settings):
    never = preparation.describe(
        forced_dataset, make_settings(model={**make_settings().model.model_dump(), "leads": [LEAD]})
    )
    np.testing.assert_array_equal(
        description.residuals.regression.weights[LEAD, None], never.residuals.regression.weights[LEAD, None]
    )


def test_the_description_survives_its_file(description):
    again = ModelDescription.from_dict(description.to_dict())
    assert again.forcing == FORCING
    assert again.shapes == description.shapes
    np.testing.assert_array_equal(again.residuals.spread[LEAD, 2], description.residuals.spread[LEAD, 2])
    broken = description.to_dict()
    del broken["residuals"]["spread"][f"{LEAD} forced 2"]
    broken["residuals"]["regression"].pop(f"{LEAD} forced 2")
    broken["residuals"]["correction"].pop(f"{LEAD} forced 2")
    broken["residuals"]["spectra"].pop(f"{LEAD} forced 2")
    with pytest.raises((ValueError, DamagedFileError), match="no statistics"):
        ModelDescription.from_dict(broken)


def test_forcing_is_withheld_from_a_share_of_the_cases_and_drawn_from_all_ages(forced_dataset, description, settings):
    cases, _ = preparation.cases(forced_dataset, description, settings)
    made = [cases[number] for number in range(3 * len(cases))]
    fields = channel_count(7, 4)
    assert made[0].channels.shape[1] == fields + 8
    indicator = np.array([float(batch.channels[0, -1].float().mean()) for batch in made])
    ages = np.array([round(24 * float(batch.numbers[0, 3])) for batch in made])
    assert set(indicator) == {0.0, 1.0}
    assert 0.25 < (indicator == 0).mean() < 0.55
    assert set(ages[indicator == 1]) == set(AGES)
    assert set(ages[indicator == 0]) == {0}
    for batch, given in zip(made, indicator, strict=True):
        assert bool(batch.channels[0, fields:-1].any()) == bool(given)
    assert torch.equal(made[5].channels, cases[5].channels)


def test_validation_cases_have_the_newest_forcing(forced_dataset, description, settings):
    _, validator = preparation.cases(forced_dataset, description, settings)
    for batch in validator.batches:
        assert (batch.channels[:, -1] == 1).all()
        assert (batch.numbers[:, 3] == 0).all()


def test_training_needs_forecasts_of_every_age(dataset, forced_dataset, settings, make_settings):
    with pytest.raises(MissingInputError, match="no HRRR forecast of age 0 h for a lead of 3 h"):
        preparation.describe(dataset, settings)
    older = make_settings(model={**settings.model.model_dump(), "forcing_ages": [0, 1]})
    with pytest.raises(MissingInputError, match="no HRRR forecast of age 1 h"):
        preparation.describe(forced_dataset, older)


@pytest.fixture(scope="module")
def directory(forced_dataset, settings, tmp_path_factory):
    path = tmp_path_factory.mktemp("models") / "forced"
    list(train(forced_dataset, path, settings))
    return path


def test_a_training_that_stops_goes_on_to_the_same_weights(directory, forced_dataset, settings, tmp_path):
    run = train(forced_dataset, tmp_path / "other", settings)
    for progress in run:
        if progress.step == 4:
            break
    run.close()
    list(train(forced_dataset, tmp_path / "other", settings))
    ours, theirs = load_file(tmp_path / "other" / WEIGHTS), load_file(directory / WEIGHTS)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_one_model_forecasts_with_forcing_of_any_age_and_without(directory, forced_dataset, dataset):
    forecaster = Forecaster.load(directory, precision="float32")
    assert forecaster.forcing == FORCING
    conditions = {age: forecaster.condition([case(forced_dataset, 20, age)], periodic=True) for age in (None, *AGES)}
    unforced = forecaster.condition([case(dataset, 20, None)], periodic=True)
    assert torch.equal(conditions[None].reference, unforced.reference)
    assert torch.equal(conditions[None].encoded.features, unforced.encoded.features)
    truth = torch.from_numpy(
        forecaster.description.residuals.normalisation.standardise(case(dataset, 20, None).target, periodic=True)
    )
    error = {age: float((made.reference[0, 1] - truth[1]).abs().mean()) for age, made in conditions.items()}
    assert error[0] < error[None]
    assert not torch.equal(conditions[0].encoded.embedding, conditions[2].encoded.embedding)


def test_cases_prepared_together_keep_their_own_forcing(forced_dataset, description, settings, monkeypatch):
    """A GPU prepares the cases of a batch in one pass for each age of their forcing, in their order."""
    cases, _ = preparation.cases(forced_dataset, description, settings)
    monkeypatch.setattr(cases, "_kept", None)
    drawn = [cases.drawn(number) for number in range(8)]
    assert {case.age for case in drawn} == {None, *AGES}
    together = cases.together(drawn)
    for row, case in enumerate(drawn):
        alone = cases.prepared(case)
        torch.testing.assert_close(together.residuals[row], alone.residuals[0], rtol=1e-4, atol=1e-4)
        assert torch.equal(together.numbers[row], alone.numbers[0])


def test_cases_of_several_ages_are_not_mixed(directory, forced_dataset):
    forecaster = Forecaster.load(directory, precision="float32")
    with pytest.raises(ValueError, match="several ages"):
        forecaster.condition([case(forced_dataset, 20, age) for age in AGES], periodic=True)


def test_orientations_turn_the_forcing_with_the_case(forced_dataset):
    from convcast.model.training.orientation import Orientation

    made = case(forced_dataset, 20, 0)
    same = replace(made, target=made.forcing)
    turned = Orientation(rows=True, exchange=True).apply(same, forced_dataset.variables)
    np.testing.assert_array_equal(turned.forcing, turned.target)


def test_the_card_says_what_forces_and_that_its_errors_are_inherited(description, dataset, make_settings):
    text = card("forced", description)
    assert "| forced by | the simulated publisher's forecasts valid at the target time, from cycles 0, 2 h old" in text
    assert "withheld from 40% of the training samples" in text
    assert "It inherits the errors of the forecasts that force it" in text
    unforced = card("never", preparation.describe(dataset, make_settings()))
    assert "| forced by | nothing" in unforced
    assert "inherits" not in unforced
