from __future__ import annotations

from convcast.model.training import preparation
from convcast.model.training.records.model_card import card


def test_the_card_says_what_the_model_is(dataset, make_settings):
    text = card("tiny", preparation.describe(dataset, make_settings()))
    assert text.startswith("# Model card: tiny")
    for fact in (
        "SIMULATED",
        "16 x 16 cells of 3 km",
        "refc t2m d2m u10 v10 cape cin",
        "2024-05-06T00",
        "cape regression",
    ):
        assert fact in text


def test_a_name_is_no_markup(dataset, make_settings):
    text = card("<img src=x>[a](b)|*c*", preparation.describe(dataset, make_settings()))
    assert text.startswith("# Model card: \\<img src=x\\>\\[a\\](b)\\|\\*c\\*\n")


def test_a_model_of_real_weather_is_not_called_simulated(make_dataset, make_settings):
    dataset = make_dataset(simulated=False, periodic=False)
    assert "SIMULATED" not in card("real", preparation.describe(dataset, make_settings()))
