from __future__ import annotations

import itertools
import pickle
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from convcast.dataset import Window, Windows, advect, shuffled_indices, usable_inits, window
from convcast.dataset.cases import windows
from convcast.errors import MissingInputError, SettingsError
from convcast.notation import HOUR

START = np.datetime64("2024-05-06T00", "h")
ARRAYS = ("history", "static", "sun", "hour", "motion", "advected", "target")


def same(a: Window, b: Window) -> bool:
    return (a.init, a.lead) == (b.init, b.lead) and all(
        np.array_equal(getattr(a, name), getattr(b, name)) for name in ARRAYS
    )


def make(dataset, *, leads=(1, 3), patch=None, seed=0, augment=True, history=4):
    inits = usable_inits(dataset.hours, history=history, leads=leads)
    return Windows(dataset, inits, leads=leads, history=history, patch=patch, seed=seed, augment=augment)


def test_usable_inits_have_every_hour_they_need(long_dataset):
    inits = usable_inits(long_dataset.hours, history=4, leads=(1, 3))
    offsets = [int((init - START) / HOUR) for init in inits]
    assert offsets == [3, 4, 5, 6, 7, 8, 9, 11, *range(17, 27)]  # 13 is missing: not a past hour, nor 11 + 3


def test_usable_inits_for_a_forecast_need_no_future(long_dataset):
    assert usable_inits(long_dataset.hours, history=4, leads=())[-1] == long_dataset.hours[-1]


def test_a_window_holds_the_hours_it_should(long_dataset):
    made = window(long_dataset, START + 8 * HOUR, 3, with_target=True)
    np.testing.assert_array_equal(made.history, long_dataset.read(START + np.arange(5, 9) * HOUR))
    np.testing.assert_array_equal(made.target, long_dataset.read([START + 11 * HOUR])[0])
    np.testing.assert_array_equal(made.static, long_dataset.static)


def test_shapes_and_types(long_dataset):
    made = window(long_dataset, START + 8 * HOUR, 1, with_target=True)
    shapes = {name: getattr(made, name).shape for name in ARRAYS}
    assert shapes == {
        "history": (4, 7, 24, 32),
        "static": (2, 24, 32),
        "sun": (2, 24, 32),
        "hour": (2,),
        "motion": (2, 24, 32),
        "advected": (7, 24, 32),
        "target": (7, 24, 32),
    }
    assert {getattr(made, name).dtype for name in ARRAYS} == {np.dtype(np.float32)}


def test_a_forecast_window_needs_and_has_no_target(long_dataset):
    assert window(long_dataset, long_dataset.hours[-1], 1).target is None


def test_the_hour_of_day_is_that_of_init(long_dataset):
    np.testing.assert_allclose(window(long_dataset, START + 6 * HOUR, 1).hour, [1, 0], atol=1e-6)


def test_the_sun_is_that_of_both_ends(long_dataset):
    made = window(long_dataset, START + 9 * HOUR, 3)  # from night to the morning of the central plains
    assert made.sun[0].max() < 0 < made.sun[1].min()


def test_motion_and_moved_frame(torus):
    made = window(torus, START + 8 * HOUR, 3, with_target=True)
    np.testing.assert_allclose(np.median(made.motion, axis=(1, 2)), (1, 2), atol=0.1)
    assert np.abs(made.motion - np.array([1, 2])[:, None, None]).max() < 0.5
    np.testing.assert_array_equal(made.advected, advect(made.history[-1], 3 * made.motion, periodic=True))
    np.testing.assert_allclose(made.advected[1], made.target[1], atol=0.7)


def test_part_of_a_domain_is_that_part(long_dataset):
    whole = window(long_dataset, START + 8 * HOUR, 1, with_target=True)
    part = window(long_dataset, START + 8 * HOUR, 1, rows=slice(4, 20), columns=slice(8, 24), with_target=True)
    for name in ("history", "static", "target"):
        np.testing.assert_array_equal(getattr(part, name), getattr(whole, name)[..., 4:20, 8:24])
    np.testing.assert_allclose(part.sun, whole.sun[..., 4:20, 8:24], atol=1e-6)


