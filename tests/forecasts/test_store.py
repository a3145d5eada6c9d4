from __future__ import annotations

import json
import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import xarray as xr
import zarr
from power import Disk, lay_out

from convcast import conventions
from convcast.errors import DamagedFileError
from convcast.forecasts.store import EnsembleStore, ForecastDescription
from convcast.grid import Grid
from convcast.variables import FIELDS, select

INIT = np.datetime64("2024-05-06T21", "h")
GRID = Grid(6, 8, 300, 800)
DESCRIPTION = ForecastDescription(
    init=INIT,
    leads=(1, 3),
    direct=(1, 3),
    variables=tuple(FIELDS.values()),
    grid=GRID,
    identity={"simulated": 0, "model_sha256": "aa", "seed": 0, "solver": "dpmpp_2m", "steps": 20, "guidance": 1.0},
    information={"title": "convcast ensemble", "model": "phase1"},
)


def fields(member, lead, grid=GRID):
    generator = np.random.default_rng([member, lead])
    middle = np.array([(v.bounds[0] + v.bounds[1]) / 2 for v in FIELDS.values()])[:, None, None]
    return (middle + generator.normal(size=(len(FIELDS), *grid.shape))).astype(np.float32)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "20240506T21.zarr"


@pytest.fixture
def written(path):
    store = EnsembleStore.prepare(path, DESCRIPTION, members=3)
    store.write(0, 1, fields(0, 1))
    store.write(2, 3, fields(2, 3))
    return path


def test_plain_xarray_reads_what_was_written_and_nan_elsewhere(written):
    with xr.open_zarr(written) as dataset:
        for i, variable in enumerate(FIELDS.values()):
            actual = dataset[variable.name]
            assert np.float32 == actual.dtype
            np.testing.assert_allclose(fields(0, 1)[i], actual[0, 0, 0], atol=0.501 / variable.scale)
            np.testing.assert_allclose(fields(2, 3)[i], actual[0, 2, 1], atol=0.501 / variable.scale)
            assert actual.notnull().all(("y", "x")).sum() == 2
            assert actual.isnull().all(("y", "x")).sum() == 4


def test_stored_values_lie_on_the_lattice(written):
    with xr.open_zarr(written) as dataset:
        for variable in FIELDS.values():
            scaled = dataset[variable.name].values * variable.scale
            np.testing.assert_array_equal(np.rint(scaled), scaled)


def test_plain_xarray_opens_it_without_a_warning_with_or_without_consolidated_metadata(written, recwarn):
    for consolidated in (None, True, False):
        xr.open_zarr(written, consolidated=consolidated).load().close()

    assert [str(w.message) for w in recwarn] == []


def test_layout_is_that_of_the_design(written):
    with xr.open_zarr(written) as dataset:
        assert set(FIELDS) == set(dataset.data_vars)
        assert dict(dataset.sizes) == {"init_time": 1, "number": 3, "lead_time": 2, "y": 6, "x": 8}
        assert dataset.number.values.tolist() == [0, 1, 2]
        assert dataset.complete.dims == ("init_time", "number", "lead_time")
        np.testing.assert_array_equal(GRID.x, dataset.x)
        expected = np.array([["2024-05-06T22", "2024-05-07T00"]], "datetime64[h]")
        np.testing.assert_array_equal(expected, dataset.valid_time.values.astype("datetime64[h]"))
        assert dataset.attrs["Conventions"] == "CF-1.11"
        assert dataset.attrs["solver"] == "dpmpp_2m"


def test_complete_says_what_is_there(written):
    with xr.open_zarr(written) as dataset:
        np.testing.assert_array_equal([[[1, 0], [0, 0], [0, 1]]], dataset.complete)

    store = EnsembleStore.prepare(written, DESCRIPTION, members=3)
    assert store.missing([0, 1, 2], 1) == [1, 2]
    assert store.missing([0, 1, 2], 3) == [0, 1]


