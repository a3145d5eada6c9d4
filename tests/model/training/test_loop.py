from __future__ import annotations

import itertools
import json
import struct
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file
from tensorboardX.proto.event_pb2 import Event

from convcast.dataset import window
from convcast.errors import DamagedFileError, SettingsError
from convcast.model.checkpoint import (
    CARD,
    CHECKPOINTS,
    DESCRIPTION,
    LOG,
    WEIGHTS,
    ModelDescription,
    checkpoints,
)
from convcast.model.forecaster import Forecaster
from convcast.model.skill import Validation
from convcast.model.tensors import read_tensors
from convcast.model.training import preparation
from convcast.model.training.loop import learning_rate, train
from convcast.model.training.objective import Objective
from convcast.model.training.records.tensorboard import EVENTS
from convcast.model.training.trainer import Trainer

CPU = torch.device("cpu")


def weights(directory):
    return load_file(directory / WEIGHTS)


@pytest.fixture(scope="module")
def trained(tmp_path_factory, dataset, make_settings):
    """A model of 4 steps, and what its training reported."""
    directory = tmp_path_factory.mktemp("models") / "tiny"
    return directory, list(train(dataset, directory, make_settings(training={"validation_cases": 1})))


def test_training_reports_and_ends(trained):
    _, reports = trained
    assert [report.step for report in reports] == [1, 2, 3, 4]
    assert [report.finished for report in reports] == [False, False, False, True]
    assert [report.validation is not None for report in reports] == [False, True, False, True]


def test_training_leaves_its_files(trained):
    directory, _ = trained
    assert {path.name for path in directory.iterdir()} == {CARD, CHECKPOINTS, DESCRIPTION, EVENTS, LOG, WEIGHTS}
    assert [json.loads(line)["step"] for line in (directory / LOG).read_text().splitlines()] == [1, 2, 3, 4]


def test_the_description_knows_its_data(trained, dataset, make_settings):
    description = ModelDescription.read(trained[0])
    assert description.trained == 4
    assert description.simulated is True
    assert description.model == make_settings().model
    assert description.grid == dataset.grid
    first, last = description.training_hours
    assert first == dataset.hours[0]
    assert last < dataset.hours[-1]


def test_a_finished_model_is_left_alone(trained, dataset, make_settings):
    before = (trained[0] / WEIGHTS).read_bytes()
    assert list(train(dataset, trained[0], make_settings())) == []
    assert (trained[0] / WEIGHTS).read_bytes() == before


def test_training_ends_early_when_validation_no_longer_improves(dataset, make_settings, tmp_path, monkeypatch):
    losses = itertools.chain([0.5, 0.4, 0.6, 0.45, 0.3], itertools.repeat(0.3))
    monkeypatch.setattr(Trainer, "validate", lambda *_: Validation(next(losses), 0, 2, None, None, {}), raising=True)
    settings = make_settings(training={"steps": 20, "checkpoint_every": 1, "patience": 2})
    reports = list(train(dataset, tmp_path / "m", settings))
    assert [report.step for report in reports] == [1, 2, 3, 4]
    assert [report.finished for report in reports] == [False, False, False, True]
    description = ModelDescription.read(tmp_path / "m")
    assert (description.steps, description.trained, description.stale) == (2, 4, 2)
    assert list(train(dataset, tmp_path / "m", settings)) == []
    longer = make_settings(training={"steps": 20, "checkpoint_every": 1, "patience": 3})
    assert next(train(dataset, tmp_path / "m", longer)).step == 5


