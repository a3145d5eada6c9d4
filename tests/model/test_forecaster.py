from __future__ import annotations

import json
import shutil
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from convcast.dataset import window
from convcast.errors import DamagedFileError, SettingsError
from convcast.model import SOLVERS, Forecaster, checkpoint, train
from convcast.model.checkpoint import DESCRIPTION, WEIGHTS, ModelDescription, load_network
from convcast.model.diffusion.spectrum import Spectrum
from convcast.model.tensors import digest, read_tensors, write_tensors
from convcast.settings import SamplingSettings


@pytest.fixture(scope="module")
def directory(tmp_path_factory, dataset, make_settings):
    path = tmp_path_factory.mktemp("models") / "tiny"
    list(train(dataset, path, make_settings()))
    return path


@pytest.fixture(scope="module")
def forecaster(directory):
    return Forecaster.load(directory, precision="float32")


@pytest.fixture(scope="module")
def condition(forecaster, dataset):
    return forecaster.condition([window(dataset, dataset.hours[30], 1)], periodic=True)


def copy(directory, to):
    return shutil.copytree(directory, to)


def test_it_knows_what_it_was_trained_on(forecaster, directory, dataset):
    assert forecaster.variables == dataset.variables
    assert forecaster.leads == (1,)
    assert forecaster.description.spacing == 3000
    assert forecaster.description.simulated is True
    assert forecaster.description.analysis_lead == 0
    assert forecaster.schedule.steps == 50
    assert forecaster.sha256 == digest(load_file(directory / WEIGHTS))


@pytest.mark.parametrize("solver", list(SOLVERS))
def test_every_solver_draws_fields_within_bounds(forecaster, condition, solver):
    x0 = forecaster.solve(
        lambda x, t: forecaster.predict_noise(x, t, condition),
        torch.randn(3, *condition.shape),
        settings=SamplingSettings(solver=solver, steps=6),
        kind=condition.kind,
        periodic=True,
        clamp=lambda x0: forecaster.clamp(x0, condition),
        noise=lambda k: torch.randn(3, *condition.shape),
    )
    fields = forecaster.fields(x0, condition)
    assert fields.shape == (3, 7, 16, 16)
    assert fields.dtype == np.float32
    for i, variable in enumerate(forecaster.variables):
        assert variable.bounds[0] <= fields[:, i].min()
        assert fields[:, i].max() <= variable.bounds[1]


def test_no_residual_is_the_reference(forecaster, condition, dataset):
    from convcast.model.features.inputs import Inputs

    residuals = forecaster.description.residuals
    inputs = Inputs.of([window(dataset, dataset.hours[30], 1)], residuals.normalisation, periodic=True)
    expected = residuals.normalisation.restore(residuals.reference(inputs).numpy())
    np.testing.assert_allclose(forecaster.fields(torch.zeros(1, 7, 16, 16), condition), expected, rtol=1e-4, atol=1e-3)


def test_members_are_the_same_alone_and_together(forecaster, condition):
    x = torch.randn(4, *condition.shape)
    together = forecaster.predict_noise(x, 20, condition)
    torch.testing.assert_close(forecaster.predict_noise(x[2:3], 20, condition), together[2:3], atol=1e-5, rtol=1e-4)


def test_guidance_mixes_what_is_known_with_what_is_not(forecaster, condition):
    x = torch.randn(2, *condition.shape)
    known, blank, half = (forecaster.predict_noise(x, 20, condition, guidance=w) for w in (1.0, 0.0, 0.5))
    torch.testing.assert_close(half, (known + blank) / 2, atol=1e-5, rtol=1e-4)
    assert (known - blank).abs().max() > 1e-3


def test_without_a_condition_nothing_is_known(forecaster, dataset):
    x = torch.randn(2, 7, 16, 16)
    blanks = [
        forecaster.predict_noise(
            x, 20, forecaster.condition([window(dataset, dataset.hours[hour], 1)], periodic=True), guidance=0.0
        )
        for hour in (10, 30)
    ]
    torch.testing.assert_close(*blanks)


def test_bfloat16_is_close_to_float32(directory, forecaster, condition):
    fast = Forecaster.load(directory)
    x = torch.randn(2, *condition.shape)
    difference = fast.predict_noise(x, 20, condition) - forecaster.predict_noise(x, 20, condition)
    assert difference.dtype == torch.float32
    assert difference.abs().max() < 0.05