def test_a_power_cut_leaves_only_members_that_are_whole(tmp_path):
    disk = Disk(tmp_path / "disk")
    disk.root.mkdir()
    path = disk.root / "forecasts" / "20240506T21.zarr"
    variables = tuple(FIELDS.values())[:2]  # each field is one more file
    description = replace(DESCRIPTION, variables=variables)
    with disk:
        EnsembleStore.prepare(path, description, members=1).write(0, 1, fields(0, 1)[:2])
        EnsembleStore.prepare(path, description, members=2).write(1, 3, fields(1, 3)[:2])

    met = set()
    for number, state in enumerate([*disk.states[::2], disk.states[-1]]):
        lay_out(state, tmp_path / f"cut{number}")
        left = tmp_path / f"cut{number}" / "forecasts" / path.name
        if not left.exists():
            continue
        with xr.open_zarr(left) as dataset:
            there = {(int(m), int(x)) for m, x in np.argwhere(dataset.complete.values[0] == 1)}
            for member, lead in there:
                for i, variable in enumerate(variables):
                    expected = fields(member, DESCRIPTION.leads[lead])[i]
                    stored = dataset[variable.name].values[0, member, lead]
                    np.testing.assert_allclose(expected, stored, atol=0.501 / variable.scale)
        met.add(frozenset(there))
        if number % 10 == 0:
            store = EnsembleStore.prepare(left, description, members=2)
            assert {(m, lead) for m, lead in np.argwhere(store.complete()).tolist()} == there
    assert {len(each) for each in met} == {0, 1, 2}
    assert there == {(0, 0), (1, 1)}, "what was said to be done is there"


def test_a_member_without_its_flag_does_not_count(written):
    store = EnsembleStore.prepare(written, DESCRIPTION, members=3)
    (written / "complete" / "c" / "0" / "2" / "1").unlink()

    assert store.missing([2], 3) == [2]


def remove(file):
    file.unlink()


def cut(file):
    file.write_bytes(file.read_bytes()[:-9])


def empty(file):
    file.write_bytes(b"")