def test_checkpoints_between_validations_lose_no_step_and_choose_no_weights(trained, dataset, make_settings, tmp_path):
    timed = make_settings(training={"validation_cases": 1, "checkpoint_minutes": 1e-9, "keep": 9})
    whole, resumed = trained[0], tmp_path / "resumed"
    for report in train(dataset, resumed, timed):
        if report.step == 1:
            before_validation = ModelDescription.read(resumed)
        if report.step == 3:
            break
    assert [int(path.stem) for path in checkpoints(resumed)] == [1, 2, 3]
    assert (before_validation.steps, before_validation.validation) == (1, None)
    between = ModelDescription.read(resumed)
    assert (between.steps, between.trained, between.stale) == (2, 3, 0)
    assert [report.step for report in train(dataset, resumed, timed)] == [4]
    expected, actual = weights(whole), weights(resumed)
    assert all(torch.equal(expected[name], actual[name]) for name in expected)
    assert ModelDescription.read(whole).validation == ModelDescription.read(resumed).validation


@pytest.mark.parametrize(("dropout", "threads"), [(0.2, 1), (0.0, 3)])
def test_a_resumed_training_reaches_the_same_weights_bit_for_bit(dataset, make_settings, tmp_path, dropout, threads):
    settings = make_settings(model={"dropout": dropout}, training={"threads": threads, "validation_cases": 1})
    whole, resumed = tmp_path / "whole", tmp_path / "resumed"
    list(train(dataset, whole, settings))
    for report in train(dataset, resumed, settings):
        if report.step == 3:  # a step beyond the checkpoint of step 2, as a kill would have it
            break
    assert ModelDescription.read(resumed).steps == 2
    assert [report.step for report in train(dataset, resumed, settings)] == [3, 4]
    expected, actual = weights(whole), weights(resumed)
    assert all(torch.equal(expected[name], actual[name]) for name in expected)


def test_threads_divide_a_batch_and_change_nothing_else(dataset, make_settings, tmp_path):
    found = []
    for threads in (1, 3):
        settings = make_settings(training={"threads": threads, "precision": "float32", "steps": 2})
        found.append(list(train(dataset, tmp_path / str(threads), settings)))
    for one, three in zip(*found, strict=True):
        assert three.loss == pytest.approx(one.loss, rel=1e-4)
        assert three.gradient == pytest.approx(one.gradient, rel=1e-4)
        assert three.fields == pytest.approx(one.fields, rel=1e-4)


def test_more_steps_go_on_from_where_training_ended(trained, dataset, make_settings, tmp_path):
    directory = tmp_path / "more"
    list(train(dataset, directory, make_settings(training={"steps": 2})))
    assert [report.step for report in train(dataset, directory, make_settings(training={"steps": 3}))] == [3]


def test_training_lowers_the_loss(dataset, make_settings, tmp_path):
    # The regression forecasts this weather up to the rounding of its values, which leaves nothing to learn. Errors of
    # coarse scales vary so much from batch to batch that with their share 60 steps learn little.
    settings = make_settings(
        model={"reference": {"default": "persistence"}, "base": 16},
        training={
            "batch": 6,
            "learning_rate": 0.005,
            "steps": 60,
            "log_every": 10,
            "checkpoint_every": 1000,
            "scale_weight": 0.0,
        },
    )
    reports = list(train(dataset, tmp_path / "model", settings))
    assert reports[-1].loss < 0.9 * reports[0].loss
    assert set(reports[-1].fields) == {v.name for v in dataset.variables}
    assert reports[-1].learning_rate < 0.01 * settings.training.learning_rate


def test_time_ends_training(dataset, make_settings, tmp_path):
    settings = make_settings(training={"steps": 10**6, "log_every": 10**6, "checkpoint_every": 10**6, "minutes": 0.003})
    *_, report = train(dataset, tmp_path / "model", settings)
    assert report.finished
    assert report.minutes >= 0.003
    assert report.step < 10**6


def test_other_model_settings_are_refused(trained, dataset, make_settings):
    with pytest.raises(SettingsError, match="base = 8, not 16") as caught:
        next(train(dataset, trained[0], make_settings(model={"base": 16})))
    assert "--model" in caught.value.advice


def test_other_data_are_refused(trained, make_dataset, make_settings):
    with pytest.raises(DamagedFileError, match="another world"):
        next(train(make_dataset(simulated=False), trained[0], make_settings()))


