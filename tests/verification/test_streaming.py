"""The same scores however the work was divided, and nothing done twice."""

from __future__ import annotations

import gc
import threading
import tracemalloc

import numpy as np
import pytest
import xarray as xr

from convcast import workers
from convcast.errors import SettingsError
from convcast.metrics.sums import Statistics, score_field
from convcast.variables import REFC
from convcast.verification import crosscheck, evaluate, scoring
from convcast.verification.results.case_cache import Record, Records, _flatten
from convcast.workers import Workers, map_in_order

from .conftest import FEW, INITS, copied, write_forecast

AGAINST = ["persistence", "climatology"]


def start(small, against=AGAINST, **options):
    return evaluate(
        options.pop("paths", small.paths),
        small.dataset,
        against=against,
        settings=small.settings(resamples=100),
        workspace=small.workspace,
        **options,
    )


def verify(small, **options):
    under_way = start(small, **options)
    list(under_way)
    return under_way.result()


@pytest.fixture
def small(few, tmp_path):
    return copied(few, tmp_path / "workspace")


@pytest.fixture(scope="module")
def expected(few):
    return verify(few)


@pytest.fixture
def counted(monkeypatch):
    """Fields scored so far."""
    done = []

    def count(forecasts, observations, variable, **options):
        done.append(variable.name)
        return score_field(forecasts, observations, variable, **options)

    monkeypatch.setattr(scoring, "score_field", count)
    return done


@pytest.mark.parametrize("chunks", [(1, 8, 1, 32, 32), (1, 1, 1, 32, 32), (1, 3, 1, 5, 32), (1, 8, 1, 7, 9)])
def test_scores_are_the_same_for_any_chunks_on_disk(small, expected, chunks):
    """Every other file is written with these chunks."""
    for path in small.paths[::2]:
        data = xr.open_zarr(path, consolidated=False).load()
        for variable in data.variables.values():
            variable.encoding.clear()
        fields = {name: {"chunks": chunks} for name in data.data_vars if data[name].ndim == 5}
        data.to_zarr(path, mode="w", zarr_format=3, consolidated=False, encoding=fields)
    assert verify(small).scores == expected.scores


def test_scores_are_the_same_where_fields_are_read_ahead(small, expected, monkeypatch):
    readers = set()
    read = scoring.Scorer._read_model

    def noted(self, case, variable):
        readers.add(threading.current_thread().name.partition("_")[0])
        return read(self, case, variable)

    monkeypatch.setattr(scoring.Scorer, "_read_model", noted)
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    assert verify(small).scores == expected.scores
    assert readers == {"reader"}
    readers.clear()
    monkeypatch.setattr(scoring, "ROOM", 1 << 60)  # no memory for a second field
    assert verify(small).scores == expected.scores
    assert readers == {"MainThread"}


@pytest.mark.parametrize("chunk", [1, 37, 1024, 10_000])
def test_statistics_are_the_same_for_any_chunk_in_memory(chunk):
    generator = np.random.default_rng(1)
    forecasts = generator.normal(20, 20, (9, 40, 50)).astype(np.float32)
    truth = generator.normal(20, 20, (40, 50)).astype(np.float32)
    one, other = score_field(forecasts, truth, REFC), score_field(forecasts, truth, REFC, chunk=chunk)
    for name, total in one.sums.items():
        np.testing.assert_allclose(other.sums[name], total, rtol=1e-12)
    np.testing.assert_array_equal(one.tables, other.tables)


def test_all_inits_in_one_store_score_the_same(small, expected, tmp_path):
    parts = [xr.open_zarr(path, consolidated=False).load() for path in small.paths]
    joined = xr.concat(parts, "init_time", data_vars="minimal", coords="minimal", compat="override", join="outer")
    joined.to_zarr(tmp_path / "all.zarr", zarr_format=3, consolidated=False)
    assert verify(small, paths=[tmp_path / "all.zarr"]).scores == expected.scores


@pytest.mark.slow
def test_scores_are_the_same_on_dask_workers(small, expected):
    found = verify(small, workers=Workers(2))
    assert found.scores == expected.scores
    assert found.agreement == expected.agreement


@pytest.mark.slow
def test_no_scheduler_there_is_said(monkeypatch):
    monkeypatch.setattr(workers, "ANSWER_SECONDS", 0.3)
    with pytest.raises(SettingsError, match=r"no dask scheduler answers at tcp://127\.0\.0\.1:9"):
        list(map_in_order(len, ["a"], Workers(scheduler="tcp://127.0.0.1:9")))


def test_workers_without_dask_distributed_are_refused(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "distributed", None)
    with pytest.raises(SettingsError, match="package distributed") as caught:
        list(map_in_order(len, ["a"], Workers(2)))
    assert "pip install" in caught.value.advice


def test_a_second_run_computes_nothing_and_finds_the_same(small, counted, tmp_path, expected):
    first = verify(small, keep=tmp_path / "cases")
    computed = len(counted)
    again = start(small, keep=tmp_path / "cases")
    list(again)
    found = again.result()
    assert (len(counted), again.reused) == (computed, len(INITS))
    assert first.scores == found.scores == expected.scores
    assert found.agreement == expected.agreement
    np.testing.assert_array_equal(found.case.members, expected.case.members)


