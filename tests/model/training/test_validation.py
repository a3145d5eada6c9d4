from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from convcast.model.skill import EventFrequency, FieldSkill, Validation


def test_the_score_is_relative_to_persistence_and_falls_back_to_the_loss():
    skill = FieldSkill(1.0, 0.9, 1.1, 2.0, 1.0, {"quiet": None})
    found = Validation(0.3, 1, 2, "a", "b", {"t2m": skill, "refc": FieldSkill(3, 3, 3, 3.0, 1.0, {})})
    assert found.score == pytest.approx(0.75)
    assert Validation(0.3, 0, 2, None, None, {}).score == 0.3
    assert Validation.from_dict(found.to_dict()) == found


PERFECT = FieldSkill(1.0, 0.9, 1.1, 2.0, 1.0, {}, 1.0, 1.0, 0.0, (EventFrequency(1, 20.0, 0.2, 0.2),))


@pytest.mark.parametrize(
    ("fault", "penalty"),
    [
        ({}, 1.0),
        ({"rmse": 0.8}, 1.0),
        ({"rmse": 1.2}, 1.2),
        ({"log_spectral_distance": 3.0}, 1.03),
        ({"events": (EventFrequency(1, 20.0, 0.4, 0.2),)}, 1 + 0.05 * 0.6931),
        ({"events": (EventFrequency(1, 20.0, 0.1, 0.2),)}, 1 + 0.05 * 0.6931),
        ({"events": (EventFrequency(1, 20.0, 0.0, 0.2),)}, 1 + 0.05 * 2.3026),
        ({"events": (EventFrequency(1, 50.0, 0.2, 0.0001),)}, 1.0),
        ({"rmse": None, "log_spectral_distance": None, "events": ()}, 1.0),
    ],
)
def test_the_criterion_rises_with_faults_that_crps_hardly_shows(fault, penalty):
    found = Validation(0.3, 1, 2, "a", "b", {"refc": replace(PERFECT, **fault)})
    assert found.score == pytest.approx(0.5 * penalty, rel=1e-4)
    assert found.crps_ratio == pytest.approx(0.5)


def test_ensembles_are_drawn_at_checkpoints_the_same_each_time(dataset, make_settings, tmp_path):
    from convcast.model.distributed import Distributed
    from convcast.model.training import preparation
    from convcast.model.training.trainer import Trainer

    settings = make_settings(training={"validation_cases": 2, "validation_members": 3, "precision": "float32"})
    description = preparation.describe(dataset, settings)
    _, validator = preparation.cases(dataset, description, settings)
    trainer = Trainer(description, settings.training, Distributed(torch.device("cpu")))
    once, again = trainer.validate(validator), trainer.validate(validator)
    assert once == again
    assert once.cases == 2
    assert once.first < once.last
    assert set(once.fields) == {v.name for v in dataset.variables}
    assert all(skill.crps > 0 for skill in once.fields.values())
    refc = once.fields["refc"]
    assert refc.rmse > 0
    assert refc.reference_rmse > 0
    assert {event.lead for event in refc.events} == set(settings.model.leads)
