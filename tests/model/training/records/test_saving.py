"""A training that is stopped between any two files of a save, and the same command after it."""

from __future__ import annotations

import errno
import json
import os
import shutil
from contextlib import contextmanager
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

from convcast.errors import DamagedFileError, SettingsError
from convcast.files import PARTIAL
from convcast.model.checkpoint import CARD, DESCRIPTION, LOG, WEIGHTS, ModelDescription, checkpoints
from convcast.model.distributed import Distributed
from convcast.model.skill import Validation
from convcast.model.tensors import read_header, read_tensors, write_tensors
from convcast.model.training import preparation
from convcast.model.training.loop import train
from convcast.model.training.records.tensorboard import TrainingLog
from convcast.model.training.trainer import Trainer

SCORES = {1: 0.5, 2: 0.4, 3: 0.7, 4: 0.9}
"""Saves by step: the first weights, better ones, and last worse ones."""
TIMES = ("minutes", "samples_per_second", "waiting", "at")


@pytest.fixture(scope="module")
def settings(make_settings):
    training = {"batch": 1, "draws": 1, "steps": 3, "checkpoint_every": 1, "log_every": 2, "keep": 1}
    return make_settings(training=training)


@pytest.fixture(scope="module")
def described(dataset, make_settings):
    return preparation.describe(dataset, make_settings())


