from __future__ import annotations

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import xarray as xr

from convcast.archive import ArchivedMessage, Sidecar, open_archives
from convcast.archive.simulated.publisher import WORLD_FILE
from convcast.archive.simulated.world import World
from convcast.dataset import Dataset, HourStatus, window
from convcast.dataset.store import Store
from convcast.errors import MissingInputError, SettingsError
from convcast.files import sha256
from convcast.grib import encode
from convcast.notation import HOUR, compact
from convcast.variables import CIN, REFC, T2M
from convcast.verification.baselines.analogues import near_hour_of_day
from convcast.verification.baselines.choose import make_baselines
from convcast.verification.data.truth import Analyses

from ..conftest import HOURS, INITS, Small

CASES = [(init, 1) for init in INITS]


def make(small, *names, training=HOURS[:48], cases=CASES, **settings):
    return make_baselines(
        names,
        Analyses(small.dataset),
        training=training,
        cases=cases,
        settings=small.settings(**settings),
        workspace=small.workspace,
    )


def test_near_hours_cross_midnight():
    found = near_hour_of_day(HOURS[:48], np.datetime64("2024-05-20T00", "h"))
    np.testing.assert_array_equal(HOURS[[0, 1, 23, 24, 25, 47]], found)


def test_climatology_holds_training_hours_of_the_time_of_day_each_once(small):
    (climatology,) = make(small, "climatology", baseline_members=50)
    init = INITS[0]
    members = climatology.read(T2M, init, 1)
    near = near_hour_of_day(HOURS[:48], init + HOUR)
    expected = small.dataset.read(near)[:, 1]
    np.testing.assert_array_equal(expected, members)


def test_advection_is_the_moved_analysis_plus_training_residuals_within_bounds(small):
    (advection,) = make(small, "advection", baseline_members=50)
    init = INITS[0]
    moved = window(small.dataset, init, 1).advected
    found = advection.read(REFC, init, 1)
    expected = []
    # The first hours have no history, the last one no target.
    for past in near_hour_of_day(HOURS[3:47], init):
        case = window(small.dataset, past, 1, with_target=True)
        expected.append(np.clip(moved[0] + case.target[0] - case.advected[0], *REFC.bounds))
    np.testing.assert_allclose(found, np.stack(expected), atol=1e-4)
    assert advection.read(CIN, init, 1).max() <= CIN.bounds[1]


@pytest.mark.parametrize("name", ["climatology", "advection"])
def test_every_case_has_as_many_members_and_the_seed_draws_them(small, name):
    (first,), (again,), (other,) = (make(small, name, seed=seed) for seed in (0, 0, 1))
    drawn, same, others = (np.stack([b.read(T2M, init, 1) for init in INITS]) for b in (first, again, other))
    assert drawn.shape[1] == 5
    np.testing.assert_array_equal(drawn, same)
    assert not np.array_equal(drawn, others)


@pytest.mark.parametrize("name", ["climatology", "advection"])
def test_a_past_without_like_hours_is_said(small, name):
    (baseline,) = make(small, name, training=HOURS[:5])
    assert "near" in baseline.missing(INITS[1], 1)


def test_exact_is_the_world_run_again_from_the_analysis_as_its_files_would_have_it(small):
    (exact,) = make(small, "exact", cases=CASES[:1])
    init = INITS[0]
    analysis = dict(zip((v.name for v in small.dataset.variables), small.dataset.read([init])[0], strict=True))
    expected = World(32, 32, 3).exact_ensemble(analysis, init, leads=[1], members=5, seed=0)["t2m"][:, 0]
    np.testing.assert_allclose(exact.read(T2M, init, 1), expected, atol=0.5 / T2M.scale + 1e-4)


def test_exact_is_stored_once_and_made_again_only_where_it_differs(small):
    path = small.workspace.root / "baselines" / "exact" / f"{compact(INITS[0])}.zarr"

    def made(**settings):
        (exact,) = make(small, "exact", cases=CASES[:1], **settings)
        exact.read(T2M, INITS[0], 1)
        return (path / "zarr.json").stat().st_mtime_ns

    first = made()
    assert xr.open_zarr(path, consolidated=False).attrs["simulated"] == 1
    assert made() == first
    assert made(baseline_members=4) != first


def test_exact_of_a_part_of_the_world_is_run_from_the_whole_worlds_analysis(small, tmp_path):
    dataset, archive = small.dataset, open_archives(small.workspace.archive)["hrrr"]
    part, init = (slice(4, 20), slice(8, 32)), INITS[0]
    description = replace(dataset.store.description, grid=dataset.grid.crop(*part))
    store = Store.create(tmp_path / "part.zarr", description, dataset.static[(..., *part)])
    store.write_hour(init, dataset.read([init], *part)[0])
    store.write_status([init], HourStatus.OK, [{"valid": str(init)}])
    cropped = Small(small.workspace, Dataset.open(tmp_path / "part.zarr"))

    (exact,) = make(cropped, "exact", cases=CASES[:1])
    assert "lacks the whole world's analysis" in exact.missing(init, 1)
    path = archive.path(init, 0)
    path.parent.mkdir(parents=True)
    values = dataset.read([init])[0]
    path.write_bytes(
        b"".join(
            encode(field, key=v.grib, grid=dataset.grid, init=init, lead_hours=0, simulated=True)
            for v, field in zip(dataset.variables, values, strict=True)
        )
    )
    messages = tuple(ArchivedMessage(v.name, 0, 0) for v in dataset.variables)
    size = path.stat().st_size
    archive.write_sidecar(path, Sidecar("test", "", None, (), messages, size, sha256(path), True, "2024-05-06T21"))
    assert exact.missing(init, 1) is None
    (whole,) = make(small, "exact", cases=CASES[:1])
    expected = whole.read(T2M, init, 1)[(..., *part)]
    shutil.rmtree(small.workspace.root / "baselines")
    np.testing.assert_array_equal(exact.read(T2M, init, 1), expected)


def test_exact_of_points_outside_the_world_is_refused(small):
    (small.workspace.simulated / WORLD_FILE).write_text(json.dumps({"size": 16, "seed": 3}))
    with pytest.raises(SettingsError, match="not a part of the world of 16 x 16 points"):
        make(small, "exact")


def test_exact_without_its_world_is_refused(small):
    (small.workspace.simulated / WORLD_FILE).unlink()
    with pytest.raises(MissingInputError, match=r"world\.json, which describes the simulated world, is not there"):
        make(small, "exact")


def test_an_unknown_baseline_is_refused(small):
    with pytest.raises(SettingsError, match="no baseline 'persistance'"):
        make(small, "persistance")


def test_the_former_name_of_advection_is_refused_with_the_new_one(small):
    with pytest.raises(SettingsError, match="no baseline 'control'") as raised:
        make(small, "control")
    assert raised.value.advice == "use --against advection"