def test_a_lead_it_was_not_trained_for_is_refused(forecaster, dataset):
    with pytest.raises(SettingsError, match="lead of 3 hours") as caught:
        forecaster.condition([window(dataset, dataset.hours[20], 3)], periodic=True)
    assert "--leads 1" in caught.value.advice


def test_another_history_is_refused(forecaster, dataset):
    with pytest.raises(DamagedFileError, match="4 hours of 7 fields, not 3 of 7"):
        forecaster.condition([window(dataset, dataset.hours[20], 1, history=3)], periodic=True)


def test_no_model_is_said_plainly(tmp_path):
    with pytest.raises(SettingsError, match="there is no model") as caught:
        Forecaster.load(tmp_path / "absent")
    assert "convcast train" in caught.value.advice


def test_damaged_weights_are_refused(directory, tmp_path):
    broken = copy(directory, tmp_path / "broken")
    (broken / WEIGHTS).write_bytes((broken / WEIGHTS).read_bytes()[:1000])
    with pytest.raises(DamagedFileError, match=WEIGHTS):
        Forecaster.load(broken)


def test_weights_of_another_program_are_refused(directory, tmp_path):
    foreign = copy(directory, tmp_path / "foreign")
    save_file(load_file(directory / WEIGHTS), foreign / WEIGHTS)
    with pytest.raises(DamagedFileError, match="not written by convcast"):
        Forecaster.load(foreign)


def test_a_model_of_another_version_is_named_as_such(directory, tmp_path):
    broken = copy(directory, tmp_path / "older")
    values = json.loads((broken / DESCRIPTION).read_text()) | {"format": "convcast model 1"}
    (broken / DESCRIPTION).write_text(json.dumps(values))
    with pytest.raises(DamagedFileError, match="by another version of convcast"):
        Forecaster.load(broken)


def test_weights_of_another_network_are_refused(directory, tmp_path):
    other = copy(directory, tmp_path / "other")
    description = json.loads((other / DESCRIPTION).read_text())
    description["model"]["base"] = 16
    (other / DESCRIPTION).write_text(json.dumps(description))
    with pytest.raises(DamagedFileError, match="another network"):
        Forecaster.load(other)


@pytest.mark.parametrize("spoilt", ["format", "normalisation", "residuals", "fields", "grid"])
def test_a_damaged_description_is_refused(directory, tmp_path, spoilt):
    broken = copy(directory, tmp_path / "broken")
    description = json.loads((broken / DESCRIPTION).read_text())
    description[spoilt] = ["nonsense"]
    (broken / DESCRIPTION).write_text(json.dumps(description))
    with pytest.raises(DamagedFileError):
        Forecaster.load(broken)


ABSURD = {
    "base": 10**12,
    "multipliers": [1] * 10**5,
    "encoder_multipliers": [10**9],
    "blocks": 10**9,
    "encoder_blocks": 10**9,
    "attention": [1] * 10**5,
    "window": 10**9,
    "unshuffle": 10**6,
    "embedding": 10**12,
    "diffusion_steps": 10**12,
    "history": 10**9,
    "leads": [10**9],
    "dropout": 2,
}


@pytest.fixture
def spoil(directory, tmp_path, monkeypatch):
    """spoil(change): a copy of the model whose description was changed; it must not be allocated."""
    network = ModelDescription.network

    def laid_out(self):
        assert torch.empty(0).is_meta, "a network is allocated"
        return network(self)

    def make(change):
        broken = copy(directory, tmp_path / "broken")
        description = json.loads((broken / DESCRIPTION).read_text())
        change(description)
        (broken / DESCRIPTION).write_text(json.dumps(description))
        monkeypatch.setattr(ModelDescription, "network", laid_out)
        return broken

    return make


@pytest.mark.parametrize("name", ABSURD)
def test_absurd_sizes_are_refused_in_a_few_words(spoil, name):
    broken = spoil(lambda said: said["model"].update({name: ABSURD[name]}))
    with pytest.raises(DamagedFileError, match=f"is damaged .{name}") as caught:
        Forecaster.load(broken)
    assert len(str(caught.value)) < 500


def test_the_largest_network_that_can_be_described_is_refused_by_its_weights(spoil):
    largest = {"base": 4096, "multipliers": [64] * 8, "blocks": 16, "encoder_blocks": 16, "embedding": 8192}
    broken = spoil(lambda said: said["model"].update(largest | {"unshuffle": 16, "window": 128}))
    with pytest.raises(DamagedFileError, match="another network"):
        Forecaster.load(broken)


