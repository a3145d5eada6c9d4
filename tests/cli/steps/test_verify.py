"""Options of `verify` that do not go together, or lead nowhere, are refused."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import zarr

from convcast.cli.steps.verify import _sample_words
from convcast.workspace import create_workspace


def test_the_command_that_draws_walks_again_names_the_model_that_perturbs(tmp_path):
    workspace, init = create_workspace(tmp_path / "w"), "2024-05-01T00"
    attributes = {"model": "hourly", "method": "walks", "walks": 2, "perturbation": "states", "seed": 3}
    zarr.create_group(workspace.forecast(np.datetime64(init, "h")), attributes=attributes)
    words = _sample_words(workspace, SimpleNamespace(inits=(init,), members=8, window=(), leads=(1, 3)))
    assert " ".join(words) == (
        "sample --init 2024-05-01T00 --members 8 --leads 1,3 --model hourly --set sampling.method=walks "
        "--set sampling.walks=2 --set sampling.perturbation=states --set sampling.seed=3"
    )


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["--ensemble", "a.zarr", "--truth", "b.zarr"], 2, "there is no b.zarr"),
        (["--ensemble", "a.zarr", "--init", "2024-05-01T00"], 2, "--init chooses among the workspace's forecasts"),
        (["--truth", "b.zarr"], 2, "w is not a convcast workspace"),
        (["--ensemble", "a.zarr"], 2, "w is not a convcast workspace"),
    ],
    ids=["no truth", "init", "no workspace", "no dataset"],
)
def test_the_fault_is_named(convcast, words, code, said):
    result = convcast("verify", *words)
    assert result.exit_code == code
    assert said in " ".join(result.stderr.split())
    assert "Traceback" not in result.stderr


def test_a_file_that_is_no_ensemble_is_named(convcast, tmp_path):
    import xarray as xr

    place = {"y": ("y", [0.0, 3000.0]), "x": ("x", [0.0, 3000.0])}
    attributes = {"units": "K", "standard_name": "air_temperature"}
    hours = np.array(["2024-05-01T00"], "datetime64[ns]")
    field = xr.Dataset({"t2m": (("time", "y", "x"), np.full((1, 2, 2), 290.0), attributes)}, place | {"time": hours})
    field.to_zarr(tmp_path / "b.zarr", zarr_format=3, consolidated=False)
    result = convcast("verify", "--ensemble", "b.zarr", "--truth", "b.zarr")
    assert result.exit_code == 6
    assert "b.zarr is not an ensemble: it has no dimension number init_time lead_time" in result.stderr
    assert "standard_name, as one of: realization" in result.stderr