@pytest.fixture(scope="module", autouse=True)
def _quick(described):
    """Compute statistics and reference only once, since they are not tested here."""
    prepare, prepared = preparation.cases, {}

    def describe(_, settings):
        return replace(described, model=settings.model).under(settings)

    def cases(dataset, description, settings):
        key = settings.digest()
        prepared[key] = prepared.get(key) or prepare(dataset, description, settings)
        return prepared[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(preparation, "describe", describe)
        patch.setattr(preparation, "cases", cases)
        patch.setattr(Trainer, "validate", lambda self, _: Validation(SCORES[self.step], 0, 2, None, None, {}))
        yield


@contextmanager
def before_each(act):
    """`act` is called before each file gets its name, and before each deletion of a named one."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("replace", "rename", "unlink"):

            def watched(path, *others, operate=getattr(os, name), **how):
                if PARTIAL not in str(path) or others:
                    act()
                return operate(path, *others, **how)

            patch.setattr(os, name, watched)
        yield


def said(directory):
    """All that a training leaves, but for how long it took."""
    description = json.loads((directory / DESCRIPTION).read_text())
    lines = [json.loads(line) for line in (directory / LOG).read_text().splitlines()]
    return {
        "description": {name: value for name, value in description.items() if name not in TIMES},
        "card": [line for line in (directory / CARD).read_text().splitlines() if " minutes, " not in line],
        "log": [{name: value for name, value in line.items() if name not in TIMES} for line in lines],
        "checkpoints": [path.name for path in checkpoints(directory)],
    }


def same(directory, expected):
    assert said(directory) == said(expected)
    for found, wanted in zip(tensor_files(directory), tensor_files(expected), strict=True):
        ours, theirs = load_file(found), load_file(wanted)
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[name], value) for name, value in theirs.items())


def tensor_files(directory):
    return [directory / WEIGHTS, *checkpoints(directory)]


def fill():
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_training_stopped_at_any_file_of_any_save_is_as_one_that_was_not(dataset, settings, tmp_path):
    """Killed before a file gets its name; then the disk is full when it is to get it; then nothing is in the way."""
    undisturbed, instants = tmp_path / "undisturbed" / "tiny", []

    def snapshot():
        instants.append(tmp_path / str(len(instants)) / "tiny")
        shutil.copytree(undisturbed, instants[-1])

    with before_each(snapshot):
        list(train(dataset, undisturbed, settings))
    assert len(instants) == 3 + 2 + 3 + 3 + 2  # checkpoints, weights, descriptions, cards, checkpoints let go
    for directory in instants[:-1]:
        with before_each(fill), pytest.raises(OSError, match="No space left"):
            list(train(dataset, directory, settings))
        list(train(dataset, directory, settings))
        same(directory, undisturbed)
    list(train(dataset, instants[-1], settings))
    same(instants[-1], undisturbed)


@pytest.fixture(scope="module")
def trained_once(dataset, settings, tmp_path_factory):
    """The tests copy this model and leave it unchanged."""
    directory = tmp_path_factory.mktemp("trained") / "tiny"
    list(train(dataset, directory, settings))
    return directory


@pytest.fixture
def trained(trained_once, tmp_path):
    return shutil.copytree(trained_once, tmp_path / "models" / "tiny")


@pytest.mark.parametrize("lost", [WEIGHTS, DESCRIPTION, CARD, LOG])
def test_a_finished_training_whose_file_is_lost_writes_it_again(dataset, make_settings, tmp_path, lost):
    """Only the earlier lines of the log are lost, since the checkpoint of the best step is kept."""
    settings = make_settings(training={"steps": 3, "checkpoint_every": 1, "log_every": 3, "keep": 3})
    directory, before = tmp_path / "models" / "tiny", tmp_path / "before" / "tiny"
    list(train(dataset, directory, settings))
    shutil.copytree(directory, before)
    (directory / lost).unlink()
    if lost == LOG:  # a checkpoint has its last report, not those before
        (before / LOG).write_text((before / LOG).read_text().splitlines(keepends=True)[-1])
    assert list(train(dataset, directory, settings)) == []
    same(directory, before)


def test_weights_that_no_checkpoint_has_any_more_are_replaced_by_the_newest(dataset, settings, trained):
    (trained / WEIGHTS).write_bytes(b"half")
    list(train(dataset, trained, settings))
    description = ModelDescription.read(trained)
    assert (description.steps, description.validation.loss) == (3, SCORES[3])
    averages = read_tensors(checkpoints(trained)[-1])[0]
    assert all(torch.equal(value, averages[f"average.{name}"]) for name, value in load_file(trained / WEIGHTS).items())


def test_a_finished_training_is_not_touched(dataset, settings, trained):
    before = {path: path.stat().st_mtime_ns for path in trained.rglob("*")}
    assert list(train(dataset, trained, settings)) == []
    assert {path: path.stat().st_mtime_ns for path in trained.rglob("*")} == before


def test_a_checkpoint_of_other_settings_is_refused(dataset, make_settings, settings, trained):
    """Make the state of a run that was killed before its first description; the networks have one shape."""
    (trained / DESCRIPTION).unlink()
    (trained / WEIGHTS).unlink()
    training = settings.training.model_dump()
    for group, name, changed in (
        ("model", "diffusion_steps", make_settings(training=training, model={"diffusion_steps": 60})),
        ("split", "gap_hours", make_settings(training=training, split={"gap_hours": 2})),
        ("training", "seed", make_settings(training=training | {"seed": 1})),
        ("training", "learning_rate", make_settings(training=training | {"learning_rate": 0.1})),
    ):
        with pytest.raises(SettingsError, match=f"begun with {group}.{name} = ") as caught:
            list(train(dataset, trained, changed))
        assert "--model" in caught.value.advice
    longer = make_settings(training=training | {"steps": 4, "threads": 2})
    assert [report.step for report in train(dataset, trained, longer)] == [4]


def test_a_checkpoint_of_another_training_beside_the_description_is_refused(dataset, make_settings, settings, trained):
    other, model = trained.parent / "other", {"diffusion_steps": 60}
    changed = make_settings(training=settings.training.model_dump() | {"steps": 2}, model=model)
    list(train(dataset, other, changed))
    stale = trained / "checkpoints" / "000000900.safetensors"
    shutil.copy(checkpoints(other)[-1], stale)
    with pytest.raises(DamagedFileError, match="is of another training") as caught:
        list(train(dataset, trained, settings))
    assert f"delete {stale}" in caught.value.advice
    stale.unlink()
    assert list(train(dataset, trained, settings)) == []


def test_a_description_tells_the_settings_that_training_went_on_under(dataset, make_settings, settings, trained):
    changed = make_settings(training=settings.training.model_dump() | {"steps": 4, "learning_rate": 0.1})
    list(train(dataset, trained, changed))
    description = ModelDescription.read(trained)
    assert description.settings["training"]["learning_rate"] == 0.1
    assert description.settings_digest == changed.digest()


def test_a_checkpoint_of_an_earlier_version_is_refused(dataset, settings, trained):
    (path,) = checkpoints(trained)
    tensors, facts = read_tensors(path)
    write_tensors(path, tensors, {"step": facts["step"], "minutes": facts["minutes"]})
    with pytest.raises(DamagedFileError, match="of an earlier version of convcast") as caught:
        list(train(dataset, trained, settings))
    assert "--model" in caught.value.advice


def test_the_log_ends_where_training_goes_on(dataset, settings, trained):
    """Neither what a run had logged beyond its last checkpoint nor a torn line is left to mislead."""
    log = trained / LOG
    before = log.read_bytes()
    log.write_bytes(before + b'{"at": "2024-05-06T00:00:00Z", "step": 300}\n{"at": "2024')
    list(train(dataset, trained, settings))
    assert log.read_bytes() == before


def test_events_are_written_again_with_a_lost_line_of_the_log_and_only_then(trained):
    report = json.loads((trained / LOG).read_text().splitlines()[-1])
    facts = read_header(checkpoints(trained)[-1]).facts
    assert facts["report"]["loss"] == report["loss"]
    files = list((trained / "events").iterdir())
    TrainingLog(trained, 3, None)
    assert list((trained / "events").iterdir()) == files


def test_processes_that_see_different_files_do_not_train_together(dataset, settings, tmp_path, monkeypatch):
    monkeypatch.setattr(Distributed, "broadcast", lambda self, value: value + 4)
    with pytest.raises(SettingsError, match="after step 0, and the first process finds it after another"):
        list(train(dataset, tmp_path / "tiny", settings))
