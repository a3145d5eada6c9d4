"""The model that comes with the package is of this version, small, simulated, and has not seen the demo's test days."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from convcast.cli.common.curve import read_log
from convcast.cli.demo import CURVE, FEW_INITS, FIRST_HOURS, HALVED, PRETRAINED, _install
from convcast.errors import DamagedFileError
from convcast.model.checkpoint import CARD, LOG, WEIGHTS, ModelDescription, load_network
from convcast.model.half_precision import halve, restore
from convcast.model.tensors import read_tensors, write_tensors
from convcast.notation import parse_hours
from convcast.settings.load import load_settings

AGAIN = "run `python benchmarks/pretrain.py`"


@pytest.fixture(scope="module")
def description():
    return ModelDescription.read(PRETRAINED)


def test_it_is_small_and_installed_it_loads(description, tmp_path):
    model = _install(tmp_path)
    network, _ = load_network(model, ModelDescription.read(model))

    assert all(bool(np.isfinite(weights.detach().numpy()).all()) for weights in network.parameters()), AGAIN
    assert (PRETRAINED / HALVED).stat().st_size < 4_000_000
    assert sum(path.stat().st_size for path in PRETRAINED.iterdir()) < 6_000_000
    before = (model / WEIGHTS).stat().st_mtime_ns
    assert (_install(tmp_path) / WEIGHTS).stat().st_mtime_ns == before, "it is copied once"


def test_it_is_of_the_demo_and_says_that_it_is_simulated(description):
    assert description.simulated
    assert "SIMULATED" in (PRETRAINED / CARD).read_text()
    assert description.model == load_settings(preset="demo").model, AGAIN


def test_it_has_not_seen_the_days_that_the_demo_forecasts(description):
    forecast = parse_hours(FEW_INITS)

    assert description.training_hours[1] < forecast[0]
    assert np.datetime64(FIRST_HOURS[True][0], "h") < forecast[0] - np.timedelta64(description.model.history, "h")


def test_its_training_is_shown(description):
    reports = read_log(PRETRAINED / LOG)

    assert reports[0]["step"] == 1
    assert reports[-1]["step"] == description.trained
    # The first report is of a single step, so its loss is that of one batch.
    assert reports[-1]["loss"] < reports[1]["loss"]
    assert (PRETRAINED / CURVE).read_bytes().startswith(b"\x89PNG")


def test_half_precision_moves_weights_little_and_damage_is_named(tmp_path):
    weights = {"a": torch.linspace(-2, 2, 100), "b": torch.zeros(3, 2)}
    write_tensors(tmp_path / "whole", weights, {"step": 3})
    halve(tmp_path / "whole", tmp_path / "half")
    restore(tmp_path / "half", tmp_path / "again")

    again, facts = read_tensors(tmp_path / "again")
    assert facts == {"step": 3}
    assert (tmp_path / "half").stat().st_size < (tmp_path / "whole").stat().st_size
    torch.testing.assert_close(again, weights, rtol=5e-4, atol=1e-6)
    (tmp_path / "half").write_bytes(b"x")
    with pytest.raises(DamagedFileError, match="missing or damaged"):
        restore(tmp_path / "half", tmp_path / "again")
