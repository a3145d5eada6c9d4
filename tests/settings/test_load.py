"""A flag overrides a variable, a file and a preset, in this order, and unknown names are refused."""

import json

import numpy as np
import pytest

from convcast.errors import SettingsError
from convcast.notation import parse_hour
from convcast.settings.load import PRESETS, load_settings, nested


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_is_complete(preset):
    assert load_settings(preset=preset).preset == preset


def test_flag_over_variable_over_file_over_preset(tmp_path, monkeypatch):
    file = tmp_path / "convcast.toml"
    file.write_text('preset = "demo"\n[training]\nbatch = 5\nclip = 0.5\npatch = 32\n')
    monkeypatch.setenv("CONVCAST_TRAINING__BATCH", "6")
    monkeypatch.setenv("CONVCAST_TRAINING__CLIP", "0.6")

    training = load_settings(file, nested(["training.batch=7"])).training

    assert (training.batch, training.clip, training.patch) == (7, 0.6, 32)
    assert training.learning_rate == load_settings(preset="demo").training.learning_rate


def test_a_preset_flag_counts_before_the_file(tmp_path):
    file = tmp_path / "convcast.toml"
    file.write_text('preset = "demo"\n')

    assert load_settings(file, preset="phase2").model.leads == (1, 3, 6, 12)


@pytest.mark.parametrize(
    ("assignment", "advice"),
    [
        ("training.bach=3", "training.batch"),
        ("trainin.batch=3", "training"),
        ("dataset.fields=['refk']", "refc"),
        ("xyzzy.batch=1", "the top level has"),
    ],
)
def test_an_unknown_name_is_refused_with_a_suggestion(assignment, advice):
    with pytest.raises(SettingsError) as caught:
        load_settings(flags=nested([assignment]))

    assert advice in caught.value.advice


@pytest.mark.parametrize(
    "assignment", ["training.batch=0", "training.batch=many", "sampling.solver=magic", "archive.max_missing=2"]
)
def test_a_value_out_of_range_is_refused_by_name(assignment):
    with pytest.raises(SettingsError, match=assignment.split("=")[0]):
        load_settings(flags=nested([assignment]))


def test_a_mistyped_variable_is_refused(monkeypatch):
    monkeypatch.setenv("CONVCAST_TRAINING__BACH", "6")

    with pytest.raises(SettingsError, match="CONVCAST_TRAINING__BACH"):
        load_settings()


@pytest.mark.parametrize("text", ["[training\n", "training = = 3", "\x00"])
def test_unreadable_toml_is_refused_by_file(tmp_path, text):
    file = tmp_path / "convcast.toml"
    file.write_text(text)

    with pytest.raises(SettingsError, match="not readable TOML"):
        load_settings(file)


def test_toml_that_is_not_text_is_refused(tmp_path):
    file = tmp_path / "convcast.toml"
    file.write_bytes(b"\xff\xfe\x00")

    with pytest.raises(SettingsError, match="not readable TOML"):
        load_settings(file)


def test_an_assignment_needs_a_name_and_a_value():
    assert nested(["a.b=1", "a.c=word", "d=[1, 2]"]) == {"a": {"b": 1, "c": "word"}, "d": [1, 2]}
    with pytest.raises(SettingsError, match=r"group\.name=value"):
        nested(["training.batch"])


def test_the_digest_names_the_settings():
    assert load_settings().digest() == load_settings().digest()
    assert load_settings().digest() != load_settings(flags=nested(["training.seed=1"])).digest()


def test_infinite_retention_survives_json():
    settings = load_settings(flags={"retention": {"forecasts_days": float("inf")}})

    saved = json.loads(json.dumps(settings.model_dump(mode="json"), allow_nan=False))

    assert load_settings(flags=saved).retention == settings.retention
    assert load_settings(flags=saved).digest() == settings.digest()


def test_a_model_of_lead_0_does_not_predict_a_state_by_itself():
    with pytest.raises(SettingsError, match="a model of lead 0 perturbs states"):
        load_settings(flags={"model": {"leads": [0]}})

    flags = {"model": {"leads": [0], "reference": {"default": "direct"}}}
    assert load_settings(flags=flags).model.leads == (0,)


@pytest.mark.parametrize("value", [8, "8", "big", -256, 256.5])
def test_a_tile_that_cannot_be_is_refused_in_one_sentence(value):
    with pytest.raises(SettingsError, match=r"sampling\.tile = .* cannot be: it must be auto, or a number of cells"):
        load_settings(flags={"sampling": {"tile": value}}, preset="phase1")


@pytest.mark.parametrize(("value", "expected"), [("auto", "auto"), (256, 256), ("1799", 1799)])
def test_a_tile_is_auto_or_a_number_of_cells(value, expected):
    assert load_settings(flags={"sampling": {"tile": value}}, preset="phase1").sampling.tile == expected


@pytest.mark.parametrize("written", ["2024-03-28", "2024-03-28T00:00:00", '"2024-03-28T00"'])
def test_a_date_of_toml_is_read_with_and_without_quotes(tmp_path, written):
    file = tmp_path / "convcast.toml"
    file.write_text(f"[simulation]\nstart = {written}\n")

    assert parse_hour(load_settings(file).simulation.start) == np.datetime64("2024-03-28T00")


def test_a_date_that_cannot_be_is_refused_by_name():
    with pytest.raises(SettingsError, match=r"simulation\.start"):
        load_settings(flags=nested(["simulation.start=2024-03-28T00:30:00"]))
