"""fetch → preprocess → train → sample → verify on the simulated archive, at a size that takes a minute."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from unpainted import nothing_drawn

from convcast import __main__ as convcast_main

pytestmark = pytest.mark.slow

INITS = "2024-05-12T12/2024-05-12T18/3h"
"""Initial times that `five_verbs` has sampled."""
TORCHRUN = """
import sys
import convcast.cli.steps.sample, convcast.ensemble
from torch.distributed.run import main
main(["--standalone", "--nproc-per-node=2", "--run-path", "--start-method=fork", *sys.argv[1:]])
"""
"""torchrun, whose processes are forks that need no imports."""
PRODUCTS = [
    *("sample", "--init", "2024-05-12T21", "--members", "3", "--leads", "1-2"),
    *("--steps", "2", "--keep", "products"),
]


@pytest.fixture(scope="module")
def workspace(five_verbs, made_once, convcast):
    """A workspace in which the five verbs have run and products were made, with what was said."""

    def build(root):
        shutil.copytree(five_verbs[0], root)
        return five_verbs[1] | {"products": convcast(root, *PRODUCTS)}

    return made_once("products", build)


def test_every_hour_arrives(workspace):
    _, said = workspace

    assert said["fetch"]["counts"] == {"ok": 72}
    assert said["preprocess"]["counts"] == {"ok": 72}


def test_the_model_is_described(workspace):
    root, said = workspace

    assert said["train"]["steps"] == 12
    assert said["train"]["finished"]
    card = (root / "models" / "demo" / "MODEL_CARD.md").read_text()
    assert "simulated" in card.lower()


def test_the_ensemble_opens_in_plain_xarray(workspace):
    root, said = workspace

    assert len(said["sample"]["forecasts"]) == 3
    ensemble = xr.open_zarr(root / "forecasts" / "20240512T15.zarr", consolidated=False)
    assert ensemble.refc.dims == ("init_time", "number", "lead_time", "y", "x")
    assert ensemble.refc.shape == (1, 4, 1, 32, 32)
    assert ensemble.refc.dtype == np.float32
    assert ensemble.valid_time.values.astype("datetime64[h]") == np.datetime64("2024-05-12T16")
    assert bool((ensemble.complete == 1).all())
    assert ensemble.attrs["simulated"]
    assert float(ensemble.refc.min()) >= -10
    assert float(ensemble.t2m.std("number").mean()) > 0


def test_every_system_is_scored_on_every_field(workspace):
    root, said = workspace
    scores = json.loads((root / "verification" / "test" / "scores.json").read_text())["scores"]

    fair = {(s["field"], s["system"]): s for s in scores if s["score"] == "crps" and s["estimator"] == "fair"}
    fields = ("refc", "t2m", "d2m", "u10", "v10", "cape", "cin")
    systems = ("convcast", "exact", "persistence", "climatology", "advection")
    assert set(fair) == {(field, system) for field in fields for system in systems}
    assert all(np.isfinite(score["value"]) and score["n"] == 3 for score in fair.values())
    assert said["verify"]["facts"]["simulated"] is True


def test_the_exact_ensemble_beats_persistence_and_climatology(workspace):
    _, said = workspace
    crps = {
        (s["field"], s["system"]): s["value"]
        for s in said["verify"]["scores"]
        if s["score"] == "crps" and s["estimator"] == "fair"
    }

    for field in ("t2m", "d2m", "u10", "v10", "cape", "cin"):
        assert crps[field, "exact"] < crps[field, "persistence"]
        assert crps[field, "exact"] < crps[field, "climatology"]


def test_the_report_says_simulated_and_loads_nothing_from_elsewhere(workspace):
    root, _ = workspace
    page = (root / "verification" / "test" / "report.html").read_text()

    assert "simulated" in page.lower()
    assert "http://" not in page.replace("http://www.w3.org", "")
    assert "https://" not in page


def test_running_again_does_nothing(workspace, convcast):
    root, _ = workspace
    forecast = root / "forecasts" / "20240512T15.zarr"
    before = {path: path.stat().st_mtime_ns for path in forecast.rglob("*")}

    assert convcast(root, "preprocess")["new"] == 0
    assert convcast(root, "sample", "--init", INITS, "--members", "4", "--steps", "3")["drawn"] == 0
    assert {path: path.stat().st_mtime_ns for path in forecast.rglob("*")} == before


def test_more_members_keep_those_that_are_there(workspace, convcast):
    root, _ = workspace
    path = root / "forecasts" / "20240512T18.zarr"
    before = xr.open_zarr(path, consolidated=False).t2m.values

    said = convcast(root, "sample", "--init", "2024-05-12T18", "--members", "6", "--steps", "3")

    assert said["drawn"] == 2
    after = xr.open_zarr(path, consolidated=False).t2m.values
    np.testing.assert_array_equal(after[:, :4], before)
    assert np.isfinite(after).all()


def test_products_alone_leave_no_members_and_are_not_made_twice(workspace, convcast):
    root, said = workspace
    again = convcast(root, *PRODUCTS)

    assert (said["products"]["drawn"], again["drawn"]) == (6, 0)
    assert said["products"]["forecasts"] == []
    assert [Path(path).name for path in said["products"]["products"]] == ["20240512T21.zarr"]
    assert not (root / "forecasts" / "20240512T21.zarr").exists()
    assert not list((root / "products").rglob("*.members.zarr"))
    products = xr.open_zarr(root / "products" / "20240512T21.zarr", decode_timedelta=True)
    chances = products.refc_probability.sel(refc_threshold=20)
    assert chances.dims == ("init_time", "lead_time", "y", "x")
    assert chances.shape == (1, 2, 32, 32)
    assert set(np.unique(np.round(3 * chances.values)).tolist()) <= {0, 1, 2, 3}


def test_both_are_kept_and_agree(workspace, convcast):
    root, _ = workspace
    convcast(root, "sample", "--init", "2024-05-12T22", "--members", "3", "--steps", "2", "--keep", "both")

    members = xr.open_zarr(root / "forecasts" / "20240512T22.zarr")
    products = xr.open_zarr(root / "products" / "20240512T22.zarr", decode_timedelta=True)
    np.testing.assert_allclose(products.t2m_mean[0], members.t2m[0].mean("number"), atol=1 / 16)


def test_pictures_are_drawn_of_what_was_kept(workspace, convcast):
    root, _ = workspace

    all_kinds = convcast(root, "plot", "--init", "2024-05-12T12", "--field", "refc")
    of_products = convcast(root, "plot", "--init", "2024-05-12T21", "--field", "t2m,cape", "--leads", "2")

    kinds = {*("stamps", "mean", "spread", "probability", "neighbourhood", "maximum", "matched-mean")}
    kinds |= {"paintball", "spaghetti", "wind"}
    assert {Path(path).stem.split("_")[-1] for path in all_kinds["pictures"]} == kinds
    assert [Path(path).name for path in of_products["pictures"]] == [
        *(f"t2m_f02_{kind}.png" for kind in ("mean", "spread", "probability", "neighbourhood")),
        "wind_f02_wind.png",
        *(f"cape_f02_{kind}.png" for kind in ("mean", "spread", "probability", "neighbourhood", "matched-mean")),
    ]
    assert all(Path(path).read_bytes().startswith(b"\x89PNG") for path in all_kinds["pictures"])


def test_forecasts_are_exported_for_other_programs(workspace, convcast):
    root, _ = workspace
    said = convcast(root, "export", "--init", "2024-05-12T12", "--format", "grib2", "--field", "refc")

    (path,) = said["files"]
    index = Path(f"{path}.idx").read_text().splitlines()
    assert [line.split(":")[-1] for line in index] == ["ENS=+0", "ENS=+1", "ENS=+2", "ENS=+3"]
    assert Path(path).read_bytes().startswith(b"GRIB")


def test_processes_that_share_an_ensemble_draw_what_one_draws(workspace, convcast):
    root, _ = workspace
    words = ["sample", "--init", "2024-05-12T09", "--members", "4", "--steps", "2", "--set", "sampling.threads=1"]
    launcher = [sys.executable, "-c", TORCHRUN, convcast_main.__file__]
    finished = subprocess.run(
        [*launcher, *words, "-w", str(root), "--json"], capture_output=True, text=True, check=False
    )
    assert finished.returncode == 0, finished.stderr
    assert json.loads(finished.stdout)["drawn"] == 4
    path = root / "forecasts" / "20240512T09.zarr"
    together = xr.open_zarr(path).load()
    shutil.rmtree(path)

    convcast(root, *words)

    for name in ("refc", "t2m", "cin"):
        np.testing.assert_array_equal(xr.open_zarr(path)[name].values, together[name].values)


@pytest.mark.parametrize(
    ("words", "code", "sentence"),
    [
        (["sample", "--init", "2024-05-12T15", "--steps", "3", "--leads", "3"], 6, "leads [1], this is leads [1, 3]"),
        (["sample", "--memory", "0.01"], 2, "GB for 10 members at once"),
        (["sample", "--keep", "everything"], 2, "'everything' is not one of"),
        (["sample", "--device", "cuda:77"], 2, "there is no device"),
        (["sample", "--init", "2024-05-10T01"], 3, "does not hold 2024-05-09T22"),
        (["sample", "--init", "2024-05-12T15", "--seed", "5", "--steps", "3"], 6, "was made with seed 0"),
        (["train", "--set", "model.base=32"], 2, "model.base = 16, not 32"),
        (["plot", "--init", "2024-05-12T21", "--kind", "stamps"], 2, "has only products"),
        (["plot", "--init", "2024-05-12T15", "--leads", "7"], 2, "has no lead of 7 h"),
        (["export", "--init", "2024-05-12T15", "--what", "products"], 3, "has no products"),
        (["plot", "--init", "2020-01-01T00"], 3, "there is no forecast from 2020-01-01T00"),
        (["verify", "--against", "href"], 2, "the simulated world has no href"),
        (["verify", "--init", "2020-01-01T00"], 3, "there is no forecast"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_an_impossible_command_is_one_sentence(workspace, command_line, words, code, sentence):
    root, _ = workspace

    finished = command_line(root, *words)

    assert finished.exit_code == code, finished.stderr
    assert sentence in finished.stderr
    assert "Traceback" not in finished.stderr
    assert finished.stdout == ""


def test_a_hindcast_uses_the_model_that_is_there_and_the_days_it_held_back(five_verbs, in_one_process, tmp_path):
    """Its sampling is a process of its own here, and all of it in this process in test_real.py."""
    root = tmp_path / "w"
    shutil.copytree(five_verbs[0], root, ignore=shutil.ignore_patterns("archive", "simulated", "forecasts"))
    few = ["--every", "12h", "--members", "2", "--set", "sampling.steps=2", "--set", "verification.resamples=100"]
    with nothing_drawn():
        in_one_process(root, "hindcast", *few, "--against", "persistence", processes=["sample"])
    facts = json.loads((root / "verification" / "hindcast" / "scores.json").read_text())["facts"]
    assert facts["inits"] == ["2024-05-12T03", "2024-05-12T15"]
