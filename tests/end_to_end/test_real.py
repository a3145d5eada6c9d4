"""The five verbs on 24 real HRRR files: f01 in place of f00, six of the seven fields, no index files."""

import json
import shutil

import numpy as np
import pytest
import xarray as xr
from unpainted import nothing_drawn

pytestmark = pytest.mark.slow

FIELDS = ("t2m", "d2m", "u10", "v10", "cape", "cin")
INITS = "2018-07-22T19/2018-07-22T22/1h"
TINY = ("--set", "model.base=16", "--set", "training.batch=4", "--set", "training.validation_cases=2")
FEW = ("--set", "verification.resamples=100")


@pytest.fixture(scope="module")
def workspace(made_once, shared_data, convcast):
    return made_once("real", lambda root: run_all(root, shared_data, convcast))


def run_all(root, shared_data, convcast):
    source = ["--source", str(shared_data / "hrrr_hourly"), "--start", "2018-07-22T01", "--preset", "demo"]
    said = {}
    said["fetch"] = convcast(root, "fetch", *source, "--fields", ",".join(FIELDS), "--analysis-lead", "1")
    said["preprocess"] = convcast(root, "preprocess")
    split = ["--set", "split.validation_days=0.1", "--set", "split.test_days=0.2", "--set", "split.gap_hours=0"]
    said["train"] = convcast(root, "train", *split, "--max-steps", "12", "--set", "training.patch=32", *TINY)
    said["sample"] = convcast(root, "sample", "--init", INITS, "--members", "4", "--steps", "3")
    with nothing_drawn():
        said["verify"] = convcast(root, "verify", "--against", "persistence", *FEW)
    return said


def test_the_real_hours_pass(workspace):
    _, said = workspace

    assert said["fetch"]["counts"] == {"ok": 24}
    assert said["preprocess"]["counts"] == {"ok": 24}


def test_the_ensemble_is_of_the_fields_and_the_place_of_the_data(workspace):
    root, said = workspace
    assert len(said["sample"]["forecasts"]) == 4
    ensemble = xr.open_zarr(root / "forecasts" / "20180722T22.zarr", consolidated=False)

    assert set(ensemble.data_vars) >= set(FIELDS)
    assert "refc" not in ensemble
    assert ensemble.t2m.shape == (1, 4, 1, 78, 41)
    assert float(ensemble.latitude[0, 0]) == pytest.approx(41.881421, abs=1e-3)
    assert not ensemble.attrs["simulated"]
    assert np.isfinite(ensemble.t2m.values).all()


def test_it_is_scored_against_persistence(workspace):
    _, said = workspace
    crps = {
        (s["field"], s["system"]): s["value"]
        for s in said["verify"]["scores"]
        if s["score"] == "crps" and s["estimator"] == "fair"
    }

    assert set(crps) == {(field, system) for field in FIELDS for system in ("convcast", "persistence")}
    assert said["verify"]["facts"]["simulated"] is False


def test_a_hindcast_of_held_back_hours_is_one_command(workspace, in_one_process, tmp_path):
    root = tmp_path / "held"
    shutil.copytree(workspace[0], root, ignore=shutil.ignore_patterns("forecasts", "models", "verification"))
    split = ["--set", "split.validation_days=0.1", "--set", "split.gap_hours=0", "--set", "training.patch=32", *TINY]
    hold = ["--test-days", "0.25", "--every", "1h", "--members", "2", "--max-steps", "2", "--set", "sampling.steps=2"]
    with nothing_drawn():
        in_one_process(root, "hindcast", *hold, "--against", "persistence", *split, *FEW)

    facts = json.loads((root / "verification" / "hindcast" / "scores.json").read_text())["facts"]
    assert facts["inits"] == ["2018-07-22T22", "2018-07-22T23"], (
        "six hours were held back; four are history, one a lead"
    )
    assert facts["systems"] == ["convcast", "persistence"]