def test_damaged_training_state_is_an_error(dataset, make_settings, tmp_path):
    directory = tmp_path / "model"
    list(train(dataset, directory, make_settings(training={"steps": 2})))
    (path,) = checkpoints(directory)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(DamagedFileError, match=path.name):
        next(train(dataset, directory, make_settings()))


def test_a_loss_that_is_not_finite_stops_and_names_the_checkpoint(dataset, make_settings, tmp_path, monkeypatch):
    learn = Trainer.learn

    def spoilt(self, batches, rate, tally):
        if self.step == 4:
            with torch.no_grad():
                next(self.network.parameters()).fill_(float("nan"))
        return learn(self, batches, rate, tally)

    monkeypatch.setattr(Trainer, "learn", spoilt)
    directory = tmp_path / "model"
    settings = make_settings(training={"steps": 6, "log_every": 2, "checkpoint_every": 3})
    with pytest.raises(SettingsError, match=r"after step 4; the last good checkpoint in .* is of step 3"):
        list(train(dataset, directory, settings))
    assert all(tensor.isfinite().all() for tensor in weights(directory).values())


def test_a_loss_that_grows_stops_before_it_is_saved(dataset, make_settings, tmp_path, monkeypatch):
    """Stop at a report without a checkpoint, and at a checkpoint."""
    learn = Trainer.learn

    def astray(self, batches, rate, tally):
        norm = learn(self, batches, rate, tally)
        if self.step > 2:
            tally.noise = tally.noise * 100
        return norm

    monkeypatch.setattr(Trainer, "learn", astray)
    for every in (1, 4):
        directory = tmp_path / str(every)
        settings = make_settings(training={"log_every": every})
        with pytest.raises(SettingsError, match=r"has grown to .* the last good checkpoint in .* is of step 2"):
            list(train(dataset, directory, settings))
        assert ModelDescription.read(directory).trained == 2


def test_the_latest_checkpoints_are_kept_and_training_can_go_on_from_the_one_before(dataset, make_settings, tmp_path):
    settings = make_settings(training={"checkpoint_every": 1, "keep": 2})
    directory = tmp_path / "model"
    list(train(dataset, directory, settings))
    expected = weights(directory)
    assert [int(path.stem) for path in checkpoints(directory)] == [3, 4]
    checkpoints(directory)[-1].write_bytes(b"half")
    with pytest.raises(DamagedFileError) as caught:
        list(train(dataset, directory, settings))
    assert "goes on from the one before" in caught.value.advice
    checkpoints(directory)[-1].unlink()
    assert [report.step for report in train(dataset, directory, settings)] == [4]
    actual = weights(directory)
    assert all(torch.equal(expected[name], actual[name]) for name in expected)


def test_the_best_weights_are_those_that_are_sampled_from(dataset, make_settings, tmp_path, monkeypatch):
    validate, scores = Trainer.validate, {1: 0.9, 2: 0.5, 3: 0.7, 4: 0.6}

    def invented(self, validator):
        return replace(validate(self, validator), loss=scores[self.step], fields={})

    monkeypatch.setattr(Trainer, "validate", invented)
    directory = tmp_path / "model"
    list(train(dataset, directory, make_settings(training={"checkpoint_every": 1, "keep": 4})))
    description = ModelDescription.read(directory)
    assert (description.steps, description.trained, description.validation.loss) == (2, 4, 0.5)
    (best,) = (read_tensors(path)[0] for path in checkpoints(directory) if int(path.stem) == 2)
    assert all(torch.equal(value, best[f"average.{name}"]) for name, value in weights(directory).items())
    assert "4 steps (the weights are of step 2" in (directory / CARD).read_text()