def flip(file):
    values = bytearray(file.read_bytes())
    values[len(values) // 2] ^= 255
    file.write_bytes(values)


@pytest.mark.parametrize("spoil", [remove, cut, empty, flip])
def test_a_complete_member_whose_values_are_damaged_is_missing_until_it_is_written_again(written, spoil):
    whole = xr.open_zarr(written).load()
    spoil(written / "t2m" / "c" / "0" / "0" / "0" / "0" / "0")

    store = EnsembleStore.prepare(written, DESCRIPTION, members=3)
    assert store.missing([0], 1) == [0]
    assert store.missing([2], 3) == []
    store.write(0, 1, fields(0, 1))
    assert store.missing([0], 1) == []

    xr.testing.assert_identical(whole, xr.open_zarr(written).load())


def test_a_damaged_flag_is_no_flag(written):
    flag = written / "complete" / "c" / "0" / "0" / "0"
    flag.write_bytes(b"")

    store = EnsembleStore.prepare(written, DESCRIPTION, members=3)
    assert store.missing([0, 1], 1) == [0, 1]
    store.write(0, 1, fields(0, 1))

    assert EnsembleStore.prepare(written, DESCRIPTION, members=3).missing([0], 1) == []


def test_a_member_that_is_written_again_does_not_count_meanwhile(written, monkeypatch):
    (written / "t2m" / "c" / "0" / "0" / "0" / "0" / "0").unlink()
    store = EnsembleStore.prepare(written, DESCRIPTION, members=3)
    monkeypatch.setattr(conventions, "on_lattice", lambda *_: 1 / 0)

    with pytest.raises(ZeroDivisionError):
        store.write(0, 1, fields(0, 1))

    assert not store.complete()[0, 0]


def test_the_flag_comes_last(path, monkeypatch):
    store = EnsembleStore.prepare(path, DESCRIPTION, members=1)
    order = []
    original = zarr.Array.__setitem__
    monkeypatch.setattr(zarr.Array, "__setitem__", lambda a, k, v: (order.append(a.basename), original(a, k, v)))

    store.write(0, 1, fields(0, 1))

    assert [*FIELDS, "complete"] == order


def test_members_may_be_added_to_an_ensemble(written):
    store = EnsembleStore.prepare(written, DESCRIPTION, members=300)
    store.write(299, 1, fields(299, 1))

    with xr.open_zarr(written) as dataset:
        assert list(range(300)) == dataset.number.values.tolist()
        assert int(dataset.complete.sum()) == 3
        np.testing.assert_allclose(fields(0, 1)[1], dataset.t2m[0, 0, 0], atol=1 / 16)
        np.testing.assert_allclose(fields(299, 1)[1], dataset.t2m[0, 299, 0], atol=1 / 16)


def test_fewer_members_leave_the_others(written):
    EnsembleStore.prepare(written, DESCRIPTION, members=1)

    with xr.open_zarr(written) as dataset:
        assert dataset.sizes["number"] == 3


def test_a_reader_sees_the_old_size_until_growing_is_done_and_the_next_run_ends_it(written, monkeypatch):
    def killed(*args, **named):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(zarr, "consolidate_metadata", killed)
        with pytest.raises(KeyboardInterrupt):
            EnsembleStore.prepare(written, DESCRIPTION, members=9)
    with xr.open_zarr(written) as dataset:
        assert {3} == {array.sizes["number"] for array in dataset.values()}

    EnsembleStore.prepare(written, DESCRIPTION, members=9)

    with xr.open_zarr(written) as dataset:
        assert dataset.sizes["number"] == 9
        assert int(dataset.complete.sum()) == 2


def test_growing_again_after_a_kill_in_the_middle_of_resizing_mends_it(written, monkeypatch):
    original, count = zarr.Array.resize, []

    def resize(array, shape):
        count.append(array)
        if len(count) == 4:
            raise KeyboardInterrupt
        original(array, shape)

    with monkeypatch.context() as patch:
        patch.setattr(zarr.Array, "resize", resize)
        with pytest.raises(KeyboardInterrupt):
            EnsembleStore.prepare(written, DESCRIPTION, members=9)

    store = EnsembleStore.prepare(written, DESCRIPTION, members=5)

    store.write(4, 1, fields(4, 1))
    with xr.open_zarr(written) as dataset:
        assert int(dataset.complete.sum()) == 3
        assert len({array.sizes["number"] for array in dataset.values()}) == 1


def test_two_at_once_may_create_and_grow_and_write(path):
    def work(first):
        store = EnsembleStore.prepare(path, DESCRIPTION, members=first + 4)
        for member in range(first, first + 4):
            store.write(member, 1, fields(member, 1))

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, (0, 4, 8, 12)))

    with xr.open_zarr(path) as dataset:
        assert int(dataset.complete.sum()) == 16
        for member in range(16):
            np.testing.assert_allclose(fields(member, 1)[1], dataset.t2m[0, member, 0], atol=1 / 16)


def test_a_template_appears_whole_or_not_at_all(path, monkeypatch):
    monkeypatch.setattr(zarr, "consolidate_metadata", lambda store: (_ for _ in ()).throw(OSError(28, "No space")))

    with pytest.raises(OSError, match="No space"):
        EnsembleStore.prepare(path, DESCRIPTION, members=3)

    assert list(path.parent.iterdir()) == []


def test_old_files_of_a_killed_run_are_swept(written):
    old = written / "t2m" / "c" / "0" / "1.abc.partial"
    template = written.with_name(f".{written.name}.99.partial")
    new = written / "t2m" / "c" / "0" / "2.abc.partial"
    template.mkdir()
    for left in (old, new):
        left.write_bytes(b"x")
    for left in (old, template):
        os.utime(left, (1, 1))

    EnsembleStore.prepare(written, DESCRIPTION, members=3)

    assert [left.exists() for left in (old, template, new)] == [False, False, True]


