"""Maps stand beside the analysis and HRRR's forecast of the same time, where the workspace has them."""

from __future__ import annotations

import shutil

import numpy as np
import pytest

from convcast.archive.locations import hrrr
from convcast.errors import SettingsError
from convcast.forecasts.comparison import ReferenceFields
from convcast.forecasts.open import StoredForecast
from convcast.forecasts.plot import select_maps
from convcast.forecasts.store import EnsembleStore, ForecastDescription
from convcast.grid import Grid
from convcast.notation import HOUR
from convcast.variables import CAPE, FIELDS, REFC, T2M, U10, V10

from .published import GRID, INSIDE, WIDE, forecast, make_workspace, put, weather

INIT = np.datetime64("2026-11-20T06", "h")


@pytest.fixture
def real(tmp_path):
    return make_workspace(tmp_path, [INIT])


def publish(real):
    file = hrrr(INIT, 1)
    values = {name: weather(v, WIDE, 9) for name, v in FIELDS.items()}
    put(real.workspace, file, forecast(file, values))
    return values


def test_analysis_and_hrrr_are_read_on_the_forecast_s_grid(real):
    beside = ReferenceFields(real.workspace, GRID, simulated=False)
    np.testing.assert_array_equal(beside.analysis(T2M, INIT, 1), real.dataset.read([INIT + HOUR])[0, 1])
    assert beside.analysis(T2M, INIT, 2) is None, "the dataset ends before"
    assert beside.hrrr(CAPE, INIT, 1) is None, "not fetched"
    values = publish(real)
    np.testing.assert_array_equal(beside.hrrr(CAPE, INIT, 1), values["cape"][INSIDE])
    assert beside.land.shape == GRID.shape


def test_the_real_world_is_not_drawn_beside_the_simulated_one_or_elsewhere(real):
    publish(real)
    for beside in (
        ReferenceFields(real.workspace, GRID, simulated=True),
        ReferenceFields(real.workspace, Grid(24, 36, 100, 100), simulated=False),
    ):
        assert beside.analysis(T2M, INIT, 1) is None
        assert beside.hrrr(T2M, INIT, 1) is None or not beside._simulated
        assert beside.land is None


def test_every_kind_that_has_its_data_is_drawn_and_others_are_refused_with_a_command(real):
    description = ForecastDescription(
        INIT, (1,), (1,), (REFC, T2M, U10, V10), GRID, {"simulated": 0, "seed": 0}, {"title": "t"}
    )
    shutil.rmtree(real.workspace.forecast(INIT))
    store = EnsembleStore.prepare(real.workspace.forecast(INIT), description, members=3)
    for member in range(3):
        store.write(member, 1, np.stack([weather(v, GRID, member) for v in description.variables]))
    source = StoredForecast.find(real.workspace, INIT)

    def select(kinds, *, chosen, **more):
        words = {"threshold": None, "kinds": kinds, "chosen": chosen} | more
        return list(select_maps(real.workspace, source, [REFC, T2M], None, **words))

    kinds = ["mean", "neighbourhood", "matched-mean", "wind", "difference"]
    assert [possible for _, possible in select(kinds, chosen=False)] == [
        ["mean", "neighbourhood", "matched-mean", "wind"],
        ["mean", "neighbourhood"],
    ]
    with pytest.raises(SettingsError, match="there is no HRRR forecast of refc") as refused:
        select(["difference"], chosen=True)
    assert (
        "convcast fetch --what time-lagged --leads 1 --start 2026-11-20T07 --end 2026-11-20T07" in refused.value.advice
    )

    values = publish(real)
    (refc, _), (t2m, possible) = select(["difference"], chosen=True)
    assert possible == ["difference"]
    np.testing.assert_array_equal(t2m.reference, values["t2m"][INSIDE])
    np.testing.assert_array_equal(refc.observed, real.dataset.read([INIT + HOUR])[0, 0])

    (near, _), _ = select(["neighbourhood"], chosen=True, radius=3.0)
    assert near.radius == 3
    assert (near.neighbourhood >= near.probability).all()

    warm, cold = select(["probability"], chosen=True, threshold=86.0, system="us")[1][0], refc
    assert warm.threshold == 303.15
    assert cold.threshold == 40
