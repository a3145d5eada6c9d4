"""A small forecast for the notebook, the gallery and tests, in seconds and without a model.

It is the exact ensemble of the simulated world, which `convcast verify --against exact` scores: the simulator run from
an analysis with new noise. Storms are simulated, and every map says so.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from convcast import __version__
from convcast.archive.archive import ArchivedMessage, Sidecar, open_archives
from convcast.archive.simulated.forecast_model import ForecastModel
from convcast.archive.simulated.publisher import simulated_grid
from convcast.archive.simulated.world import State, World
from convcast.conventions import on_lattice
from convcast.files import sha256
from convcast.forecasts.store import EnsembleStore, ForecastDescription
from convcast.grib import encode
from convcast.notation import HOUR, compact
from convcast.variables import FIELDS, REFC

SIZE, INIT, LEADS, SEED = 64, np.datetime64("2024-05-27T22", "h"), (1, 2), 1
SPIN_UP = 48
"""Hours of simulation from a clear sky to the analysis."""


def make_forecast(workspace: Path, *, members: int = 12) -> Path:
    """Write an ensemble into a folder as `convcast sample` does, and return its path."""
    grid, variables = simulated_grid(SIZE), tuple(FIELDS.values())
    world = World(SIZE, SIZE)
    analysis = _analysis(world)
    drawn = world.exact_ensemble(analysis, INIT, leads=LEADS, members=members, seed=SEED)
    description = ForecastDescription(
        init=INIT,
        leads=LEADS,
        direct=LEADS,
        variables=variables,
        grid=grid,
        identity={"simulated": 1, "model_sha256": "", "seed": SEED},
        information={"title": "SIMULATED exact ensemble", "model": "exact", "convcast_version": __version__},
    )
    path = workspace / "forecasts" / f"{compact(INIT)}.zarr"
    path.parent.mkdir(parents=True, exist_ok=True)
    store = EnsembleStore.prepare(path, description, members=members)
    for member in range(members):
        for position, lead in enumerate(LEADS):
            fields = [on_lattice(variable, drawn[variable.name][member, position]) for variable in variables]
            store.write(member, lead, np.stack(fields))
    return path


def make_hrrr_forecast(workspace: Path) -> Path:
    """Write the simulated publisher's own forecast of reflectivity from the same analysis, and return its path."""
    archive = open_archives(workspace / "archive")["hrrr"]
    path = archive.path(INIT + HOUR, 1)
    model = ForecastModel(SIZE, SIZE, World(SIZE, SIZE).seed)
    reflectivity = next(model.run(_analysis(model), INIT))[REFC.name][0]
    grid = simulated_grid(SIZE)
    message = encode(reflectivity, key=REFC.grib, grid=grid, init=INIT, lead_hours=1, simulated=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(message)
    sidecar = Sidecar(
        source="example",
        url="",
        etag=None,
        ranges=((0, len(message)),),
        messages=(ArchivedMessage(REFC.name, 0, len(message)),),
        bytes=len(message),
        sha256=sha256(path),
        simulated=True,
        fetched="",
    )
    archive.write_sidecar(path, sidecar)
    return path


def _analysis(world: World) -> dict[str, np.ndarray]:
    """Simulate the fields of INIT, each (y, x), from a clear sky."""
    calm = np.zeros((1, SIZE, SIZE))
    start = INIT - SPIN_UP * HOUR
    clear_sky = world.observe(State(calm, calm, calm, calm, np.array([[7.0, 0.0]])), start)
    before = {name: values[0] for name, values in clear_sky.items()}
    run = World(SIZE, SIZE).exact_ensemble(before, start, leads=[SPIN_UP], members=1, seed=SEED)
    return {name: values[0, 0] for name, values in run.items()}