def test_missing_hours_are_named_with_the_command_that_fetches_them(long_dataset):
    with pytest.raises(MissingInputError, match="2024-05-06T13") as caught:
        window(long_dataset, START + 15 * HOUR, 1)
    assert "convcast fetch --start 2024-05-06T13 --end 2024-05-06T13" in caught.value.advice


def test_every_init_and_lead_is_a_case(torus):
    cases = make(torus)
    assert len(cases) == 36
    assert {(w.init, w.lead) for w in (cases[i] for i in range(36))} == set(itertools.product(cases.inits, (1, 3)))


def test_a_case_is_the_window_rolled(torus):
    cases = make(torus)
    case = cases[5]
    plain = window(torus, case.init, case.lead, with_target=True)
    shifts = [(i, j) for i in range(24) for j in range(32) if np.array_equal(plain.roll(i, j).target, case.target)]
    assert len(shifts) == 1
    for name in ("history", "static", "advected"):
        np.testing.assert_array_equal(getattr(case, name), getattr(plain.roll(*shifts[0]), name))
    np.testing.assert_allclose(case.sun, plain.roll(*shifts[0]).sun, atol=1e-6)
    np.testing.assert_array_equal(case.motion, plain.motion)


def test_roll_is_numpys(torus):
    plain = window(torus, START + 8 * HOUR, 1)
    np.testing.assert_array_equal(plain.roll(-5, 40).history, np.roll(plain.history, (-5, 40), (-2, -1)))


def test_draws_depend_on_seed_and_number_alone(torus):
    first, second = make(torus, seed=3), make(torus, seed=3)
    backwards = {i: second[i] for i in (7, 3, 0)}
    assert all(same(first[i], backwards[i]) for i in (0, 3, 7))
    assert not same(first[3], make(torus, seed=4)[3])


def test_another_pass_draws_afresh(torus):
    cases = make(torus)
    again = cases[3 + len(cases)]
    assert (cases[3].init, cases[3].lead) == (again.init, again.lead)
    assert not same(cases[3], again)


def test_without_augmentation_a_case_is_the_window(torus):
    cases = make(torus, augment=False)
    case = cases[6]
    np.testing.assert_array_equal(case.target, window(torus, case.init, case.lead, with_target=True).target)


def test_without_augmentation_patches_lie_on_a_grid(long_dataset):
    cases = make(long_dataset, patch=16, leads=(1,), augment=False)
    inits = len(cases.inits)
    assert len(cases) == inits * 2 * 2
    first = [cases[number] for number in range(4)]
    assert len({case.init for case in first}) == 1
    corners = {(float(case.static[0, 0, 0]), float(case.static[0, -1, -1])) for case in first}
    assert corners == {(4.0 * c, 4.0 * (c + 30)) for c in (0, 16, 8, 24)}  # the terrain rises 4 m a row and a column
    assert cases[4].init == cases.inits[1]
    assert same(cases[2], cases[2 + len(cases)])


def test_a_real_domain_is_not_rolled(long_dataset):
    case = make(long_dataset)[4]
    np.testing.assert_array_equal(case.static, long_dataset.static)


def test_patches_lie_anywhere_within(long_dataset):
    cases = make(long_dataset, patch=16)
    corners = set()
    for number in range(120):
        case = cases[number]
        assert case.target.shape == (7, 16, 16)
        row, column = np.divmod(case.static[0, 0, 0] / 4, 1)[0], case.static[0, 0, 0] / 4
        corners.add((row, column))
        expected = long_dataset.read([case.init + case.lead * HOUR])[0]
        starts = [(i, j) for i in range(9) for j in range(17) if i + j == column]
        assert any(np.array_equal(expected[:, i : i + 16, j : j + 16], case.target) for i, j in starts)
    assert len(corners) > 15


def test_a_large_patch_is_the_whole_domain(long_dataset):
    assert make(long_dataset, patch=30)[0].target.shape == (7, 24, 30)
    assert make(long_dataset, patch=500)[0].target.shape == (7, 24, 32)


def test_memory_and_disk_agree(long_dataset, monkeypatch):
    held = make(long_dataset, patch=16)
    monkeypatch.setattr(windows, "IN_MEMORY", 0)
    read = make(long_dataset, patch=16)
    assert all(same(held[i], read[i]) for i in (0, 9, 50))


