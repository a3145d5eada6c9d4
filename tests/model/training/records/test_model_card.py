from __future__ import annotations

from dataclasses import replace

import pytest

from convcast.model.training import preparation
from convcast.model.training.records.model_card import card, speed
from convcast.operations.speed.measure import Measurement
from convcast.operations.speed.report import write
from convcast.settings import DEFAULT_EVALUATIONS


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


def test_the_card_quotes_a_measured_gpu(dataset, make_settings, tmp_path):
    description = preparation.describe(dataset, make_settings())
    preset = description.settings["preset"]

    def member(preset, how, seconds):
        values = {f"s a member, {DEFAULT_EVALUATIONS} evaluations": seconds, "s a member, 10 evaluations": 0.1}
        return Measurement("member", preset, how, values)

    rows = [
        Measurement("training", preset, "channels last", {"s a step": 0.2}),
        member(preset, "tiles", 3.14),
        member(preset, "one piece", 1.57),
        member("another", "one piece", 0.5),
        Measurement("member", preset, "x", note="no time was left"),
    ]
    write(tmp_path, {"device": "Card|9", "torch": "2", "cuda": "12", "convcast": "0", "GB": 24.0}, rows)
    row = f"| speed on a GPU | Card\\|9: 1.6 s a member over CONUS in one piece with preset {preset} |\n"
    assert row in card("tiny", description, speed(tmp_path, description))


@pytest.mark.parametrize("text", [None, "{", "[]", '{"rows": [], "device": "x"}', '{"rows": [{"name": 3}]}'])
def test_without_measurements_the_card_says_so(dataset, make_settings, tmp_path, text):
    description = preparation.describe(dataset, make_settings())
    if text is not None:
        (tmp_path / "gpu.json").write_text(text)
    assert "| speed on a GPU | not measured; `" in card("tiny", description, speed(tmp_path, description))


def test_a_name_is_no_markup(dataset, make_settings):
    text = card("<img src=x>[a](b)|*c*", preparation.describe(dataset, make_settings()))
    assert text.startswith("# Model card: \\<img src=x\\>\\[a\\](b)\\|\\*c\\*\n")


def test_a_model_of_real_weather_is_not_called_simulated(dataset, make_settings):
    description = replace(preparation.describe(dataset, make_settings()), simulated=False)
    assert "SIMULATED" not in card("real", description)