def test_recomputed_activations_change_nothing_but_memory(dataset, make_settings, tmp_path):
    """Test with dropout, which must have the same masks again."""
    found = []
    for recompute in (False, True):
        settings = make_settings(
            model={"dropout": 0.3}, training={"recompute": recompute, "precision": "float32", "steps": 3}
        )
        list(train(dataset, tmp_path / str(recompute), settings))
        found.append(weights(tmp_path / str(recompute)))
    assert all(torch.equal(value, found[1][name]) for name, value in found[0].items())


def test_tensorboard_can_read_the_course(trained):
    scalars = {
        (value.tag, event.step): value.simple_value for event in events(trained[0]) for value in event.summary.value
    }
    assert {step for tag, step in scalars if tag == "loss/all"} == {1, 2, 3, 4}
    assert scalars["loss/all", 4] == pytest.approx(trained[1][-1].loss, rel=1e-5)
    assert {step for tag, step in scalars if tag == "validation/crps/refc"} == {2, 4}


def events(directory):
    """Read the steps of event files: TFRecords of a length, its checksum, the event and its checksum."""
    for path in sorted((directory / EVENTS).iterdir()):
        data = path.read_bytes()
        while data:
            (length,) = struct.unpack("<Q", data[:8])
            yield Event.FromString(data[12 : 12 + length])
            data = data[16 + length :]


def test_fields_weigh_in_the_loss_as_they_are_set_to(dataset, make_settings):
    settings = make_settings(training={"weights": {"refc": 0, "t2m": 3}})
    description = preparation.describe(dataset, settings)
    objective = Objective(description, settings.training.model_copy(update={"precision": "float32"}), CPU)
    weights = dict(zip([v.name for v in dataset.variables], objective.weights.tolist(), strict=True))
    assert weights["refc"] == 0
    assert weights["t2m"] / weights["d2m"] == pytest.approx(3)
    assert sum(weights.values()) / 7 == pytest.approx(1)


def test_weights_of_an_unknown_field_are_refused(make_settings):
    with pytest.raises(SettingsError, match="hail"):
        make_settings(training={"weights": {"hail": 1.0}})


def test_accumulated_batches_are_one_step(dataset, make_settings, tmp_path):
    settings = make_settings(training={"accumulation": 2, "steps": 2})
    reports = list(train(dataset, tmp_path / "model", settings))
    assert reports[-1].step == 2


def test_a_dataset_of_fewer_fields_trains(make_dataset, make_settings, tmp_path):
    """Six fields, and a domain with edges that a patch is cut from, as real files give."""
    dataset = make_dataset(names=("t2m", "d2m", "u10", "cape"), simulated=False, periodic=False, side=24)
    reports = list(train(dataset, tmp_path / "model", make_settings(training={"steps": 2, "validation_cases": 1})))
    assert list(reports[-1].fields) == ["t2m", "d2m", "u10", "cape"]
    assert ModelDescription.read(tmp_path / "model").simulated is False


def test_the_learning_rate_rises_and_falls(make_settings):
    training = make_settings(training={"warm_up": 10, "learning_rate": 1.0}).training
    assert learning_rate(training, 0, 0) == pytest.approx(0.1)
    assert learning_rate(training, 10, 0) == pytest.approx(1)
    assert learning_rate(training, 50, 0.5) == pytest.approx(0.5)
    assert learning_rate(training, 100, 1) == pytest.approx(0, abs=1e-12)


def test_a_model_that_perturbs_states_is_trained_and_draws_them(dataset, tmp_path, make_settings):
    settings = make_settings(
        model={"leads": [0], "reference": {"default": "direct"}}, training={"steps": 2, "validation_cases": 1}
    )
    reports = list(train(dataset, tmp_path / "perturbation", settings))
    assert reports[-1].finished

    forecaster = Forecaster.load(tmp_path / "perturbation", precision="float32")
    condition = forecaster.condition([window(dataset, dataset.hours[30], 0)], periodic=True)
    x = torch.randn(2, *condition.shape)
    assert forecaster.predict_noise(x, 20, condition, guidance=0.5).isfinite().all()
