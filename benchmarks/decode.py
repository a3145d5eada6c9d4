"""Measure decoding of one hour of seven CONUS fields: convcast, with quality control, beside ecCodes and cfgrib.

    python benchmarks/decode.py --repeats 7

Contenders take turns in one process; the least of the repeats counts. `ecCodes` only decodes: seven messages, one at a
time, float64, and lets them go. `convcast` picks messages by numeric keys, checks sections, time and grid, and converts
to float32; quality control examines what it got. `cfgrib` opens the file by plain xarray, four times, since one call
cannot hold fields of different levels. Prints a table in Markdown.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from convcast import grib
from convcast.dataset.preprocessing.decode import DecodedFields, decode_hour
from convcast.dataset.preprocessing.quality import compare_means, examine, field_means
from convcast.grid import CONUS
from convcast.variables import FIELDS

import eccodes  # isort: skip  after convcast.grib, which imports libraries in the right order

INIT = np.datetime64("2024-05-06T21", "h")
ROUGHNESS = {"refc": 200, "t2m": 14, "d2m": 14, "u10": 14, "v10": 14, "cape": 200, "cin": 200}
"""Width of the noise, in sixteenths of a unit."""
SURFACES = [
    {"typeOfLevel": "heightAboveGround", "level": 2},
    {"typeOfLevel": "heightAboveGround", "level": 10},
    {"typeOfLevel": "surface"},
    {"typeOfLevel": "atmosphere"},
]


def publish(path: Path) -> None:
    """Fields whose messages are about as large as HRRR's and packed alike: winds simply, others by differences."""
    generator = np.random.default_rng(0)
    shape = CONUS.shape
    wave = np.add.outer(np.sin(np.linspace(0, 9, shape[0])), np.cos(np.linspace(0, 15, shape[1]))) / 2
    messages = []
    for name, variable in FIELDS.items():
        low, high = variable.display
        values = (low + high) / 2 + (high - low) / 4 * wave + generator.integers(0, ROUGHNESS[name], shape) / 16
        if name == "refc":
            values = np.where(wave > 0.4, values, low)
        if name in ("cape", "cin"):
            values = np.where(wave > 0, values, 0)
        if name == "d2m":
            values -= 20
        options = {"key": variable.grib, "grid": CONUS, "init": INIT, "lead_hours": 0, "simulated": False}
        message = grib.encode(values, **options)
        messages.append(_simply_packed(message) if name in ("u10", "v10") else message)
        print(f"{name} {len(messages[-1]) / 1e6:.2f} MB", end=", " if name != "cin" else "\n\n")
    path.write_bytes(b"".join(messages))


def _simply_packed(message: bytes) -> bytes:
    handle = eccodes.codes_new_from_message(message)
    values = eccodes.codes_get_values(handle)
    eccodes.codes_set(handle, "packingType", "grid_simple")
    eccodes.codes_set(handle, "bitsPerValue", 10)
    eccodes.codes_set_values(handle, values)
    packed = eccodes.codes_get_message(handle)
    eccodes.codes_release(handle)
    return packed


def bare(path: Path) -> None:
    with open(path, "rb") as file:
        while (handle := eccodes.codes_grib_new_from_file(file)) is not None:
            eccodes.codes_get_values(handle)
            eccodes.codes_release(handle)


def decoded(path: Path) -> DecodedFields:
    return decode_hour(path, valid=INIT, lead=0, variables=tuple(FIELDS.values()))


def checked(path: Path) -> None:
    fields, variables = decoded(path), tuple(FIELDS.values())
    assert examine(fields.values, variables) == []
    means = field_means(fields.values, variables)
    assert compare_means(means, means, variables) == []


def plain_cfgrib(path: Path) -> None:
    import xarray as xr

    for keys in SURFACES:
        options = {"filter_by_keys": keys, "indexpath": "", "errors": "raise"}
        xr.open_dataset(path, engine="cfgrib", backend_kwargs=options).load().close()


CONTENDERS: dict[str, Callable[[Path], object]] = {
    "ecCodes, decoding alone": bare,
    "convcast, decoding": decoded,
    "convcast, with quality control": checked,
    "cfgrib by plain xarray": plain_cfgrib,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=7)
    repeats = parser.parse_args().repeats
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "hour.grib2"
        publish(path)
        best = dict.fromkeys(CONTENDERS, np.inf)
        for _ in range(repeats):
            for name, contender in CONTENDERS.items():
                begun = time.perf_counter()
                contender(path)
                best[name] = min(best[name], time.perf_counter() - begun)
    floor = best["ecCodes, decoding alone"]
    print(f"| least of {repeats} | ms | ratio |\n|---|---|---|")
    for name, seconds in best.items():
        print(f"| {name} | {seconds * 1000:.0f} | {seconds / floor:.2f} |")


if __name__ == "__main__":
    main()