def test_only_what_is_new_is_computed(small, counted, tmp_path):
    keep = tmp_path / "cases"
    verify(small, keep=keep, paths=small.paths[:3], against=["persistence"])
    counted.clear()
    verify(small, keep=keep, against=["persistence"])
    assert len(counted) == 2 * len(FEW)  # convcast and persistence of the fourth
    counted.clear()
    verify(small, keep=keep, against=AGAINST)
    assert len(counted) == 4 * len(FEW)  # climatology of all four


def test_only_cases_appended_to_a_store_are_new(small, counted, tmp_path):
    keep, store = tmp_path / "cases", tmp_path / "all.zarr"
    parts = [xr.open_zarr(path, consolidated=False).load() for path in small.paths]
    for part in parts:
        for variable in part.variables.values():
            variable.encoding.pop("chunks", None)
    together = {"data_vars": "minimal", "coords": "minimal", "compat": "override", "join": "outer"}
    xr.concat(parts[:3], "init_time", **together).chunk(init_time=1).to_zarr(store, zarr_format=3, consolidated=False)
    verify(small, keep=keep, paths=[store], against=[])
    assert len(counted) == 3 * len(FEW)
    counted.clear()
    same_for_all = [n for n in parts[3].variables if "init_time" not in parts[3][n].dims]
    last = parts[3].drop_vars(same_for_all).chunk(init_time=1)
    last.to_zarr(store, append_dim="init_time", consolidated=False)
    verify(small, keep=keep, paths=[store], against=[])
    assert len(counted) == len(FEW)


def test_a_forecast_made_again_is_scored_again(small, counted, tmp_path):
    keep = tmp_path / "cases"
    before = verify(small, keep=keep, against=[])
    counted.clear()
    data = xr.open_zarr(small.paths[1], consolidated=False).load()
    data["t2m"] += 1
    data.to_zarr(small.paths[1], mode="w", zarr_format=3, consolidated=False)
    after = verify(small, keep=keep, against=[])
    assert len(counted) == len(FEW)
    assert after.find("t2m", "bias", "convcast")["value"] > before.find("t2m", "bias", "convcast")["value"]


def test_other_settings_of_a_baseline_compute_it_again(small, counted, tmp_path):
    keep = tmp_path / "cases"
    verify(small, keep=keep, against=["climatology"])
    counted.clear()
    under_way = evaluate(
        small.paths,
        small.dataset,
        against=["climatology"],
        settings=small.settings(resamples=100, baseline_members=4),
        workspace=small.workspace,
        keep=keep,
    )
    list(under_way)
    assert len(counted) == 4 * len(FEW)


def test_a_damaged_record_is_computed_again(small, counted, tmp_path):
    keep = tmp_path / "cases"
    expected = verify(small, keep=keep, against=[])
    for number, path in enumerate(sorted(keep.rglob("*.npz"))):
        path.write_bytes(path.read_bytes()[: 100 * number])
    counted.clear()
    assert verify(small, keep=keep, against=[]).scores == expected.scores
    assert len(counted) == 4 * len(FEW)


def test_a_record_that_lost_an_array_is_computed_again(small, counted, tmp_path):
    keep = tmp_path / "cases"
    expected = verify(small, keep=keep, against=["persistence"])
    path = sorted((keep / "persistence").glob("*.npz"))[1]
    with np.load(path) as stored:
        kept = {name: stored[name] for name in stored.files if name != "field/t2m/ranks"}
    np.savez(path, **kept)
    counted.clear()
    assert verify(small, keep=keep, against=["persistence"]).scores == expected.scores
    assert len(counted) == len(FEW)


def test_a_run_that_was_stopped_goes_on_where_it_was(small, counted, tmp_path):
    keep = tmp_path / "cases"
    under_way = iter(start(small, keep=keep, against=[]))
    next(under_way)
    next(under_way)
    under_way.close()
    counted.clear()
    verify(small, keep=keep, against=[])
    assert len(counted) == 2 * len(FEW)


def test_records_keep_statistics_bit_for_bit(tmp_path):
    generator = np.random.default_rng(0)
    kept = score_field(
        generator.normal(20, 20, (5, 8, 8)).astype("f4"), generator.normal(20, 20, (8, 8)).astype("f4"), REFC
    )
    records = Records(tmp_path)
    records.save("convcast", INITS[0], 1, "key", Record({"refc": kept}, {"area": 0.1}))
    found = records.load("convcast", INITS[0], 1, "key", Statistics)
    assert found.notes == {"area": 0.1}
    expected, arrays = _flatten(kept, ""), _flatten(found.statistics["refc"], "")
    assert arrays.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_array_equal(arrays[name], value)
    assert records.load("convcast", INITS[0], 1, "another", Statistics) is None


def test_memory_does_not_grow_with_the_number_of_cases(small, tmp_path, monkeypatch):
    """Six cases need little more memory than two, of which one may be read while another is scored."""
    members = 60
    monkeypatch.setattr(crosscheck, "POINTS", 1)  # the fewer cases, the more points of each are compared

    def most(count):
        paths = []
        for number in range(count):
            init = INITS[0] + number
            paths.append(write_forecast(tmp_path / f"{count}-{number}.zarr", init, members, FEW))
        under_way = start(small, paths=paths, against=[])
        gc.collect()
        tracemalloc.start()
        list(under_way)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return peak

    a_case = 4 * members * len(FEW) * small.dataset.grid.ny * small.dataset.grid.nx
    most(1)  # what is imported and compiled once
    # A tenth of each of four more cases is kept. The peak varies by one case, since cases are read ahead.
    assert most(6) < most(2) + 2 * a_case
