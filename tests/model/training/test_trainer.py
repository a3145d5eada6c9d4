from __future__ import annotations

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from convcast.model.distributed import Distributed
from convcast.model.training import preparation
from convcast.model.training.records.progress import Tally
from convcast.model.training.sharding import sharded_like
from convcast.model.training.trainer import Trainer, normal_rows

CPU = torch.device("cpu")


class NoReading(TorchDispatchMode):
    """Refuses to read a number from a tensor, for which a GPU would have to finish all its work."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        assert func not in (torch.ops.aten._local_scalar_dense.default, torch.ops.aten.is_nonzero.default), func
        return func(*args, **(kwargs or {}))


@pytest.fixture(scope="module")
def made(dataset, make_settings):
    settings = make_settings()
    description = preparation.describe(dataset, settings)
    cases, _ = preparation.cases(dataset, description, settings)
    batch = type(cases[0]).joined([cases[number] for number in range(3)])
    return Trainer(description, settings.training, Distributed(CPU)), batch


def test_no_step_reads_a_number_from_the_device(made):
    trainer, batch = made
    tally = Tally()
    trainer.learn([batch], 1e-4, tally)
    with NoReading():
        trainer.learn([batch, batch], 1e-4, tally)
    assert trainer.sound_step == trainer.step == 2
    assert tally.loss > 0
    with NoReading(), pytest.raises(AssertionError, match="local_scalar"):
        float(tally.gradient)


def test_a_row_of_noise_depends_on_its_seed_alone():
    many = normal_rows([5, 6, 7], (2, 40, 50), CPU)
    assert torch.equal(normal_rows([6], (2, 40, 50), CPU)[0], many[1])
    assert many.std() == pytest.approx(1, abs=0.03)
    assert (many[0] * many[1]).mean() == pytest.approx(0, abs=0.05)


def test_moments_of_a_resumed_optimiser_lie_in_memory_as_the_weights_do():
    weights = torch.randn(4, 3, 2, 2).contiguous(memory_format=torch.channels_last)
    value = torch.randn(4, 3, 2, 2)
    placed = sharded_like(value, weights)
    assert placed.stride() == weights.stride() != value.stride()
    assert torch.equal(placed, value)
