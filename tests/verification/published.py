"""Make a small workspace with weather that is not simulated, and publishers' files in its archive."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import eccodes
import numpy as np

from convcast.archive import ArchivedMessage, Sidecar, open_archives
from convcast.archive.locations import archive_path
from convcast.conventions import ensemble_dataset
from convcast.dataset import Dataset, HourStatus
from convcast.dataset.layout import DatasetDescription
from convcast.dataset.store import Store
from convcast.grib import encode
from convcast.grid import Grid
from convcast.notation import HOUR
from convcast.variables import FIELDS
from convcast.workspace import Workspace

GRID = Grid(24, 36, 500, 900)
WIDE = Grid(40, 50, 490, 890)
OURS = {"model_sha256": "0123456789abcdef"}
INSIDE = slice(10, 34), slice(10, 46)
"""Rows and columns of GRID within WIDE."""


def weather(variable, grid, seed):
    """Make a random field on HRRR's lattice, with echo, CAPE and CIN at half of the points and few strong echoes."""
    generator = np.random.default_rng([seed, sum(variable.name.encode())])
    low, high = variable.display
    values = generator.uniform(low, high, grid.shape)
    if variable.name == "refc":
        values = np.where(generator.random(grid.shape) < 0.002, 40 + values / 4, values / 2)
        values[generator.random(grid.shape) < 0.5] = -10
    if variable.name in ("cape", "cin"):
        values[generator.random(grid.shape) < 0.5] = 0
    return (np.round(values * 16 / 4) * 4 / 16).astype(np.float32)


@dataclass(frozen=True)
class Real:
    workspace: Workspace
    dataset: Dataset
    inits: tuple


def make_workspace(root, inits, *, lead=1, members=6, fields=tuple(FIELDS), grid=GRID):
    """Make a workspace with analyses of every hour around these initial times, and an ensemble for each of these."""
    workspace = Workspace(root)
    variables = tuple(FIELDS[name] for name in fields)
    store = Store.create(
        workspace.dataset, DatasetDescription(variables, grid, False, 0), np.zeros((2, *grid.shape), "f4")
    )
    hours = np.arange(min(inits), max(inits) + (lead + 1) * HOUR)
    for number, hour in enumerate(hours):
        store.write_hour(hour, np.stack([weather(v, grid, number) for v in variables]))
    store.write_status(hours, HourStatus.OK, [{"valid": str(hour)} for hour in hours])
    for number, init in enumerate(inits):
        drawn = {
            v.name: np.stack([weather(v, grid, 1000 * number + m + 500)[None] for m in range(members)])
            for v in variables
        }
        ensemble_dataset(drawn, init=init, members=range(members), leads=[lead], grid=grid, attributes=OURS).to_zarr(
            workspace.forecast(init), zarr_format=3, consolidated=False
        )
    return Real(workspace, Dataset.open(workspace.dataset), tuple(inits))


def put(workspace, file, messages, *, lacking=(), simulated=False):
    """Write a publisher's file with its sidecar into the archive; `messages` are bytes by convcast's name."""
    room = {"rrfs": "refs"}.get(file.model, file.model)
    archive = open_archives(workspace.archive)[room]
    path = archive.root / archive_path(file)
    path.parent.mkdir(parents=True, exist_ok=True)
    data = b"".join(messages.values())
    path.write_bytes(data)
    listed, offset = [], 0
    for name, message in messages.items():
        listed.append(ArchivedMessage(name, offset, len(message)))
        offset += len(message)
    sidecar = Sidecar(
        source="test",
        url="test",
        etag=None,
        ranges=((0, len(data)),),
        messages=tuple(listed),
        bytes=len(data),
        sha256=hashlib.sha256(data).hexdigest(),
        simulated=simulated,
        fetched="2026-11-20T00:00:00Z",
        lacking=tuple(lacking),
    )
    archive.write_sidecar(path, sidecar)
    return path


def forecast(file, values, *, grid=WIDE, keys=None, simulated=False):
    """Encode a deterministic forecast's messages by field; `values` are (y, x) by field, `keys` GRIB keys by field."""
    return {
        name: encode(
            field,
            key=(keys or {}).get(name, FIELDS[name].grib),
            grid=grid,
            init=file.init,
            lead_hours=file.lead,
            simulated=simulated,
        )
        for name, field in values.items()
    }


def altered(message, keys, values=None):
    """Return the message with other keys and values."""
    handle = eccodes.codes_new_from_message(message)
    for name, value in keys.items():
        eccodes.codes_set(handle, name, value)
    if values is not None:
        eccodes.codes_set_values(handle, np.asarray(values, float).ravel())
    made = eccodes.codes_get_message(handle)
    eccodes.codes_release(handle)
    return made


GRID_227 = {
    "Nx": 1473,
    "Ny": 1025,
    "numberOfDataPoints": 1473 * 1025,
    "latitudeOfFirstGridPoint": 12190000,
    "longitudeOfFirstGridPoint": 226541000,
    "LaD": 25000000,
    "LoV": 265000000,
    "Latin1": 25000000,
    "Latin2": 25000000,
    "Dx": 5079000,
    "Dy": 5079000,
}


def product_message(product, file, values, *, grid=None):
    """Encode a product of a field; on HREF's grid if no part of HRRR's grid is given."""
    keys = {"productDefinitionTemplateNumber": 2, "derivedForecast": 0 if product.kind == "mean" else 2}
    if product.limit is not None:
        side = "Lower" if product.limit.below else "Upper"
        keys = {
            "productDefinitionTemplateNumber": 5,
            "probabilityType": 0 if product.limit.below else 1,
            f"scaleFactorOf{side}Limit": 2,
            f"scaledValueOf{side}Limit": round(product.limit.threshold * 100),
        }
    small = values if grid is not None else np.zeros(GRID.shape)
    made = encode(
        small,
        key=product.spec.keys[-1],
        grid=grid or GRID,
        init=file.init,
        lead_hours=file.lead,
        simulated=False,
    )
    if grid is None:
        keys = GRID_227 | {"packingType": "grid_simple", "bitsPerValue": 16} | keys
    return altered(made, keys, values)