def test_weights_larger_than_the_memory_are_not_read(spoil, monkeypatch):
    broken = spoil(lambda said: None)
    monkeypatch.setattr(checkpoint.psutil, "virtual_memory", lambda: SimpleNamespace(total=1000))
    with pytest.raises(SettingsError, match="this machine has 0 GB"):
        Forecaster.load(broken)


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (lambda said: said["residuals"]["spread"].update({"1": [1.0]}), "spread at lead 1"),
        (lambda said: said["residuals"]["spread"]["1"][0].__setitem__(0, -1.0), "negative weights"),
        (lambda said: said["residuals"]["spread"]["1"][0].__setitem__(0, None), "negative weights"),
        (lambda said: said["residuals"]["spread"].clear(), "lead"),
        (lambda said: said["residuals"]["regression"].update({"1": [[1.0] * 7]}), "weights of shape"),
        (lambda said: said["residuals"].update({"references": ["regression"] * 6 + ["nothing"]}), "references"),
        (lambda said: said["split"].clear(), "training"),
        (lambda said: said["validation"].update({"loss": "low"}), "loss"),
        (lambda said: said.update({"steps": "many"}), "many"),
        (lambda said: said.update({"minutes": 10**400}), "large"),
        (lambda said: said.update({"settings": [1]}), "damaged"),
        (lambda said: said.update({"grid": {"ny": list(range(10**4))}}), "grid|damaged"),
    ],
)
def test_parts_that_do_not_fit_are_refused_in_a_few_words(spoil, change, what):
    with pytest.raises(DamagedFileError, match=what) as caught:
        Forecaster.load(spoil(change))
    assert len(str(caught.value)) < 500


def test_a_description_nested_without_end_is_refused(directory, tmp_path):
    broken = copy(directory, tmp_path / "broken")
    (broken / DESCRIPTION).write_text("[" * 100_000)
    with pytest.raises(DamagedFileError, match="nested too deeply"):
        Forecaster.load(broken)


def test_equal_weights_in_files_of_other_bytes_are_one_model(directory, forecaster, tmp_path):
    other = copy(directory, tmp_path / "other")
    with safe_open(directory / WEIGHTS, framework="pt") as file:
        metadata = file.metadata()
    save_file(load_file(directory / WEIGHTS), other / WEIGHTS, metadata | {"more": "said"})
    assert (other / WEIGHTS).read_bytes() != (directory / WEIGHTS).read_bytes()
    assert Forecaster.load(other).sha256 == forecaster.sha256


def test_another_weight_is_another_model(directory, forecaster, tmp_path):
    other = copy(directory, tmp_path / "other")
    tensors, facts = read_tensors(directory / WEIGHTS)
    next(iter(tensors.values())).view(-1)[0] += 1e-3
    write_tensors(other / WEIGHTS, tensors, facts)
    assert Forecaster.load(other).sha256 != forecaster.sha256


def test_members_have_the_spectrum_of_their_lead(directory, condition):
    """A silent network leaves the residuals of one hour smooth, and those of three hours white."""
    description = ModelDescription.read(directory)
    rough = Spectrum.white(len(description.variables))
    moments = np.zeros_like(rough.moments)
    for i in range(len(moments)):
        moments[i, -1, i, -1] = 1  # all variance in the coarsest band
    spectra = {(1, None): Spectrum(moments), (3, None): rough}
    description = replace(description, residuals=replace(description.residuals, spectra=spectra))
    network, name = load_network(directory, description)
    for parameter in network.parameters():
        parameter.data.zero_()
    forecaster = Forecaster(description, network, name, precision="float32")
    roughness = {}
    for kind in spectra:
        known = replace(condition, kind=kind)
        x0 = forecaster.solve(
            lambda x, t, known=known: forecaster.predict_noise(x, t, known),
            torch.randn(2, *condition.shape),
            settings=SamplingSettings(),
            kind=kind,
            periodic=True,
            clamp=lambda x0: x0,
            noise=lambda k: torch.zeros(()),
        )
        roughness[kind] = float((x0 - x0.roll(1, 3)).square().mean() / (2 * x0.square().mean()))
    assert roughness[1, None] < 0.1
    assert roughness[3, None] == pytest.approx(1, abs=0.1)
