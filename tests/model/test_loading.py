"""The dataset's cases through torch's own loader: any process makes the same of a number."""

from __future__ import annotations

from itertools import islice

import numpy as np
import pytest
from torch.utils.data import DataLoader

from convcast.dataset import Windows, shuffled_indices, usable_inits
from convcast.dataset.cases import windows


@pytest.fixture
def cases(dataset, monkeypatch):
    monkeypatch.setattr(windows, "IN_MEMORY", 0)  # as with datasets that do not fit
    inits = usable_inits(dataset.hours, history=4, leads=(1,))
    return Windows(dataset, inits, leads=(1,), history=4, patch=8, seed=3, augment=True)


def loaded(cases, numbers, **how):
    loader = DataLoader(cases, batch_size=3, sampler=numbers, collate_fn=list, **how)
    return [window for batch in loader for window in batch]


def same(a, b):
    return (a.init, a.weight) == (b.init, b.weight) and all(
        np.array_equal(getattr(a, name), getattr(b, name)) for name in ("history", "sun", "motion", "target")
    )


@pytest.mark.filterwarnings("ignore:This DataLoader will create")  # more processes than a small machine has cores
@pytest.mark.parametrize(("context", "workers"), [("fork", 2), pytest.param("spawn", 1, marks=pytest.mark.slow)])
def test_workers_make_what_one_process_makes(cases, context, workers):
    numbers = list(islice(shuffled_indices(len(cases), seed=1), 12))
    expected = [cases[number] for number in numbers]  # before the fork: its threads must not be missed after it
    found = loaded(cases, numbers, num_workers=workers, multiprocessing_context=context, timeout=60)
    assert len(found) == 12
    assert all(same(a, b) for a, b in zip(found, expected, strict=True))


def test_ranks_share_no_case_and_together_have_them_all(cases):
    passes = [
        loaded(cases, list(islice(shuffled_indices(len(cases), seed=1, rank=rank, world_size=2), len(cases) // 2)))
        for rank in range(2)
    ]
    inits = [{window.init for window in windows} for windows in passes]
    assert not inits[0] & inits[1]
    assert len(inits[0] | inits[1]) >= len(cases) - 1