@pytest.mark.parametrize(
    ("name", "other"),
    [
        ("seed", replace(DESCRIPTION, identity=DESCRIPTION.identity | {"seed": 1})),
        ("solver", replace(DESCRIPTION, identity=DESCRIPTION.identity | {"solver": "ddpm"})),
        ("model_sha256", replace(DESCRIPTION, identity=DESCRIPTION.identity | {"model_sha256": "bb"})),
        ("simulated", replace(DESCRIPTION, identity=DESCRIPTION.identity | {"simulated": 1})),
        ("leads", replace(DESCRIPTION, leads=(1, 6))),
        ("fields", replace(DESCRIPTION, variables=select(["t2m"]))),
        ("grid", replace(DESCRIPTION, grid=replace(GRID, y0=301))),
        ("init", replace(DESCRIPTION, init=INIT + 1)),
    ],
)
def test_an_ensemble_of_another_identity_is_refused_and_the_difference_named(written, name, other):
    with pytest.raises(DamagedFileError, match=f"was made with {name} .*this is {name} ") as caught:
        EnsembleStore.prepare(written, other, members=3)

    assert f"mv {written} {written}.aside" in caught.value.advice
    assert ("add --seed 0" in caught.value.advice) == (name == "seed")


def test_members_that_were_never_calibrated_are_said_to_be_without_calibration(written):
    other = replace(DESCRIPTION, identity=DESCRIPTION.identity | {"calibration": "20240506T12 0123"})
    with pytest.raises(DamagedFileError, match=r"was made without calibration, this is calibration 20240506T12 0123"):
        EnsembleStore.prepare(written, other, members=3)


def test_information_may_differ(written):
    EnsembleStore.prepare(written, replace(DESCRIPTION, information={"title": "other", "model": "x"}), members=3)


def damage_json(path):
    (path / "zarr.json").write_text("{")


def damage_format(path):
    (path / "zarr.json").write_text(json.dumps({"zarr_format": 3, "node_type": "group", "attributes": {}}))


def damage_field(path):
    shutil.rmtree(path / "cape")


def damage_whole(path):
    shutil.rmtree(path)
    path.write_text("hello")


def damage_empty(path):
    shutil.rmtree(path)
    path.mkdir()


@pytest.mark.parametrize("damage", [damage_json, damage_format, damage_field, damage_whole, damage_empty])
def test_a_store_that_is_no_ensemble_is_refused(written, damage):
    damage(written)

    with pytest.raises(DamagedFileError, match="20240506T21"):
        EnsembleStore.prepare(written, DESCRIPTION, members=3)


def test_values_that_are_not_finite_are_refused_and_the_member_stays_absent(path):
    store = EnsembleStore.prepare(path, DESCRIPTION, members=1)
    values = fields(0, 1)
    values[5, 2, 3] = np.nan

    with pytest.raises(DamagedFileError, match="cape values that are not finite"):
        store.write(0, 1, values)

    assert store.missing([0], 1) == [0]


def test_a_large_field_is_one_file_of_one_chunk(path):
    grid = Grid(1059, 1799)
    store = EnsembleStore.prepare(path, replace(DESCRIPTION, grid=grid), members=1)

    store.write(0, 1, fields(0, 1, grid))

    assert [file.name for file in (path / "refc" / "c" / "0" / "0" / "0" / "0").iterdir()] == ["0"]
    assert zarr.open_array(path / "refc").chunks == (1, 1, 1, 1059, 1799)
    with xr.open_zarr(path) as dataset:
        np.testing.assert_allclose(fields(0, 1, grid)[0], dataset.refc[0, 0, 0], atol=1 / 16)
