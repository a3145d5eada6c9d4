from __future__ import annotations

import pytest
import torch

from convcast.model.features.condition import Features, channel_count
from convcast.model.training import preparation
from convcast.model.training.batches import batches, on_side_queue
from convcast.model.training.orientation import Orientation


@pytest.fixture(scope="module")
def prepared(dataset, make_settings):
    settings = make_settings()
    description = preparation.describe(dataset, settings)
    return preparation.cases(dataset, description, settings)


def equal(a, b):
    return all(torch.equal(getattr(a, n), getattr(b, n)) for n in ("channels", "numbers", "residuals"))


def test_a_case_has_the_channels_it_should(prepared):
    case = prepared[0][0]
    assert case.channels.shape == (1, channel_count(7, 4), 16, 16)
    assert case.numbers.shape == (1, 3)
    assert case.residuals.shape == (1, 7, 16, 16)


def test_a_number_is_the_same_case_each_time(prepared):
    cases, _ = prepared
    assert equal(cases[5], cases[5])


def test_a_later_pass_rolls_the_same_case_elsewhere(prepared):
    cases, _ = prepared
    first, second = cases[5], cases[5 + len(cases)]
    assert not equal(first, second)
    assert any(
        torch.equal(first.residuals.roll((dy, dx), (2, 3)), second.residuals)
        and torch.equal(first.channels.roll((dy, dx), (2, 3)), second.channels)
        for dy in range(16)
        for dx in range(16)
    )


def test_preparing_commutes_with_rolling_the_world(prepared, dataset, make_settings):
    """The one reason why cases may be prepared once and rolled after."""
    import numpy as np

    from convcast.dataset import window
    from convcast.model.features.inputs import Inputs

    residuals = prepared[0].residuals
    one = window(dataset, dataset.hours[10], 1, with_target=True)
    made = []
    for case in (one, one.roll(3, 7)):
        inputs = Inputs.of([case], residuals.normalisation, periodic=True)
        made.append(Features.of(inputs, residuals).channels)
    torch.testing.assert_close(made[0].roll((3, 7), (2, 3)), made[1], atol=2e-3, rtol=0)
    assert np.isfinite(made[0].numpy()).all()


def test_batches_come_in_order(prepared):
    cases, _ = prepared
    made = list(batches(cases, range(7), 3))
    assert [len(batch.residuals) for batch in made] == [3, 3, 1]
    assert torch.equal(made[1].residuals[0], cases[3].residuals[0])
    assert torch.equal(made[2].residuals[0], cases[6].residuals[0])


def test_a_failure_in_the_background_comes_to_light(prepared):
    class Broken:
        def __getitem__(self, number):
            raise OSError(number)

    with pytest.raises(OSError, match="0"):
        list(batches(Broken(), range(3), 2))


def test_validation_cases_are_those_of_validation_hours(prepared, dataset, make_settings):
    _, validation = prepared
    # 0.3 days are 7 hours, of which 4 are past and 1 is to come: the first 3 have no past, the last no future.
    assert sum(len(batch.residuals) for batch in validation.batches) == 3


def test_where_the_target_is_missing_nothing_is_learnt(dataset, make_settings, monkeypatch):
    import numpy as np

    settings = make_settings()
    description = preparation.describe(dataset, settings)
    cases, _ = preparation.cases(dataset, description, settings)
    real = cases.windows[0]
    hole = real.target.copy()
    hole[2, 3, 4] = np.nan
    object.__setattr__(real, "target", hole)
    monkeypatch.setattr(type(cases.windows), "forced", lambda self, number, age: real)
    residuals = cases._prepare(0, Orientation(), None).residuals
    assert residuals[0, 2, 3, 4].isnan()
    assert residuals.isnan().sum() == 1


def test_the_dataset_s_integers_become_the_same_cases(make_dataset, make_settings, monkeypatch):
    """Cases of a dataset that is read patch by patch are handed over as integers, and turned too."""
    from convcast.dataset.cases import windows

    dataset = make_dataset(simulated=False, periodic=False, side=24)
    settings = make_settings(training={"augmentation": "rotations"})
    description = preparation.describe(dataset, settings)
    in_memory, _ = preparation.cases(dataset, description, settings)
    monkeypatch.setattr(windows, "IN_MEMORY", 0)
    read, _ = preparation.cases(dataset, description, settings)
    assert not read.kept
    for number in range(4):
        assert in_memory.drawn(number).window.history.dtype == "float32"
        case = read.drawn(number)
        assert case.window.history.dtype == case.window.target.dtype == "int16"
        assert equal(read.prepared(case), in_memory[number])


def test_cases_prepared_together_are_each_as_alone(prepared, monkeypatch):
    """A GPU prepares a batch in one pass, each case with the network of its own fold and with its own shift."""
    cases, _ = prepared
    monkeypatch.setattr(cases, "_kept", None)
    numbers = [0, len(cases) - 1, 7, len(cases) // 2]
    together = cases.together([cases.drawn(number) for number in numbers])
    for row, number in enumerate(numbers):
        alone = cases.prepared(cases.drawn(number))
        torch.testing.assert_close(together.residuals[row], alone.residuals[0], rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(together.channels[row], alone.channels[0], rtol=1e-2, atol=1e-2)
        assert torch.equal(together.numbers[row], alone.numbers[0])


def test_missing_integers_are_missing_values(prepared):
    normalisation = prepared[0].residuals.normalisation
    stored = torch.full((7, 2, 2), 160, dtype=torch.int16)
    stored[3, 0, 1] = -32768
    fields = normalisation.unpacked(stored)
    assert fields[3].isnan().tolist() == [[False, True], [False, False]]
    assert (fields[1] == 10).all()  # t2m has 16 integers a kelvin


class NotingQueue:
    """A side queue that notes what is put into it and what waits for it."""

    def __init__(self):
        self.notes = []

    def put(self, work):
        made = work()
        self.notes.append(f"queued {made[0]}")
        return made, made[0]

    def let_wait(self, event, tensors):
        self.notes.append(f"waits for {event}")


@pytest.mark.parametrize("count", [0, 1, 3])
def test_each_batch_is_queued_before_the_network_learns_the_one_before(count):
    queue = NotingQueue()
    for (number,) in on_side_queue(range(count), lambda number: (number,), queue):
        queue.notes.append(f"learns {number}")
    expected = {
        0: "",
        1: "queued 0, waits for 0, learns 0",
        3: "queued 0, queued 1, waits for 0, learns 0, queued 2, waits for 1, learns 1, waits for 2, learns 2",
    }
    assert ", ".join(queue.notes) == expected[count]