def test_threads_that_want_the_motion_of_one_hour_estimate_it_once(long_dataset, monkeypatch):
    """The second thread comes while the first estimates; where this fails, the next thread tries."""
    calls, estimate = [], windows.domain_motion

    def slow(*arguments, **options):
        calls.append(arguments)
        time.sleep(0.1)
        if len(calls) == 1:
            raise OSError("unreadable")
        return estimate(*arguments, **options)

    monkeypatch.setattr(windows, "domain_motion", slow)
    cases = make(long_dataset, augment=False)
    with ThreadPoolExecutor(4) as pool:
        done = [pool.submit(cases.__getitem__, 0) for _ in range(4)]
    assert sum(one.exception() is not None for one in done) == 1
    assert len(calls) == 2
    (motion, *rest) = [one.result().motion for one in done if one.exception() is None]
    assert all(np.array_equal(motion, other) for other in rest)
    pickle.loads(pickle.dumps(cases))


def test_inits_across_a_gap_are_refused(long_dataset):
    inits = np.array([START + 14 * HOUR])
    with pytest.raises(MissingInputError, match="2024-05-06T13"):
        Windows(long_dataset, inits, leads=(1,), history=4, patch=None, seed=0, augment=False)


def test_no_inits_say_what_to_do(long_dataset):
    with pytest.raises(SettingsError, match="no initial hour"):
        make(long_dataset, leads=(40,))


def test_each_pass_deals_every_case_once_to_some_rank():
    ranks = [list(itertools.islice(shuffled_indices(10, seed=1, rank=rank, world_size=3), 20)) for rank in range(3)]
    dealt = [number for turn in zip(*ranks, strict=True) for number in turn]
    assert sorted(dealt[:10]) == list(range(10))
    assert sorted(dealt[10:20]) == list(range(10, 20))
    assert [n % 10 for n in dealt[:10]] != [n % 10 for n in dealt[10:20]]


def test_the_order_is_the_seeds():
    first, again, other = (list(itertools.islice(shuffled_indices(50, seed=s), 50)) for s in (1, 1, 2))
    assert first == again != other


def test_the_room_works_without_torch():
    code = "import sys; sys.modules['torch'] = None; import convcast.dataset; assert 'herbie' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_patches_over_convection_are_drawn_more_often_by_what_is_seen_at_init(long_dataset, monkeypatch):
    """The weather of these tests has few echoes; those of the target hour, which move on, must not matter."""
    seen = []
    count = windows.count_echoes
    monkeypatch.setattr(windows, "count_echoes", lambda field: seen.append(field) or count(field))
    cases = convective(long_dataset)
    number = next(n for n in range(len(cases)) if (long_dataset.read([cases[n].init])[0, 0] >= 20).any())
    for turn in range(3):
        case = cases[number + turn * len(cases)]
    expected = long_dataset.read([case.init])[0, 0]
    assert sum(np.array_equal(field, expected) for field in seen) == 1  # kept from then on


def convective(dataset, share=0.5):
    inits = usable_inits(dataset.hours, history=4, leads=(1,))
    options = {"leads": (1,), "history": 4, "patch": 16, "seed": 0, "augment": True}
    return Windows(dataset, inits, **options, convective=share)


def test_weights_average_to_one(long_dataset):
    cases = convective(long_dataset)
    weights = np.array([cases[number].weight for number in range(40 * len(cases))])
    assert weights.std() > 0.05
    assert abs(weights.mean() - 1) < 4 * weights.std() / np.sqrt(weights.size)


def test_no_share_over_convection_draws_as_without(long_dataset):
    plain = make(long_dataset, patch=16, leads=(1,))
    none = convective(long_dataset, share=0.0)
    assert all(same(plain[i], none[i]) for i in (0, 4, 60))
    assert none[4].weight == 1


def test_convection_without_reflectivity_is_refused(long_dataset, monkeypatch):
    monkeypatch.setattr(windows, "REFC", "another field")
    with pytest.raises(SettingsError, match="need the field refc") as caught:
        convective(long_dataset)
    assert "training.convective=0" in caught.value.advice
